"""The game of notebook 11, played to its end by keyboard in a real JupyterLab."""

import re

import nbformat
import pytest
from test_lab import KERNEL, Visit

GAME = """
import numpy as np; from minclip.course import widgets; game = widgets.new_game()
widgets.glyph_game(game, np.stack([game.right, game.right, game.right]))
"""


@pytest.fixture
def visit(chromium, lab):
    visit = Visit(lab, chromium.new_page())
    yield visit
    visit.page.close()
    lab.stop_kernels()


def test_a_whole_game_and_a_new_start(visit, lab):
    cells = [nbformat.v4.new_code_cell(line) for line in GAME.strip().splitlines()]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), lab.course / "game.ipynb")
    visit.open("game.ipynb")
    visit.run([0, 1])
    cell = visit.find(".jp-CodeCell", has=visit.page.locator("img.widget-image"))
    cell.wait_for()
    state = cell.locator(".widget-label").last

    def press(name):
        cell.get_by_role("button", name=name, exact=True).focus()
        visit.page.keyboard.press("Space")

    def shows(text):
        return visit.until(lambda: state.inner_text() == text)

    start = visit.picture(cell)
    assert shows("round 0, picture 0")
    for i in range(36):
        press(("velmo", "I don't know")[i % 2])
        assert shows(f"round {(i + 1) // 12}, picture {(i + 1) % 12}" if i < 35 else "the game is over")
        if i in (0, 35):
            assert visit.until(lambda: visit.picture(cell) != start)
    press("back one picture")
    assert shows("round 2, picture 11")
    press("start again")
    assert shows("round 0, picture 0") and visit.until(lambda: visit.picture(cell) == start)
    assert visit.wrong == [] and not re.search("Error", "\n".join(visit.find(".jp-OutputArea").all_inner_texts()))

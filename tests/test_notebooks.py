"""Facts about every notebook that its stored outputs alone don't prove."""

import json
import re
import statistics
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: p.name)
def cells(request):
    return json.loads(request.param.read_text(encoding="utf-8"))["cells"]


def code(cells):
    return [c for c in cells if c["cell_type"] == "code"]


def prose(cells):
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def test_there_are_notebooks():
    assert NOTEBOOKS


def test_every_code_cell_was_executed_in_order(cells):
    assert [c["execution_count"] for c in code(cells)] == list(range(1, len(code(cells)) + 1))


def test_cells_are_short(cells):
    lengths = [len("".join(c["source"]).splitlines()) for c in code(cells)]
    assert statistics.median(lengths) <= 8 and max(lengths) <= 40


def test_every_image_has_a_text(cells):
    assert not re.search(r"!\[\]\(|<img(?![^>]*alt=)", prose(cells))


def test_no_stored_output_is_an_error_or_a_warning(cells):
    outputs = [o for c in code(cells) if "raises-exception" not in c["metadata"].get("tags", []) for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]


def test_every_picture_is_described_below_it(cells):
    for before, after in zip(cells, cells[1:]):
        if any("image/png" in o.get("data", {}) for o in before.get("outputs", [])):
            following = "".join(after["source"])
            assert "What you see" in following or after["cell_type"] == "code"

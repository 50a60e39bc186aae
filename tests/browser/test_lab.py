"""A stranger's path: every notebook in a real JupyterLab, every control moved by keyboard.

The first notebook is run from top to bottom.  The others, whose stored outputs nbval reproduces cell by cell, are run to
their last controls, and the rest is looked at as it is stored.
"""

import hashlib
import json
import re
import time
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
UNWANTED = '[data-mime-type$=".stderr"], [data-mime-type$=".error"]'  # JupyterLab shows errors as one or the other
WIDGET = "application/vnd.jupyter.widget-view+json"
OURS = re.compile(r"\bwidgets\.")  # minclip.course.widgets
FALLBACK = re.compile(r"(VBox|HBox|Image|IntSlider)\(")  # what a widget is without JupyterLab's extension for it
# what a control is, and the keys that move it: a second one for a control at its end.  No arrow keys in a dropdown:
# JupyterLab takes them for itself and goes to another cell.
CONTROLS = {
    ".noUi-handle": ("ArrowRight", "ArrowLeft"),  # a slider
    "select": ("Home", "End"),
    "input[type=checkbox]": ("Space",),
    ".widget-toggle-button": ("Space",),
}
TYPED = {"input[type=text]": ("End", "x", "Enter"), "textarea": ("Control+End", "x", "Tab")}
STOPPED = """() => {
    const prompts = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')].map(p => p.textContent);
    const idle = document.querySelector('.jp-Notebook-ExecutionIndicator').dataset.status === 'idle';
    return idle && prompts[0] !== '[ ]:' && !prompts.includes('[*]:');
}"""
RUN = """async numbers => {
    const {commands, shell} = window.jupyterapp, notebook = shell.currentWidget.content;
    for (const number of numbers) {
        notebook.activeCellIndex = number;
        notebook.deselectAll();
        await commands.execute('notebook:run-cell');
    }
}"""
# what a control shows; for a slider its readout, because aria-valuenow is the rounded exponent of a log slider
STATE = (
    "e => [e.value, e.checked, e.closest('.widget-inline-hbox')?.querySelector('.widget-readout')?.textContent].join()"
)
IMAGE_BYTES = "async e => [...new Uint8Array(await (await fetch(e.src)).arrayBuffer())]"


class Visit:
    """A page of the browser with one notebook, and all that goes wrong there.

    Nothing is expected after a fixed time: `until` waits for a state, for at most `patience` seconds, which are many
    because other programs may keep the machine busy.
    """

    patience = 90

    def __init__(self, lab, page):
        self.lab, self.page, self.wrong = lab, page, []
        page.set_default_timeout(1000 * self.patience)
        page.on("pageerror", lambda error: self.wrong.append(f"page error: {error}"))
        page.on("requestfailed", lambda request: self.wrong.append(f"no answer: {request.url} ({request.failure})"))
        page.on("response", lambda a: self.wrong.append(f"{a.status}: {a.url}") if a.status >= 400 else None)
        page.on("request", lambda r: None if self.is_local(r.url) else self.wrong.append(f"from elsewhere: {r.url}"))

    def is_local(self, url):
        return url.startswith((self.lab.address, self.lab.address.replace("http", "ws"), "data:", "blob:"))

    def find(self, css, **options):
        return self.page.locator(f".jp-Notebook {css}", **options)

    def until(self, happened):
        """The first true answer of `happened()`, or its last one when the patience is over."""
        end = time.monotonic() + self.patience
        while not (answer := happened()) and time.monotonic() < end:
            self.page.wait_for_timeout(50)
        return answer

    def open(self, name):
        self.page.goto(f"{self.lab.address}/lab/tree/{name}?token={self.lab.token}&reset")
        # the status bar, because the indicator beside the kernel's name says idle before there is a kernel
        self.page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()

    def run_all(self):
        """Clears the stored outputs and runs all cells, to the last one or to an error."""
        for menu, item in (("Edit", "Clear Outputs of All Cells"), ("Run", "Run All Cells")):
            self.page.get_by_role("menuitem", name=menu, exact=True).click()
            self.page.get_by_role("menuitem", name=item, exact=True).click()
        self.page.wait_for_function(STOPPED, polling=500, timeout=900_000)

    def run(self, numbers):
        """Runs some cells, by their numbers among all of a notebook's cells."""
        self.page.evaluate(RUN, numbers)

    def picture(self, cell):
        return hashlib.sha256(bytes(cell.locator("img.widget-image").evaluate(IMAGE_BYTES))).hexdigest()

    def moved(self, cell):
        """Every control of a cell, and whether the picture changed when keys moved it: [(name, bool), …]."""
        result = []
        for kind, keys in (CONTROLS | TYPED).items():
            for control in cell.locator(kind).all():
                control.focus()
                before, state = self.picture(cell), control.evaluate(STATE)
                for key in keys:
                    self.page.keyboard.press(key)
                    if kind in CONTROLS and control.evaluate(STATE) != state:
                        break  # the second key would move it back
                result.append((kind, self.until(lambda before=before: self.picture(cell) != before)))
        return result

    def photograph(self, folder):
        """The whole notebook, in strips as high as the page."""
        folder.mkdir(parents=True, exist_ok=True)
        panel = self.page.locator(".jp-WindowedPanel-outer")
        height, step = panel.evaluate("e => [e.scrollHeight, e.clientHeight]")
        for number, top in enumerate(range(0, height, step)):
            panel.evaluate("(e, top) => e.scrollTo(0, top)", top)
            self.page.wait_for_timeout(100)
            panel.screenshot(path=folder / f"{number:02}.png")


def has_controls(cell):
    return WIDGET in str(cell["outputs"]) and bool(OURS.search("".join(cell["source"])))


def complaints(visit, cells):
    """What a reader would stumble over in a notebook that was run, one sentence each; `cells` as they are stored."""
    executed = visit.find(".jp-InputPrompt", has_text=re.compile(r"\[\d+\]")).count()
    pictures = sum("image/png" in output.get("data", {}) for cell in cells for output in cell["outputs"])
    visit.until(lambda: visit.find(".jp-RenderedImage img").count() == pictures)  # the page draws after the kernel
    drawn = visit.find(".jp-RenderedImage img").count()
    widgets = sum(map(has_controls, cells))
    shown = visit.find(".jp-CodeCell", has=visit.page.locator("img.widget-image"))
    visit.until(lambda: shown.count() >= widgets)
    moved = [(i, *control) for i, cell in enumerate(shown.all()) for control in visit.moved(cell)]
    yield from visit.wrong
    for here, stored in zip(visit.find(".jp-CodeCell").all(), cells):
        if "raises-exception" not in stored["metadata"].get("tags", []):
            yield from here.locator(UNWANTED).all_inner_texts()
    for text in visit.find(".jp-RenderedText pre").all_inner_texts():
        if FALLBACK.match(text):
            yield f"text instead of a widget: {text}"
    for i, kind, changed in moved:
        if not changed:
            yield f"{kind} of widget {i + 1}: the picture stays"
    if executed < len(cells):
        yield f"{executed} of {len(cells)} cells were executed"
    if drawn != pictures:
        yield f"{drawn} pictures were drawn, {pictures} are stored"
    if len({i for i, *_ in moved}) < widgets:
        yield f"controls in {len({i for i, *_ in moved})} cells, {widgets} call for them"


@pytest.fixture
def visit(chromium, lab, tmp_path):
    visit = Visit(lab, chromium.new_page())
    yield visit
    visit.page.screenshot(path=tmp_path / "at-the-end.png")
    visit.page.close()
    lab.stop_kernels()


def test_the_command_in_the_readme_leads_to_the_first_notebook(lab):
    (opened,) = lab.runtime.glob("jpserver-file-to-run-*.html")  # what JupyterLab hands to a person's browser
    assert f"/lab/tree/{NOTEBOOKS[0].name}" in opened.read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_a_notebook_runs_and_its_controls_redraw(visit, path, request):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [i for i, cell in enumerate(cells) if cell["cell_type"] == "code"]
    cells = [cells[i] for i in code]
    if path == NOTEBOOKS[0]:
        visit.open(path.name)
        visit.run_all()
    else:
        numbers = code[: 1 + max(i for i, cell in enumerate(cells) if has_controls(cell))]
        visit.lab.forget(path.name, numbers)
        visit.open(path.name)
        visit.run(numbers)
    assert list(complaints(visit, cells)) == []
    if request.config.option.screenshots:
        visit.photograph(request.config.option.screenshots / path.stem)


KERNEL = {"name": "python3", "display_name": "Python 3"}
CARELESS = """
import sys; print("mind the gap", file=sys.stderr)
from IPython.display import HTML; HTML('<img src="lost.png"> <img src="http://localhost:9/tracker.png">')
from matplotlib import pyplot; pyplot.plot([1, 2]); pyplot.show()
import ipywidgets; from minclip.course import widgets, plots
ipywidgets.VBox([ipywidgets.IntSlider(), ipywidgets.Image(value=plots.png(pyplot.figure(figsize=(1, 1))))])
widgets.redrawn(lambda x: plots.new_figure(x, 1), x=ipywidgets.FloatLogSlider(value=10**0.1, min=-1, max=1, step=0.05))
print("VBox(children=(IntSlider(value=0), Image(value=b'')))")
1 / 0
print("never reached")
"""


def test_what_a_reader_would_stumble_over_is_found(visit, lab):
    """The tests above are worth what they would notice: a notebook with one of each."""
    cells = [nbformat.v4.new_code_cell(line) for line in CARELESS.strip().splitlines()]
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), lab.course / "careless.ipynb"
    )
    visit.patience = 5  # for what never comes
    visit.open("careless.ipynb")
    visit.run_all()
    cells += [{"metadata": {}, "source": "widgets.search_box()", "outputs": [{"data": {WIDGET: {}}}]}] * 3
    found = "\n".join(complaints(visit, cells))
    for sentence in (
        "404: .*lost.png",
        "from elsewhere: http://localhost:9/tracker.png",
        "mind the gap",
        "ZeroDivisionError",
        "text instead of a widget: VBox",
        "noUi-handle of widget 1: the picture stays",
        "8 of 12 cells were executed",
        "controls in 2 cells, 3 call for them",
        "1 pictures were drawn, 0 are stored",
    ):
        assert re.search(sentence, found), f"{sentence!r} is not in {found}"
    assert "widget 2" not in found  # the log slider: from an exponent of 0.1 to 0.15, which aria-valuenow rounds to 0.1


BARS = """
import pathlib, time, minclip; from minclip.evaluate import decoded; from PIL import Image
root = pathlib.Path("four"); root.mkdir(); _ = [Image.new("RGB", (16, 16), (i, i, i)).save(root / f"{i}.png") for i in range(4)]
_ = (root / "captions.txt").write_text("image,caption\\n" + "".join(f"{i}.png,a gray square\\n" for i in range(4)))
import os; os.environ["MINCLIP_DATA"] = os.path.abspath("cache"); pairs = minclip.load_pairs("own", "train", image_size=16, root=root)
_ = [*decoded(range(8), lambda i: time.sleep(0.3), batch_size=1, bar="embedding")]
print("all done")
"""


def test_a_saved_notebook_opens_again_without_a_trace_of_its_bars(visit, lab):
    """A widget's view would be in the file, and its model gone with the kernel."""
    cells = [nbformat.v4.new_code_cell(line) for line in BARS.strip().splitlines()]
    path = lab.course / "bars.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
    visit.open(path.name)
    visit.page.evaluate(f"numbers => {{ ({RUN})(numbers) }}", list(range(len(cells))))  # without waiting for the end
    bar = visit.find(".jp-OutputArea-output", has_text=re.compile(r"embedding:\s+\d+%"))
    bar.first.wait_for()  # while the cell runs, the bar is there
    visit.find(".jp-OutputArea-output", has_text="all done").wait_for()
    assert bar.count() == 0
    visit.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    assert visit.until(lambda: r"all done\n" in path.read_text())
    lab.stop_kernels()
    visit.open(path.name)
    visit.find(".jp-OutputArea-output", has_text="all done").wait_for()
    visit.until(lambda: visit.find(".jp-OutputArea", has_text="Loading widget").count() == 0)
    shown = "\n".join(visit.find(".jp-OutputArea").all_inner_texts())
    assert visit.wrong == [] and "Error displaying" not in shown and "embedding" not in shown
    outputs = [output for cell in json.loads(path.read_text())["cells"] for output in cell["outputs"]]
    assert [output.get("text") or output["data"] for output in outputs] == [{}, ["all done\n"]]

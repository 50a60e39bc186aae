"""Facts about every notebook that its stored outputs alone don't prove."""

import ast
import importlib
import json
import re
import statistics
from collections import Counter
from pathlib import Path

import pytest

import minclip
from minclip.course import checks

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


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
    for i, cell in enumerate(cells):
        if any("image/png" in o.get("data", {}) for o in cell.get("outputs", [])):
            below = next("".join(after["source"]) for after in cells[i:] if after["cell_type"] == "markdown")
            assert "What you see" in below, cell["id"]


# ---- exercises, predictions, questions

SUMMARY = re.compile(r"<details><summary>(.*?)</summary>")


def exercises(cells):
    """(check's name, stub, what follows it) of each exercise."""
    for cell, after in zip(cells, cells[1:]):
        if cell["cell_type"] == "code" and (
            asked := re.search(r"^checks\.(\w+)\(", "".join(cell["source"]), re.MULTILINE)
        ):
            yield asked[1], "".join(cell["source"]), "".join(after["source"])


def test_there_are_two_exercises_with_hints_and_a_solution_folded_below(cells):
    found = list(exercises(cells))
    assert len(found) >= 2
    for name, stub, below in found:
        assert "...  # your code here" in stub, name
        folded = SUMMARY.findall(below)
        assert folded.index("Solution") >= 1 and all(
            s.startswith("Hint") for s in folded[: folded.index("Solution")]
        ), name
        assert "```python" in below, name


def test_there_are_two_predictions_with_an_answer_folded_below(cells):
    """Between a prediction and the next one, or the quiz, some answer is folded that is no hint and no solution."""
    text = prose(cells).split("## Check yourself")[0]
    asked = text.split("Predict before you run")[1:]
    assert len(asked) >= 2
    for question in asked:
        assert [s for s in SUMMARY.findall(question) if not s.startswith(("Hint", "Solution"))], question[:100]


def test_there_are_three_questions_with_answers_folded_below(cells):
    quiz = re.split(r"^## ", prose(cells).split("## Check yourself\n")[1], flags=re.MULTILINE)[0]
    *questions, _ = quiz.split("</details>")
    assert len(questions) >= 3
    for question in questions:
        assert re.search(r"^\*\*.+\?\*\*$", question, re.MULTILINE), question
        assert question.count("<details><summary>Answer</summary>\n\n") == 1, question
        if options := re.findall(
            r"^- ([a-d])\)", question, re.MULTILINE
        ):  # the right one, and a word about each of the others
            answer = question.split("</summary>")[1]
            (right,) = re.findall(r"^\*\*([a-d])\.\*\*", answer, re.MULTILINE)
            named = set("".join(re.findall(r"\(([a-d](?:, [a-d])*)\)", answer)))
            assert right in options and named >= set(options) - {right}, question


def test_each_check_is_asked_in_a_notebook():
    asked = [
        name for path in NOTEBOOKS for name, _, _ in exercises(json.loads(path.read_text(encoding="utf-8"))["cells"])
    ]
    assert sorted(asked) == sorted(set(checks.__all__) - {"NOT_ATTEMPTED"})


def test_each_check_is_tried_with_its_solution_and_two_wrong_answers():
    modules = [importlib.import_module(path.stem) for path in sorted(Path(__file__).parent.glob("test_course*.py"))]
    lists = {
        kind: [getattr(m, n) for m in modules for n in dir(m) if n.endswith(kind)] for kind in ("SOLUTIONS", "WRONG")
    }
    tried = {kind: Counter(entry[0].__name__ for of in found for entry in of) for kind, found in lists.items()}
    for name in set(checks.__all__) - {"NOT_ATTEMPTED"}:
        assert tried["SOLUTIONS"][name] >= 1 and tried["WRONG"][name] >= 2, name


# ---- what a notebook points to is there

PLACE = re.compile(r"((?:`[\w.=\"() ]+`(?:, | and |; )?)+) (?:of|in) `(minclip/[\w/]+\.py)`")


def test_every_name_is_in_the_file_that_is_named(cells):
    for file in re.findall(r"`(minclip/[\w/.]+)`", prose(cells)):
        assert (ROOT / file).exists(), file
    for names, file in PLACE.findall(prose(cells)):
        source = (ROOT / file).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w[\w.]*)`", names):
            assert re.search(rf"\b{name.split('.')[-1]}\b", source), (name, file)


# ---- what a reader is asked to do works


def statements(cells, *kinds):
    """A notebook's top-level statements of some kinds, each as source; the first two lines, for Colab, are left out."""
    for cell in code(cells):
        lines = "".join(cell["source"]).splitlines()
        tree = ast.parse("\n".join(lines[2:] if "get_ipython" in lines[0] else lines))
        yield from (ast.unparse(node) for node in tree.body if isinstance(node, kinds))


def after_imports(cells):
    namespace = {}
    exec("\n".join(statements(cells, ast.Import, ast.ImportFrom)), namespace)
    return namespace


def test_each_folded_solution_passes_its_check(cells, capsys):
    """The solution as it stands in the notebook, put where the stub was."""
    for name, stub, below in exercises(cells):
        # notebook 01 gives its last exercise the table `byte_of`
        given = [line for line in statements(cells, ast.Assign) if line.startswith("byte_of = ")]
        solution = re.search(r"```python\n(.*?)```", below, re.DOTALL)[1]
        asked = [line for line in stub.splitlines() if line.startswith("checks.")]
        exec("\n".join([*given, solution, *asked]), after_imports(cells))
        assert capsys.readouterr().out == "right!\n", name


# (notebook, cells to run first, the cell that the reader changes, what is there, what a reader may put in its place)
CHANGED = [("00", ["cell-24", "cell-34"], "cell-36-yours", '"two green stars"', '"a purple ring"')]


@pytest.mark.parametrize(("notebook", "first", "changed", "old", "new"), CHANGED, ids=[c[2] for c in CHANGED])
def test_a_cell_that_a_reader_is_asked_to_change_runs_when_it_is_changed(notebook, first, changed, old, new):
    (path,) = (p for p in NOTEBOOKS if p.name.startswith(notebook))
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    source = {cell["id"]: "".join(cell["source"]) for cell in cells}
    assert source[changed].count(old) == 1
    namespace = after_imports(cells) | {"test": minclip.load_pairs("shapes", "test", size=20), "device": "cpu"}
    for text in (*map(source.get, first), source[changed].replace(old, new)):
        exec(text, namespace)

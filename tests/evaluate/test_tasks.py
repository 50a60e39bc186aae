"""Zero-shot tasks by name: every data set of the paper's table end to end, the shapes world's, the table, the picture, the command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_files import WRITERS, folders, put
from tiny_models import far_from_start

import minclip
from minclip.cli import main
from minclip.config import CLIPConfig, MinclipError, TextConfig, VisionConfig
from minclip.course import plots
from minclip.data.shapes import load_shapes
from minclip.evaluate import evaluate
from minclip.evaluate.benchmarks import BENCHMARKS, TEMPLATES, load_benchmark
from minclip.evaluate.tasks import HELD_OUT, SHAPES, Result, chance, run_tasks, task_names
from minclip.model import CLIP
from minclip.preprocess import Preprocess
from minclip.tokenizer import Tokenizer

DEMO = Path(__file__).parents[2] / "data" / "demo"
TOKENIZER = Tokenizer.train([t.format("name") for name in BENCHMARKS for t in TEMPLATES[name]], 900)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    vision = VisionConfig(image_size=16, patch_size=8, width=16, layers=1, heads=2)
    text = TextConfig(context_length=96, vocab_size=TOKENIZER.vocab_size, width=16, layers=1, heads=2)
    return far_from_start(CLIP(CLIPConfig(12, vision, text)))


@pytest.fixture(scope="module")
def loaded(model):
    return model, Preprocess(model.config.vision), TOKENIZER


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """The model for the command line: not a run, so nothing was trained."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    minclip.weights.load.save(folder, model, tokenizer=TOKENIZER, format="open_clip")
    return folder


def last_json(text):
    return json.loads(text.strip().splitlines()[-1])


# ---- the paper's sets


@pytest.mark.parametrize("name", WRITERS)
def test_every_set_is_run_from_its_files(name, loaded, tmp_path, monkeypatch):
    expected = WRITERS[name](tmp_path, monkeypatch)
    result = run_tasks(loaded, [name], root=tmp_path)[name]
    assert result.metric == BENCHMARKS[name].metric and 0 <= result.score <= 1 and 0 < result.chance < 1
    assert result.images == len(expected["test"]) if expected else result.images > 1
    assert result.classes >= 2


def test_another_size_than_the_papers_is_noted(loaded, tmp_path, monkeypatch):
    WRITERS["mnist"](tmp_path, monkeypatch)
    result = run_tasks(loaded, ["mnist"], root=tmp_path)["mnist"]
    assert f"mnist: {result.images} images of 10 classes; the paper's test has 10,000 of 10" in result.notes
    monkeypatch.setitem(BENCHMARKS, "mnist", BENCHMARKS["mnist"]._replace(test_size=result.images))
    assert run_tasks(loaded, ["mnist"], root=tmp_path)["mnist"].notes == ()


@pytest.mark.parametrize("name", ["country211", "stl10"])
def test_accuracy_is_the_count_by_hand(name, loaded, tmp_path, monkeypatch):
    WRITERS[name](tmp_path, monkeypatch)
    model, preprocess, tokenizer = loaded
    data, hits = load_benchmark(name, tmp_path), []
    prompts = [[t.replace("{}", c) for t in TEMPLATES[name]] for c in data.class_names]
    with torch.no_grad():
        for i, label in enumerate(data.labels):
            x = model.encode_image(preprocess(data.images[i])[None], normalize=True)[0]
            ids = (tokenizer(texts, 96) for texts in prompts)
            w = torch.stack([model.encode_text(of_class, normalize=True).mean(0) for of_class in ids])
            hits.append(int((torch.nn.functional.normalize(w, dim=1) @ x).argmax()) == label)
    assert run_tasks(loaded, [name], root=tmp_path)[name].score == pytest.approx(np.mean(hits))


def test_chance_is_what_guessing_gets():
    labels = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 0, 0]], bool)
    assert chance("accuracy", np.zeros(3), 8) == chance("mean per class", np.zeros(3), 8) == 0.125
    assert chance("ROC AUC", np.zeros(3), 2) == 0.5
    assert chance("mean(top1, top5)", np.zeros(3), 700) == pytest.approx(3 / 700)
    assert chance("mean(top1, top5)", np.zeros(3), 2) == 0.75  # all are among the best five
    assert chance("11-point mAP", labels, 3) == 0.5  # of the classes that occur


def test_all_sets_are_opened_before_the_first_is_run(loaded, tmp_path, monkeypatch):
    folders(tmp_path / "dtd/test", ("banded", "dotted"))
    monkeypatch.setattr(CLIP, "encode_image", lambda *_, **__: pytest.fail("an image was embedded"))
    with pytest.raises(MinclipError, match=r"^mnist was not found"):
        run_tasks(loaded, ["colour", "dtd", "mnist"], root=tmp_path)


# ---- the shapes world's tasks


def test_the_shapes_worlds_tasks_give_what_evaluate_gives(loaded):
    model, _, tokenizer = loaded
    results = run_tasks(loaded, ["word", HELD_OUT, "colour"])
    assert list(results) == ["word", HELD_OUT, "colour"]
    for split, names in (("test", ("word", "colour")), ("heldout", (HELD_OUT,))):
        figures = evaluate(model, tokenizer, load_shapes(split, image_size=16))
        for name in names:
            assert results[name].score == pytest.approx(figures[f"zero_shot/{name}"])
            assert results[name].chance == figures[f"chance/{name}"]


def test_the_names_of_the_shapes_worlds_tasks_are_those_of_its_splits():
    assert {*load_shapes("test", image_size=16).tasks} == {*SHAPES} and HELD_OUT in load_shapes(
        "heldout", image_size=16
    ).tasks


# ---- names


def test_names_are_taken_once_in_their_order(tmp_path):
    folders(tmp_path / "pets/test", ("a", "b"))
    folders(tmp_path / "dtd/test", ("a", "b"))
    assert task_names(" mnist , colour,mnist", tmp_path) == ["mnist", "colour"]
    assert task_names("all", tmp_path) == ["dtd", "pets"]
    assert task_names("pets,all,shapes,colour", tmp_path) == ["pets", "dtd", *SHAPES, HELD_OUT]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("mnits", "no task is named 'mnits' (did you mean 'mnist'?)"),
        ("color", "no task is named 'color' (did you mean 'colour'?)"),
        ("all", "none of the 27 data sets is in"),
        (" , ", "' , ' names no task"),
    ],
)
def test_names_that_mean_nothing_are_told(asked, message, tmp_path):
    with pytest.raises(MinclipError) as error:
        task_names(asked, tmp_path)
    assert message in str(error.value)


# ---- the picture


def test_the_picture_shows_each_score_beside_its_chance():
    results = {
        "dtd": Result("accuracy", 0.4, 0.1, 9, 10),
        "pcam": Result("accuracy", 0.55, 0.5, 99, 2),  # a guesser gets that now and then
        "sst2": Result("accuracy", 0.45, 0.5, 9, 2),
        "voc2007": Result("11-point mAP", 0.9, 0.07, 9, 20),
    }
    figure = plots.task_bars(results)
    (axis,) = figure.axes
    assert figure.get_suptitle() == "Zero-shot: 2 of 4 tasks clearly above chance"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["sst2", "pcam", "dtd", "voc2007 (11-point mAP)"]
    assert [bar.get_width() for bar in axis.patches] == pytest.approx([45, 55, 40, 90])
    assert [bool(bar.get_hatch()) for bar in axis.patches] == [True, True, False, False]
    marks = [line.get_xdata()[0] for line in axis.lines if line.get_color() == "black"]
    assert marks == pytest.approx([50, 50, 10, 7])


# ---- the command


def test_the_command_prints_draws_and_returns_the_results(here, folder, data_home, capsys, monkeypatch):
    for name in ("cifar10", "voc2007", "sun397"):
        WRITERS[name](here / "sets", monkeypatch)
    for path in (here / "sets/SUN397").glob("*_01.txt"):
        path.unlink()
    command = ["eval", str(folder), "--tasks", "all,colour", "--root", "sets"]
    assert main([*command, "--json"]) == 0
    out = capsys.readouterr().out
    result = last_json(out)
    assert list(result["tasks"]) == ["cifar10", "sun397", "voc2007", "colour"]
    assert result["tasks"]["voc2007"]["metric"] == "11-point mAP" and result["tasks"]["cifar10"]["images"] == 3
    assert "Testing_01.txt of SUN397's partitions" in out and "12.5%" in out
    for name, r in result["tasks"].items():
        (line,) = (line for line in out.splitlines() if line.strip().startswith(f"{name} "))
        assert r["metric"] in line and f"{r['score']:.1%}" in line and f"{r['chance']:.1%}" in line
    assert result["file"] == str(folder / "tasks.png") and (folder / "tasks.png").stat().st_size > 5000
    assert main([*command, "--out", "there"]) == 0 and (here / "there/tasks.png").exists()


def test_the_demo_is_asked_without_a_file_left_in_it(here, capsys):
    assert main(["eval", "demo", "--tasks", "shape", "--json"]) == 0
    result = last_json(capsys.readouterr().out)
    assert result["tasks"]["shape"]["score"] > 0.9 and result["file"] == "tasks.png"
    assert Path("tasks.png").exists() and not (DEMO / "tasks.png").exists()


MISTAKES = [
    ("--tasks cifar", "did you mean 'cifar10'?"),
    ("--tasks ,", "',' names no task"),
    ("--tasks mnist", "mnist was not found: looked for"),
    ("--tasks birdsnap", "can't be read by torchvision"),
    ("--tasks all", "none of the 27 data sets is in"),
    ("--tasks dtd --root broken", "stripes.jpg: "),
    ("--download", "belong to --tasks"),
    ("--tasks shape --out broken/dtd/test/banded/stripes.jpg", "stripes.jpg"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=[options for options, _ in MISTAKES])
def test_a_mistake_is_told_without_a_traceback(here, folder, data_home, capfd, options, message):
    folders(here / "broken/dtd/test", ("banded", "dotted"))
    put(here / "broken/dtd/test/banded/stripes.jpg", b"no image")
    assert main(["eval", str(folder), *options.split(), "--json"]) == 2
    out, err = capfd.readouterr()
    assert message in err and "Traceback" not in out + err and "error" in last_json(out)


def test_a_model_without_a_tokenizer_is_told(here, model, capsys):
    model.save_pretrained("mute")
    assert main(["eval", "mute", "--tasks", "shape"]) == 2
    assert "mute has no tokenizer.json" in capsys.readouterr().err


def test_the_table_waits_with_the_heavy_libraries():
    code = "import sys, minclip.evaluate.tasks; print([m for m in ('torchvision', 'matplotlib') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"

"""The command line: what it prints, and that a user's mistake is one sentence and exit code 2."""

import shutil
import subprocess
import sys

import pytest
from command_line import TINY, last_json
from PIL import Image

from minclip.cli import main


def test_train_eval_and_info_agree(here, capsys):
    assert main(["train", "shapes", *TINY, "--json"]) == 0
    out = capsys.readouterr().out
    trained = last_json(out)
    for word in ("ln 32 = 3.466", "recall@1", "recall@10", "median rank", "chance", "colour", "relation", "12.5%"):
        assert word in out
    assert trained["step"] == 3 and set(trained["figures"]) == {"test", "heldout"}
    assert (here / "runs" / "shapes" / "curves.png").stat().st_size > 5000
    assert main(["eval", "shapes", "--json"]) == 0
    assert last_json(capsys.readouterr().out)["figures"] == trained["figures"]
    assert main(["info", "--json"]) == 0
    assert "runs/shapes" in [run.replace("\\", "/") for run in last_json(capsys.readouterr().out)["runs"]]


def test_a_second_run_gets_a_name_of_its_own(here, capsys):
    for name in ("shapes", "shapes-2"):
        assert main(["train", "shapes", *TINY, "--json"]) == 0
        assert last_json(capsys.readouterr().out)["run"].endswith(name)


def test_classify_gives_probabilities_of_each_label(here, trained, capsys):
    Image.new("RGB", (40, 30), "red").save("red.png")
    capsys.readouterr()
    assert main(["classify", str(trained.folder), "red.png", "--labels", "a red star, a blue ring", "--json"]) == 0
    (result,) = last_json(capsys.readouterr().out)["results"]
    assert set(result["probabilities"]) == {"a red star", "a blue ring"}
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("more", [[], ["--overfit", "32"]], ids=["run", "overfit"])
def test_a_run_in_which_no_step_was_finite_is_told(here, capsys, more):
    # fewer steps than it takes to give a run up
    assert main(["train", "shapes", *TINY, "--model.vision.std", *["1e-38"] * 3, *more, "--json"]) == 0
    out = capsys.readouterr().out
    assert "lower --train.lr" in out
    assert ("32 pairs" in out) == bool(more)
    assert last_json(out)["first_loss"] is last_json(out)["last_loss"] is None


def test_a_process_that_is_not_the_first_of_its_machine_waits_and_tells_its_number(here, monkeypatch, capsys):
    waited = []
    monkeypatch.setattr("minclip.cli.time.sleep", waited.append)
    for rank, local in ((0, 0), (3, 1), (8, 0)):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("LOCAL_RANK", str(local))
        assert main(["train", "shape"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert [line.split("no preset")[0] for line in told] == [
        "minclip: ",
        "minclip: process 3: ",
        "minclip: process 8: ",
    ]
    assert waited == [10]


MISTAKES = [
    (["trian", "shapes"], "did you mean 'train'?"),
    (["train", "shape"], "did you mean 'shapes'?"),
    (["train"], "shapes, flickr8k"),
    (["train", "shapes", "--train.batch-sise", "8"], "--train.batch-size"),
    (["train", "shapes", "--train.batch-size", "many"], "many"),
    (["train", "shapes", "--train.batch-size", "1"], "--train.batch-size 1"),
    (["train", "shapes", *TINY, "--train.batch-size", "97"], "96"),
    (["train", "shapes", "--train.precision", "fp8"], "fp8"),
    (["train", "shapes", "--data.image-size", "60"], "60"),
    (["train", "shapes", "--model.vision.image-size", "32"], "--data.image-size"),
    (["train", "shapes", "--data.name", "shaped"], "did you mean 'shapes'?"),
    (["train", "shapes", "--resume"], "runs/shapes"),
    (["train", "flickr8k"], "--data.root"),
    (["train", "flickr8k", "--data.root", "nowhere.zip"], "nowhere.zip"),
    (["train", "flickr8k", "--data.root", "."], "captions.txt"),
    (["train", "shapes", "--train.device", "tpu9"], "tpu9"),
    (["eval", "nothing"], "'nothing'"),
    (["classify", "nothing", "x.png", "--labels", "a, b"], "'nothing'"),
    (["classify", "nothing", "x.png"], "--labels"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a)[:50] for a, _ in MISTAKES])
def test_a_mistake_is_told_without_a_traceback(here, capfd, arguments, message):
    assert main([*arguments, "--json"]) == 2
    out, err = capfd.readouterr()
    assert message in " ".join((out + err).replace("│", " ").split())
    assert "Traceback" not in out + err
    assert "error" in last_json(out)


@pytest.mark.parametrize("content", [b"no image", b""], ids=["text", "empty"])
def test_a_file_that_is_no_image_is_told(here, trained, capsys, content):
    (here / "photo.jpg").write_bytes(content)
    assert main(["classify", str(trained.folder), "photo.jpg", "--labels", "a, b"]) == 2
    assert "photo.jpg" in capsys.readouterr().err


def test_a_run_of_another_version_is_told(here, trained, capsys):
    shutil.copytree(trained.folder, "runs/shapes")
    config = here / "runs" / "shapes" / "config.json"
    config.write_text(config.read_text().replace('"format": 1', '"format": 99'))
    assert main(["eval", "shapes"]) == 2
    assert "format 99" in capsys.readouterr().err


def test_python_m_minclip_is_the_same_command(here):
    done = subprocess.run([sys.executable, "-m", "minclip", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip()


def test_importing_minclip_waits_with_the_heavy_libraries():
    code = "import sys, minclip; print([m for m in ('torchvision', 'matplotlib', 'ipywidgets', 'tyro', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"

"""minclip eval on images with captions: of a run, of any model on one's own, which images, how many, and chance."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmark_files import grey
from command_line import TINY, last_json
from PIL import Image
from tiny_models import far_from_start
from tiny_zero_shot import TOKENIZER

import minclip
from minclip.cli import main
from minclip.config import CLIPConfig, TextConfig, VisionConfig
from minclip.model import CLIP
from minclip.recall import retrieval
from minclip.weights.load import save

DEMO = Path(__file__).parents[2] / "data" / "demo"


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A model in each format that is no run, with images of 24 pixels."""
    torch.manual_seed(0)
    vision = VisionConfig(image_size=24, patch_size=8, width=16, layers=1, heads=2)
    text = TextConfig(context_length=30, vocab_size=TOKENIZER.vocab_size, width=16, layers=1, heads=2)
    model, folder = far_from_start(CLIP(CLIPConfig(12, vision, text))), tmp_path_factory.mktemp("models")
    for format in ("minclip", "open_clip", "transformers"):
        save(folder / format, model, tokenizer=TOKENIZER, format=format)
    return folder


def captioned(root, names, split=None):
    """Grey images with two captions each; `split` is a function of the number."""
    for i, name in enumerate(names):
        grey(root / name, 20 + 9 * i)
    head, cell = ("image,caption" + (",split" if split else ""), lambda i: f",{split(i)}" if split else "")
    rows = [f"{name},{word} {i}{cell(i)}" for i, name in enumerate(names) for word in ("a star of", "grey")]
    (root / "captions.csv").write_text("\n".join([head, *rows]) + "\n")


def evaluated(capsys, *options):
    assert main(["eval", *map(str, options), "--json"]) == 0
    out = capsys.readouterr().out
    return last_json(out)["figures"], out


NAMES = [f"{i}.png" for i in range(12)]


@pytest.mark.parametrize("format", ["minclip", "open_clip", "transformers"])
def test_any_model_is_evaluated_on_ones_own_images(here, data_home, capsys, models, format):
    captioned(here / "mine", NAMES)
    figures, out = evaluated(capsys, models / format, "--data.name", "own", "--data.root", "mine")
    (got,) = figures.values()
    assert list(figures) == ["all"] and (got["images"], got["captions"]) == (12, 24)
    assert got["chance/text_to_image_r@5"] == pytest.approx(5 / 12)
    assert got["chance/image_to_text_r@1"] == pytest.approx(2 / 24)
    for line in ("images 12", "captions 24"):
        assert line in " ".join(out.split())
    model, preprocess, tokenizer = minclip.load(models / format)
    with torch.no_grad():
        x = torch.stack([preprocess(Image.open(here / "mine" / name)) for name in NAMES])
        image = model.encode_image(x, normalize=True)
        texts = [f"{word} {i}" for i in range(12) for word in ("a star of", "grey")]
        expected = retrieval(image, model.encode_text(tokenizer(texts), normalize=True), np.repeat(np.arange(12), 2))
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    ("split", "evaluated_on"),
    [
        (lambda i: "test" if i < 3 else "train", {"test": 3}),
        (lambda i: "test", {"test": 12}),
        (lambda i: "val" if i < 3 else "train", {"all": 12}),
        (None, {"all": 12}),
    ],
    ids=["a test split", "nothing else", "no test split", "no splits"],
)
def test_the_test_split_counts_if_the_data_name_one(here, data_home, capsys, models, split, evaluated_on):
    captioned(here / "mine", NAMES, split)
    figures, _ = evaluated(capsys, models / "open_clip", "--data.root", "mine")
    assert {name: f["images"] for name, f in figures.items()} == evaluated_on
    figures, _ = evaluated(capsys, models / "open_clip", "--data.root", "mine", "--split", "all")
    assert {name: f["images"] for name, f in figures.items()} == {"all": 12}


def test_folders_name_splits_too_and_any_of_them_may_be_asked(here, data_home, capsys, models):
    captioned(here / "mine", [f"{'train' if i < 8 else 'test'}/{i}.png" for i in range(12)])
    for options, expected in (
        ((), {"test": 4}),
        (("--split", "train"), {"train": 7}),
        (("--split", "val"), {"val": 1}),
    ):
        figures, _ = evaluated(capsys, models / "open_clip", "--data.root", "mine", *options)
        assert {name: f["images"] for name, f in figures.items()} == expected


def test_columns_and_tables_are_named_as_in_training(here, data_home, capsys, models):
    captioned(here / "mine", NAMES)
    path = here / "mine" / "captions.csv"
    path.write_text(path.read_text().replace("image,caption", "picture,words"))
    columns = ("--data.image-column", "picture", "--data.caption-column", "words")
    figures, _ = evaluated(capsys, models / "open_clip", "--data.root", path, *columns)
    assert figures["all"]["images"] == 12
    assert main(["eval", str(models / "open_clip"), "--data.root", str(path), "--data.image-column", "file"]) == 2
    assert "'file'" in capsys.readouterr().err


def test_what_was_left_out_is_told(here, data_home, capsys, models):
    captioned(here / "mine", NAMES)
    (here / "mine/3.png").write_bytes(b"no image")
    (here / "mine/4.png").unlink()
    figures, out = evaluated(capsys, models / "open_clip", "--data.root", "mine")
    assert figures["all"]["images"] == 10 and "3.png" in out and "4.png" in out


def test_a_painted_scene_is_as_large_as_the_model_wants(here, capsys, models):
    figures, _ = evaluated(capsys, models / "open_clip", "--data.name", "shapes")
    assert set(figures) == {"test", "heldout"} and figures["test"]["images"] == 16
    assert "zero_shot/colour" in figures["test"]


def test_a_run_may_be_asked_about_other_images(here, data_home, capsys, trained):
    captioned(here / "mine", NAMES)
    for options in (("--data.name", "own", "--data.root", "mine"), ("--data.root", "mine")):
        figures, _ = evaluated(capsys, trained.folder, *options)
        assert {split: f["images"] for split, f in figures.items()} == {"all": 12}


def test_images_that_a_run_was_trained_on_are_noted(here, data_home, capfd):
    captioned(here / "mine", [f"{i}.png" for i in range(80)])
    options = [option for option in TINY if option not in ("--data.size", "96")]
    own = ["--data.name", "own", "--data.root", "mine", "--train.batch-size", "16"]
    assert main(["train", "shapes", *options, *own, "--name", "owned"]) == 0
    learnt = json.loads(Path("runs/owned/learnt.json").read_text())
    capfd.readouterr()
    assert main(["eval", "owned", "--json"]) == 0
    out, err = capfd.readouterr()
    assert list(last_json(out)["figures"]) == ["val"] and "note:" not in err  # by hash, none of 80 is for testing
    shutil.move("mine", "moved")
    for option in ("--root", "--data.root"):  # the same data elsewhere: the same images
        assert main(["eval", "owned", option, "moved", "--json"]) == 0
        again, err = capfd.readouterr()
        assert last_json(again)["figures"] == last_json(out)["figures"] and "note:" not in err
    assert main(["eval", "owned", "--data.name", "own", "--data.root", "moved", "--json"]) == 0
    out, err = capfd.readouterr()
    assert last_json(out)["figures"]["all"]["images"] == 80 and f"{len(learnt)} of the 80 images" in err


def test_a_model_without_data_says_what_to_type(here, data_home, capsys, models):
    for name in ("ViT-B/32", "RN50", "laion/some-model", str(models / "open_clip"), str(models / "minclip")):
        assert main(["eval", name]) == 2
        told = capsys.readouterr().err
        assert name in told and "--data.root" in told and "--tasks" in told
    for name in ("demi", "runs/demi"):
        assert main(["eval", name]) == 2
        assert f"no run or model is named {name!r}" in capsys.readouterr().err
    assert main(["eval", str(models / "open_clip"), "--data.name", "own"]) == 2
    assert "--data.root" in capsys.readouterr().err
    assert main(["eval", str(models / "open_clip"), "--tasks", "shape", "--data.root", "x"]) == 2
    assert "--tasks" in capsys.readouterr().err


def test_one_image_is_given_with_its_number(here, data_home, capsys, models):
    captioned(here / "mine", ["a.png"])
    figures, _ = evaluated(capsys, models / "open_clip", "--data.root", "mine")
    assert figures["all"]["images"] == 1 and figures["all"]["chance/image_to_text_r@1"] == 1

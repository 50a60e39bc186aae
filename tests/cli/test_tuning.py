"""minclip train --init and minclip blend: what they take, what they print, and what to type instead of a mistake."""

import json
import re
import shlex
import shutil

import pytest
import torch
from command_line import TINY, last_json

import minclip
from minclip.cli import main
from minclip.training.run import Run
from minclip.weights.folder import read_config

SHORT = [*TINY[:4], *TINY[TINY.index("--train.batch-size") :]]  # without sizes of the model


@pytest.fixture
def runs(here, trained):
    """A copy of the tiny run as "first"."""
    shutil.copytree(trained.folder, here / "runs" / "first")
    return here


def told(capfd, *arguments):
    """What a command prints that is refused."""
    assert main([*arguments]) == 2
    return " ".join(capfd.readouterr().err.split())


def origin_of(run):
    return read_config(run.folder)["origin"]


def test_a_run_starts_from_another_and_resumes_without_it(runs, capsys):
    tune = ["train", "shapes", "--init", "first", *SHORT, "--name", "tuned", "--train.lr=1e-3"]
    assert main([*tune, "--json"]) == 0
    assert last_json(capsys.readouterr().out)["step"] == 3
    run = minclip.Run.load("tuned")
    assert (run.config.train.init, run.config.train.optimizer, run.config.train.lr) == ("first", "adamw", 1e-3)
    assert run.config.model == minclip.Run.load("first").config.model and origin_of(run)["name"] == "first"
    shutil.rmtree(runs / "runs" / "first")
    tune[tune.index("--train.steps") + 1] = "5"
    assert main([*tune, "--resume", "--json"]) == 0
    assert last_json(capsys.readouterr().out)["step"] == 5 and origin_of(run)["name"] == "first"


def test_help_shows_the_weights_values(runs, capsys):
    assert main(["train", "shapes", "--init=first", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert re.search(r"--data.image-size INT side in pixels \(default: 16\)", out)
    assert re.search(r"--train.lr FLOAT [^(]*\(default: 1e-05\)", out)


def test_an_option_that_contradicts_the_weights_is_refused_with_both_values(runs, capfd):
    said = told(capfd, "train", "shapes", "--init", "first", *SHORT, "--model.vision.width", "64")
    assert "--model.vision.width (64 and 32)" in said and not (runs / "runs" / "shapes").exists()
    said = told(capfd, "train", "shapes", "--init", "first", *SHORT, "--model.text", "bag")
    assert "--model.text.tower ('bag' and 'transformer')" in said
    assert (
        main(["train", "shapes", "--init", "first", *SHORT, "--model.text.dropout", "0.1", "--data.image-size", "32"])
        == 0
    )


def test_a_model_to_start_from_that_is_not_there(here, capfd):
    assert "'nothing'" in told(capfd, "train", "shapes", "--init", "nothing")
    assert main(["train", "shapes", "--init"]) == main(["train", "shapes", "--init", "--train.steps", "3"]) == 2


MODELS = {"ViT-B/32": "ViT-B/32", "ViT-B-32": "ViT-B/32", "vit-b-16": "ViT-B/16", "RN50": "RN50", "rn101": "RN101"}
MODELS |= {"laion/CLIP-ViT-B-32": "laion/CLIP-ViT-B-32"}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_place_of_a_preset_tells_the_command(here, capfd, name):
    assert f"minclip train flickr8k --init {MODELS[name]} --data.name own --data.root " in told(capfd, "train", name)


def test_files_and_folders_in_place_of_a_preset_tell_the_command(runs, capfd):
    (runs / "w.safetensors").touch()
    (runs / "my photos").mkdir()
    (runs / "captions.csv").touch()
    for name in ("first", "runs/first", "w.safetensors"):
        assert f"minclip train flickr8k --init {name} --data.name own" in told(capfd, "train", name)
    for name in ("my photos", "captions.csv"):
        assert f"minclip train flickr8k --data.name own --data.root {shlex.quote(name)}" in told(capfd, "train", name)
    for name in ("own", "shards"):
        assert f"minclip train flickr8k --data.name {name} --data.root" in told(capfd, "train", name)
    assert "flickr30k" in told(capfd, "train", "nonsense")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--epochs", "--train.steps or --train.minutes"),
        ("--epochs=5", "--train.steps or --train.minutes"),
        ("--lr", "--train.lr"),
        ("--learning_rate", "--train.lr"),
        ("--batch-size", "--train.batch-size"),
        ("--train.batch-sise", "--train.batch-size"),
        ("--data.batch-size", "--train.batch-size"),
        ("--image-size", "--data.image-size"),
        ("--pretrained", "--init"),
        ("--nonsense", "--help"),
    ],
)
def test_an_unknown_option_tells_the_nearest(here, capfd, typed, meant):
    said = told(capfd, "train", "shapes", typed, "3")
    assert typed.split("=")[0].replace("_", "-") in said.replace("_", "-") and meant in said


def test_an_option_of_another_command_is_not_proposed(here, capfd):
    assert "--train" not in told(capfd, "info", "--lr")


# ---- blend


def test_a_blend_is_a_run(runs, capsys):
    assert main(["train", "shapes", "--init", "first", *SHORT, "--name", "tuned", "--train.lr", "1e-2"]) == 0
    (runs / "runs" / "first" / "learnt.json").write_text('["b.jpg", "a.jpg"]')
    (runs / "runs" / "tuned" / "learnt.json").write_text('["c.jpg", "a.jpg"]')
    capsys.readouterr()
    assert main(["blend", "first", "tuned", "--alpha", "0.25", "--json"]) == 0
    made = last_json(capsys.readouterr().out)
    run, a, b = (Run.load(name) for name in (made["run"], "first", "tuned"))
    assert made["run"].replace("\\", "/") == "runs/blend" and run.metrics == [] and run.final == {}
    assert [origin["name"] for origin in origin_of(run)["blend"]] == ["first", "tuned"] and origin_of(run)[
        "alpha"
    ] == 0.25
    assert run.config == b.config and run.tokenizer.merges == b.tokenizer.merges
    assert json.loads((run.folder / "learnt.json").read_text()) == ["a.jpg", "b.jpg", "c.jpg"]
    weights = [r.model.state_dict()["text_projection.weight"] for r in (run, a, b)]
    torch.testing.assert_close(weights[0], 0.75 * weights[1] + 0.25 * weights[2])
    assert main(["eval", "blend", "--json"]) == 0
    assert set(last_json(capsys.readouterr().out)["figures"]) == {"test", "heldout"}
    assert main(["train", "shapes", "--init", "blend", *SHORT]) == 0
    assert main(["blend", "first", "tuned"]) == 0 and (runs / "runs" / "blend-2" / "config.json").exists()


def test_what_cannot_be_blended_is_refused_and_nothing_is_written(runs, trained, capfd):
    trained.model.save_pretrained("bare")
    for alpha in ("-0.1", "1.5", "nan"):
        assert f"alpha {float(alpha)}" in told(capfd, "blend", "first", "bare", "--alpha", alpha)
    other = minclip.Tokenizer.train(
        ["another vocabulary of the same size"] * 9 + ["a b c"], trained.tokenizer.vocab_size
    )
    trained.model.save_pretrained("foreign", tokenizer=minclip.Tokenizer(other.merges[:1]))
    assert "vocabularies" in told(capfd, "blend", "first", "foreign")
    assert "--model.vision.width (32 and 128)" in told(capfd, "blend", "first", "demo")
    assert "runs/first" in told(capfd, "blend", "first", "first", "--name", "first").replace("\\", "/")
    assert [path.name for path in (runs / "runs").iterdir()] == ["first"]


def test_models_that_are_no_runs_give_a_model(runs, trained, capsys):
    trained.model.save_pretrained("bare", tokenizer=trained.tokenizer)
    assert main(["blend", "bare", "bare", "--name", "both"]) == 0 and "minclip classify" in capsys.readouterr().out
    model, _, tokenizer = minclip.load("both")
    assert torch.equal(model.logit_scale, trained.model.logit_scale) and tokenizer.merges == trained.tokenizer.merges
    assert main(["blend", "first", "bare", "--name", "mixed"]) == 0
    assert Run.load("mixed").config.data == trained.config.data

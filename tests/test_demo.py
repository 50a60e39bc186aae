"""The shipped demo checkpoint: it does what its recorded metrics say, and this code still makes such a thing."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minclip.data import load_pairs
from minclip.evaluate import evaluate
from minclip.loop import train
from minclip.training.run import Run

DEMO = Path(__file__).parent.parent / "data" / "demo"


@pytest.fixture(scope="module")
def demo():
    return Run.load(DEMO)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["test", "heldout"])
def test_the_demo_does_what_was_recorded_with_it(demo, split):
    figures = evaluate(demo.model, demo.tokenizer, load_pairs("shapes", split, image_size=demo.config.data.image_size))
    # half precision and another CPU move a few of 1,000 scenes over an edge
    assert {name: figures[name] for name in demo.final[split]} == pytest.approx(demo.final[split], abs=0.015)


def test_the_demo_reaches_what_the_readme_promises(demo):
    test, heldout = demo.final["test"], demo.final["heldout"]
    assert min(test["text_to_image_r@5"], test["image_to_text_r@5"]) >= 0.6
    assert min(test["zero_shot/colour"], test["zero_shot/shape"]) >= 0.9
    assert heldout["zero_shot/held-out pairs"] >= 0.8


def test_the_demo_is_small():
    assert sum(path.stat().st_size for path in DEMO.iterdir() if path.suffix == ".safetensors") <= 4_000_000


@pytest.mark.slow
def test_this_code_still_trains_like_the_demo(demo, tmp_path):
    """The first 20 steps again: the same losses, up to what another CPU or precision changes."""
    recorded = {line["step"]: line["loss"] for line in demo.metrics if "loss" in line and line["step"] <= 20}
    config = replace(demo.config, train=replace(demo.config.train, eval_every=0, checkpoint_every=10**6))

    class Enough(Exception):
        pass

    losses = {}

    def keep(folder, line):
        losses[line["step"]] = line["loss"]
        if line["step"] >= 20:
            raise Enough

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Enough):
        patch.setattr("minclip.training.run.write_metrics", keep)
        train(config, tmp_path / "again")
    assert losses.keys() == recorded.keys()
    assert losses == pytest.approx(recorded, rel=0.05)


def test_the_demo_and_a_new_run_have_the_same_architecture(demo):
    from minclip.presets import PRESETS

    wanted, shipped = PRESETS["shapes"].model, demo.config.model
    text = replace(wanted.text, vocab_size=shipped.text.vocab_size, eot_id=shipped.text.eot_id)
    assert replace(wanted, text=text) == shipped
    assert all(torch.isfinite(p).all() for p in demo.model.parameters())

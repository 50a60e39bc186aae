"""What is said when it doesn't learn: each cause alone, and nothing where nothing is wrong."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from minclip.batches import Batch
from minclip.config import CLIPConfig, LoopConfig, TextConfig, TrainConfig, VisionConfig
from minclip.model import CLIP
from minclip.presets import PRESETS
from minclip.training import diagnose

MODEL = CLIPConfig(
    16,
    VisionConfig(image_size=64, patch_size=32, width=32, layers=1, heads=2),
    TextConfig(context_length=10, vocab_size=50, eot_id=49, width=32, layers=1, heads=2),
)
CONFIG = TrainConfig(model=MODEL, train=LoopConfig(batch_size=32, lr=1e-3, grad_clip=1.0))
NOTHING = math.log(32)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def batch(size=32):
    ids = torch.randint(1, 48, (size, 10))
    ids[:, -1] = 49
    return Batch(torch.randn(size, 3, 64, 64), ids)


def line(step=1, loss=NOTHING, scale=None, update_norm=1e-2, param_norm=10.0, grad_norm=0.5, skipped=0):
    """What a step logs that is as it should be."""
    return {
        "step": step,
        "loss": loss,
        "scale": 14.0 + step if scale is None else scale,
        "update_norm": update_norm,
        "param_norm": param_norm,
        "grad_norm": grad_norm,
        "skipped": skipped,
    }


def lines(count=4, **values):
    return [line(step, **values) for step in range(1, count + 1)]


# ---- the log


@pytest.mark.parametrize(
    ("logged", "told"),
    [
        (lines(), []),
        (lines(update_norm=0.9e-4), ["a step moves the weights by 9e-06 of their length: train.lr 0.001 is too low"]),
        (lines(update_norm=1.1), ["a step moves the weights by 11% of their length: train.lr 0.001 is too high"]),
        # the middle of the later half counts, not what was at first or once
        ([*lines(4, update_norm=0.0), *lines(3)], []),
        ([*lines(4), line(5, update_norm=5.0)], []),
        ([*lines(4), line(5, update_norm=0.0)], []),
        (lines(update_norm=2e-4), []),
        (lines(update_norm=0.9), []),
        (lines(grad_norm=10.1), ["the gradient is over 10 times longer than train.grad_clip 1"]),
        (lines(grad_norm=9.9), []),
        ([*lines(2), line(3, grad_norm=11.0), line(4)], []),
        (lines(scale=100.0), ["the scale never moved"]),
        ([line(scale=100.0)], []),  # of one line nobody knows
        ([*lines(3), line(4, skipped=2)], ["2 steps were skipped"]),
    ],
)
def test_the_log_points_at_what_is_wrong_with_it(logged, told):
    causes = diagnose.from_the_log(logged, CONFIG)
    assert len(causes) == len(told) and all(cause.startswith(start) for cause, start in zip(causes, told))


# ---- a batch


def test_of_a_sound_batch_and_model_nothing_is_said_and_nothing_is_changed():
    model, pairs = CLIP(replace(MODEL, vision=replace(MODEL.vision, stem="conv", stem_width=4))).train(), batch()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    with torch.no_grad():
        assert diagnose.from_the_batch(model, pairs) == []
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("part", ["vision", "text", "logit_scale"])
def test_a_part_that_no_gradient_reaches_is_named(part):
    model = CLIP(MODEL)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(part))
    assert diagnose.from_the_batch(model, batch()) == [f"no gradient reaches {part}: it is frozen, detached, or dead"]


def test_a_gradient_of_zeros_reaches_nobody():
    model = CLIP(replace(MODEL, loss="siglip"))
    model.image_projection.weight.data.zero_()
    causes = diagnose.from_the_batch(model, batch())
    assert causes[0] == "no gradient reaches vision: it is frozen, detached, or dead"


@pytest.mark.parametrize("name", ["image", "text"])
def test_features_that_are_one_vector_are_told(name):
    model, pairs = CLIP(MODEL), batch()
    tower = model.vision if name == "image" else model.text
    forward = tower.forward
    tower.forward = lambda x: forward(x) * 0.01 + 1
    (cause,) = diagnose.from_the_batch(model, pairs)
    assert cause.startswith(f"all {name} features are nearly one vector (mean cosine ")
    # and the watch looks there, of a high first loss and of a plateau
    assert cause in said([line(loss=20.0)], model=model)[0] and cause in said(lines(12), model=model)[-1]


def change(pairs, images=None, ids=None):
    return Batch(pairs.images if images is None else images, pairs.ids if ids is None else ids)


def test_images_that_are_all_alike_are_told():
    pairs = batch()
    causes = diagnose.from_the_batch(CLIP(MODEL), change(pairs, pairs.images[:1].expand(32, -1, -1, -1)))
    assert "the images of a batch are all alike" in causes


@pytest.mark.parametrize(("spread", "told"), [(0.1, True), (0.3, False), (4.5, False), (6.0, True)])
def test_images_that_are_not_normalised_are_told(spread, told):
    pairs = batch()
    causes = diagnose.from_the_batch(CLIP(MODEL), change(pairs, spread * pairs.images))
    assert any("which should be near 1: model.vision.mean and std don't fit them" in cause for cause in causes) == told


def test_captions_that_repeat_are_told_of_the_whole_batch():
    pairs = batch(100)
    few = change(pairs, ids=pairs.ids[torch.arange(100) % 80])  # the first 64 differ
    model, sizes = CLIP(MODEL), []
    model.vision.register_forward_hook(lambda module, given, out: sizes.append(len(out)))
    assert diagnose.from_the_batch(model, pairs) == [] and sizes == [64]
    (cause,) = diagnose.from_the_batch(CLIP(MODEL), few)
    assert cause.startswith("only 80 of a batch's 100 captions differ")


def test_the_mean_cosine_is_that_of_different_rows():
    x = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    assert diagnose.mean_cosine(x) == pytest.approx(1 / 3)  # of three pairs one is alike


# ---- while it trains


def said(logged, config=CONFIG, progress=0.5, model=None):
    """What is said after each line."""
    watch, pairs = diagnose.Watch(config), batch()
    model = CLIP(config.model) if model is None else model
    return [watch.see(one, progress, model, pairs) for one in logged]


def test_a_loss_on_its_plateau_is_told_once_after_12_lines():
    told = said(lines(30))
    assert [bool(hint) for hint in told] == [False] * 11 + [True] + [False] * 18
    assert told[11].startswith("step 12: the loss is still 3.466, 3.466 is what it costs to know nothing.")
    assert "images and captions that don't belong together" in told[11]


@pytest.mark.parametrize(("loss", "told"), [(0.98 * NOTHING, True), (0.96 * NOTHING, False)])
def test_3_percent_are_a_beginning(loss, told):
    assert any(said([*lines(29), line(30, loss=loss)][-12:])) == told


def test_of_the_last_10_lines_one_is_enough_and_older_ones_are_forgotten():
    assert not any(said([*lines(11), line(12, loss=1.0), *lines(9)]))
    assert any(said([*lines(11), line(12, loss=1.0), *lines(10)]))


def test_a_quarter_of_the_run_is_waited_for():
    assert not any(said(lines(30), progress=0.25)) and any(said(lines(30), progress=0.26))


def test_a_first_loss_far_above_ln_b_is_told_at_once():
    high = 1.5 * NOTHING + 1.1
    assert "far above ln B = 3.47" in said([line(loss=high)])[0]
    assert not any(said([line(loss=high - 0.2)])) and not any(said([line(), line(2, loss=high)]))
    siglip = replace(CONFIG, model=replace(MODEL, loss="siglip"))
    assert not any(said([line(loss=30.0)], siglip))  # it begins above what it costs to know nothing


def test_the_plateau_of_siglip_is_that_of_the_best_model_that_knows_nothing():
    siglip = replace(CONFIG, model=replace(MODEL, loss="siglip"))
    # each pair says yes with probability 1/B
    level = -math.log(1 / 32) - 31 * math.log(31 / 32)
    assert any(said(lines(12, loss=0.98 * level), siglip)) and not any(said(lines(12, loss=0.96 * level), siglip))


def test_steps_that_were_not_finite_are_passed_over():
    broken = [line(1, loss=math.nan), line(2, grad_norm=math.inf), line(3, loss=math.nan, grad_norm=math.nan)]
    assert not any(said(broken * 10))
    told = said([*broken, *lines(9), *broken, *lines(3, skipped=6)])
    assert [bool(hint) for hint in told] == [False] * 17 + [True]
    assert "6 steps were skipped" in told[-1]


# ---- the verdict on pairs to be learned by heart


def run(metrics):
    config = replace(CONFIG, train=replace(CONFIG.train, overfit=16))
    return SimpleNamespace(folder=Path("runs/a"), config=config, steps=metrics)


def test_the_verdict_tells_both_losses_where_it_went_well():
    told = diagnose.verdict(run([line(1), line(2, loss=0.099)]))
    assert told.startswith("16 pairs learned by heart: loss 0.0990, from 3.47.")


def test_the_verdict_tells_causes_where_it_did_not():
    told = diagnose.verdict(run(lines(4, loss=0.11, update_norm=0.0)))
    assert told.startswith("16 pairs were not learned: loss 0.11, which should be below 0.1.")
    assert "train.lr 0.001 is too low" in told


def test_the_verdict_of_no_finite_step():
    told = diagnose.verdict(run([]))
    assert told == "16 pairs were not learned: no logged step had a finite loss and gradient; lower train.lr 0.001"


def test_pairs_by_heart_are_learned_without_what_makes_it_harder():
    vision = replace(MODEL.vision, patch_dropout=0.5, dropout=0.1)
    config = replace(CONFIG, model=replace(MODEL, vision=vision, text=replace(MODEL.text, dropout=0.1)))
    config = replace(config, data=replace(config.data, min_crop=0.5, flip=True, color=0.3))
    hard = {
        "label_smoothing": 0.1,
        "micro_batch": 4,
        "minutes": 5.0,
        "ema": 0.9,
        "unmasked_last": 0.1,
        "eval_every": 3,
        "steps": 1000,
    }
    easy = diagnose.overfitting(replace(config, train=replace(config.train, overfit=16, **hard)))
    assert (easy.data.min_crop, easy.data.flip, easy.data.color) == (1.0, False, 0.0)
    assert easy.model == CONFIG.model
    loop = easy.train
    assert (loop.batch_size, loop.micro_batch, loop.steps, loop.minutes, loop.weight_decay) == (16, 0, 300, 0, 0)
    photographs = PRESETS["flickr8k"]
    assert (loop.ema, loop.label_smoothing, loop.unmasked_last, loop.eval_every) == (0, 0, 0, 0)
    assert diagnose.overfitting(replace(photographs, train=replace(photographs.train, overfit=16))).data.first_size == 0
    assert diagnose.overfitting(replace(config, train=replace(config.train, steps=20, overfit=16))).train.steps == 20

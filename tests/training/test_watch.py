"""What is measured while training, and what is reported if a model doesn't learn: each cause alone, else nothing."""

import copy
import math
import re
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from minclip.batches import Batch
from minclip.config import CLIPConfig, LoopConfig, TextConfig, TrainConfig, VisionConfig
from minclip.model import CLIP
from minclip.presets import PRESETS
from minclip.training import watch

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


def batch(size=32, image_size=64):
    ids = torch.randint(1, 48, (size, 10))
    ids[:, -1] = 49
    return Batch(torch.randn(size, 3, image_size, image_size), ids)


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


# ---- FLOPs, the peak, TensorBoard


def plain_vit():
    """Towers whose products are counted by hand: one block of 32 channels on 16 patches, and a bag of words."""
    vision = VisionConfig(image_size=16, patch_size=4, width=32, layers=1, heads=2)
    return CLIPConfig(16, vision, TextConfig("bag", context_length=10, vocab_size=50, eot_id=49, width=32))


def vit_by_hand():
    """Operations of the image tower's forward pass, for one image."""
    width, tokens, patches = 32, 17, 16
    return 2 * (
        patches * 48 * width  # patches
        + width * width + 2 * tokens * width * width  # query of the class token, keys and values of all
        + 2 * tokens * width  # its products with them
        + width * width + 8 * width * width  # output projection and MLP
    )  # fmt: skip


PROJECTIONS = 2 * (32 * 16 + 32 * 16)


@pytest.mark.parametrize(
    ("frozen", "by_hand"),
    [
        ((), 3 * (vit_by_hand() + PROJECTIONS)),
        (("vision",), vit_by_hand() + 3 * PROJECTIONS),  # of a frozen tower there is a forward pass alone
        (("text",), 3 * (vit_by_hand() + PROJECTIONS)),  # a bag multiplies nothing
        (("vision", "text"), vit_by_hand() + 3 * PROJECTIONS),
    ],
)
def test_flops_are_those_counted_by_hand(frozen, by_hand):
    model = CLIP(plain_vit()).train()
    model.freeze(*frozen)
    assert watch.flops_per_pair(model, batch(4, 16), autocast=None) == pytest.approx(by_hand)


RESNET = replace(MODEL, vision=VisionConfig(tower="resnet", image_size=32, width=4, heads=4, stages=(1, 1, 1, 1)))


def test_flops_of_a_pair_are_the_same_in_any_batch():
    few = batch(4, 32)
    many = Batch(few.images.repeat(3, 1, 1, 1), few.ids.repeat(3, 1))
    one, other = (watch.flops_per_pair(CLIP(RESNET), pairs, autocast=None) for pairs in (few, many))
    assert one == other > 0


def test_counting_leaves_no_trace():
    config = replace(RESNET, text=replace(MODEL.text, dropout=0.5))
    model, pairs = CLIP(config).train(), batch(4, 32)
    pairs.images[0] = math.nan  # which BatchNorm's statistics would keep for ever
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert watch.flops_per_pair(model, pairs, autocast=None) > 0
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values()))
    assert torch.equal(state, torch.get_rng_state()) and all(p.grad is None for p in model.parameters())


@pytest.mark.measures_peak
def test_the_peak_is_measured_once_and_quickly(monkeypatch):
    watch.peak_flops.cache_clear()
    start = time.perf_counter()
    peak = watch.peak_flops(torch.device("cpu"), autocast=None)
    assert 1e8 < peak < 1e16 and time.perf_counter() - start < 5
    monkeypatch.setattr("minclip.training.watch.seconds_of_product", lambda *_, **__: 1 / 0)
    assert watch.peak_flops(torch.device("cpu"), autocast=None) == peak


@pytest.mark.measures_peak
@pytest.mark.parametrize(("autocast", "dtype"), [(None, torch.float32), (torch.bfloat16,) * 2, (torch.float16,) * 2])
def test_the_peak_is_that_of_a_product_of_matrices_in_the_towers_precision(monkeypatch, autocast, dtype):
    watch.peak_flops.cache_clear()
    seen = []
    monkeypatch.setattr(watch, "seconds_of_product", lambda *given, **named: seen.append((given, named)) or 0.04)
    peak = watch.peak_flops(torch.device("cpu"), autocast=autocast)
    watch.peak_flops.cache_clear()
    assert peak == pytest.approx(2 * 1024**3 / 0.04)
    assert seen == [((dtype,), {"size": 1024, "device": torch.device("cpu")})]


def test_in_tests_no_peak_is_measured():
    assert watch.peak_flops(torch.device("cpu"), autocast=torch.bfloat16) == 1e12


def test_tensorboard_gets_numbers_alone():
    told = []
    writer = SimpleNamespace(add_scalar=lambda *given: told.append(given))
    watch.log_scalars(writer, {"step": 3, "loss": None, "scale": 14.3, "val": {"recall": 0.5}})
    assert told == [("train/scale", 14.3, 3), ("val/recall", 0.5, 3)]


# ---- the log


@pytest.mark.parametrize(
    ("logged", "told"),
    [
        (lines(), []),
        (lines(update_norm=0.9e-4), ["9e-06 .* train.lr 0.001 is too low"]),
        (lines(update_norm=1.1), ["11% .* train.lr 0.001 is too high"]),
        # the middle of the later half counts, not what was at first or once
        ([*lines(4, update_norm=0.0), *lines(3)], []),
        ([*lines(4), line(5, update_norm=5.0)], []),
        ([*lines(4), line(5, update_norm=0.0)], []),
        (lines(update_norm=2e-4), []),
        (lines(update_norm=0.9), []),
        (lines(grad_norm=10.1), ["train.grad_clip 1: .*train.lr 0.001"]),
        (lines(grad_norm=9.9), []),
        ([*lines(2), line(3, grad_norm=11.0), line(4)], []),
        (lines(scale=100.0), ["scale .* 100"]),
        ([line(scale=100.0)], []),  # of one line nobody knows
        ([*lines(3), line(4, skipped=2)], ["2 steps .*skipped"]),
    ],
)
def test_the_log_points_at_what_is_wrong_with_it(logged, told):
    causes = watch.causes_in_log(logged, CONFIG)
    assert len(causes) == len(told) and all(re.search(fact, cause) for cause, fact in zip(causes, told))


# ---- a batch


def test_of_a_sound_batch_and_model_nothing_is_said_and_nothing_is_changed():
    model, pairs = CLIP(replace(MODEL, vision=replace(MODEL.vision, stem="conv", stem_width=4))).train(), batch()
    before = {name: x.clone() for name, x in model.state_dict().items()}
    with torch.no_grad():
        assert watch.causes_in_batch(model, pairs) == []
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("part", ["vision", "text", "logit_scale"])
def test_a_part_that_no_gradient_reaches_is_named(part):
    model = CLIP(MODEL)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not name.startswith(part))
    (cause,) = watch.causes_in_batch(model, batch())
    assert f"no gradient reaches {part}" in cause


def test_a_gradient_of_zeros_reaches_nobody():
    model = CLIP(replace(MODEL, loss="siglip"))
    model.image_projection.weight.data.zero_()
    causes = watch.causes_in_batch(model, batch())
    assert "no gradient reaches vision" in causes[0]


@pytest.mark.parametrize("name", ["image", "text"])
def test_features_that_are_one_vector_are_told(name):
    model, pairs = CLIP(MODEL), batch()
    tower = model.vision if name == "image" else model.text
    forward = tower.forward
    tower.forward = lambda x: forward(x) * 0.01 + 1
    (cause,) = watch.causes_in_batch(model, pairs)
    assert re.search(rf"{name} features .*mean cosine (0\.9|1\.0)", cause)
    assert cause in said(lines(12), model=model)[-1]  # of a plateau; a first loss it would not make higher
    assert not any(said([line(loss=20.0)], model=model))


@pytest.mark.parametrize("name", ["image", "text"])
def test_features_of_another_length_are_told(name):
    model = CLIP(MODEL)
    encode = getattr(model, f"encode_{name}")
    setattr(model, f"encode_{name}", lambda x, normalize=False: 50 * encode(x, normalize=normalize))
    (cause,) = watch.causes_in_batch(model, batch())
    assert f"{name} features have length 50" in cause


def change(pairs, images=None, ids=None):
    return Batch(pairs.images if images is None else images, pairs.ids if ids is None else ids)


def test_images_that_are_all_alike_are_told():
    pairs = batch()
    causes = watch.causes_in_batch(CLIP(MODEL), change(pairs, pairs.images[:1].expand(32, -1, -1, -1)))
    assert any("images of a batch are all alike" in cause for cause in causes)


@pytest.mark.parametrize(("spread", "told"), [(0.1, True), (0.3, False), (4.5, False), (6.0, True)])
def test_images_that_are_not_normalised_are_told(spread, told):
    pairs = batch()
    causes = watch.causes_in_batch(CLIP(MODEL), change(pairs, spread * pairs.images))
    assert any("model.vision.mean and std" in cause for cause in causes) == told


def test_captions_that_repeat_are_told_of_the_whole_batch():
    pairs = batch(100)
    few = change(pairs, ids=pairs.ids[torch.arange(100) % 80])  # the first 64 differ
    model, sizes = CLIP(MODEL), []
    model.vision.register_forward_hook(lambda module, given, out: sizes.append(len(out)))
    assert watch.causes_in_batch(model, pairs) == [] and sizes == [64]
    (cause,) = watch.causes_in_batch(CLIP(MODEL), few)
    assert re.search("80 .* 100 captions", cause)


def test_the_mean_cosine_is_that_of_different_rows():
    x = torch.tensor([[2.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
    assert watch.mean_cosine(x) == pytest.approx(1 / 3)  # of three pairs one is alike


# ---- while it trains


def said(logged, config=CONFIG, progress=0.5, model=None):
    """What is said after each line."""
    watcher, pairs = watch.Watcher(config), batch()
    model = CLIP(config.model) if model is None else model
    return [watcher.check(one, progress=progress, model=model, batch=pairs) for one in logged]


def test_a_loss_on_its_plateau_is_told_once_after_12_lines():
    told = said(lines(30))
    assert [bool(hint) for hint in told] == [False] * 11 + [True] + [False] * 18
    assert re.match(r"step 12: .*3\.466.*3\.466", told[11])


@pytest.mark.parametrize(("loss", "told"), [(0.98 * NOTHING, True), (0.96 * NOTHING, False)])
def test_3_percent_are_a_beginning(loss, told):
    assert any(said([*lines(29), line(30, loss=loss)][-12:])) == told


def test_of_the_last_10_lines_one_is_enough_and_older_ones_are_forgotten():
    assert not any(said([*lines(11), line(12, loss=1.0), *lines(9)]))
    assert any(said([*lines(11), line(12, loss=1.0), *lines(10)]))


def test_a_quarter_of_the_run_is_waited_for():
    assert not any(said(lines(30), progress=0.25)) and any(said(lines(30), progress=0.26))


HIGH = 1.5 * NOTHING + 1.1


def test_a_first_loss_that_a_large_scale_explains_is_told_at_once():
    told = said([line(loss=HIGH, scale=99.0)])[0]
    assert re.search(r"6\.299; .*3\.466.*scale is 99.*model\.logit_scale_init", told)
    assert not any(said([line(loss=HIGH - 0.2, scale=99.0)]))
    assert not any(said([line(), line(2, loss=HIGH, scale=99.0)]))


def test_a_high_first_loss_with_nothing_wrong_is_no_alarm():
    # narrow towers: cosines of random features of 8 channels are large, so the loss is
    narrow = replace(MODEL, embed_dim=8)
    assert not any(said([line(loss=HIGH, scale=14.3)], model=CLIP(narrow)))
    # trained weights have their own scale, and may know less than nothing of other data, or nearly all
    tuned = replace(CONFIG, train=replace(CONFIG.train, init="demo"))
    assert not any(said([line(loss=HIGH, scale=100.0)], tuned)) and not any(said(lines(30, loss=0.01), tuned))
    siglip = replace(CONFIG, model=replace(MODEL, loss="siglip"))
    assert not any(said([line(loss=30.0, scale=10.0)], siglip, model=CLIP(siglip.model)))  # it begins above


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


# ---- the verdict on pairs to be memorized


def run(metrics):
    config = replace(CONFIG, train=replace(CONFIG.train, overfit=16))
    return SimpleNamespace(folder=Path("runs/a"), config=config, steps=metrics)


def test_the_verdict_tells_both_losses_where_it_went_well():
    told = watch.verdict(run([line(1), line(2, loss=0.099)]))
    assert re.match(r"16 pairs memorized: .*0\.0990.*3\.47", told)


def test_the_verdict_tells_causes_where_it_did_not():
    told = watch.verdict(run(lines(4, loss=0.11, update_norm=0.0)))
    assert re.match(r"16 pairs were not memorized: .*0\.11.*0\.1\b", told) and "train.lr 0.001 is too low" in told


def test_the_verdict_of_no_finite_step():
    told = watch.verdict(run([]))
    assert "16 pairs were not memorized" in told and "lower train.lr 0.001" in told


def test_pairs_are_memorized_without_what_makes_it_harder():
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
    easy = watch.overfitting(replace(config, train=replace(config.train, overfit=16, **hard)))
    assert (easy.data.min_crop, easy.data.flip, easy.data.color) == (1.0, False, 0.0)
    assert easy.model == CONFIG.model
    loop = easy.train
    assert (loop.batch_size, loop.micro_batch, loop.steps, loop.minutes, loop.weight_decay) == (16, None, 300, None, 0)
    photographs = PRESETS["flickr8k"]
    assert (loop.ema, loop.label_smoothing, loop.unmasked_last, loop.eval_every) == (0, 0, 0, None)
    assert watch.overfitting(replace(photographs, train=replace(photographs.train, overfit=16))).data.first_size is None
    assert watch.overfitting(replace(config, train=replace(config.train, steps=20, overfit=16))).train.steps == 20

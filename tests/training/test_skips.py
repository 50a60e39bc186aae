"""Steps without a finite gradient, decided on the device; and the loss's scale, with which fp16 trains."""

from dataclasses import replace

import pytest
import torch
from test_engine import MODEL, batch
from torch import nn
from training_runs import stopped_after

from minclip.config import CLIPConfig, DataConfig, LoopConfig, MinclipError, TextConfig, TrainConfig, VisionConfig
from minclip.data.stream import Stream
from minclip.loop import train
from minclip.model import CLIP
from minclip.training import engine
from minclip.training.engine import Skips, clip_gradients
from minclip.training.optim import EMA, AdamW, Muon

NOTHING = {"step": 0, "skipped": 0, "loss_scale": 0.0, "since": 0}
FP16 = TrainConfig(
    DataConfig("shapes", image_size=32, size=64),
    CLIPConfig(
        embed_dim=16,
        vision=VisionConfig(image_size=32, patch_size=8, width=32, layers=2, heads=2, stem="conv", stem_width=4),
        text=TextConfig(context_length=30, vocab_size=600, width=32, layers=1, heads=2),
    ),
    LoopConfig(batch_size=32, steps=16, log_every=1, lr=1e-3, ema=0.9, checkpoint_every=8),
)


@pytest.fixture
def fp16(monkeypatch, tmp_path, small_world):
    """fp16 on a CPU, which can compute it and is refused only because it is slow."""
    monkeypatch.setattr(engine, "pick_device", lambda *asked: (torch.device("cpu"), torch.float16))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, Muon])
def test_a_skipped_step_changes_no_weight_no_state_and_no_average(kind):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 6), nn.LayerNorm(6))
    muon = [{"params": [x for x in model.parameters() if x.ndim == 2], "muon": True}]
    optimizer = kind([*muon, {"params": [x for x in model.parameters() if x.ndim < 2]}], lr=0.1, fused=True)
    ema = EMA(model, 0.5)

    def step(finite):
        for x in model.parameters():
            x.grad = torch.randn_like(x) * (1.0 if finite else float("nan"))
        optimizer.found_inf = torch.tensor(0.0 if finite else 1.0)
        optimizer.step()
        ema.update(0, torch.tensor(finite))

    def state():
        inner = [x.clone() for values in optimizer.state.values() for x in values.values()]
        return [*(x.detach().clone() for x in model.parameters()), *inner, *(x.clone() for x in ema.values)]

    step(True)
    before = state()
    step(False)
    assert all(torch.equal(a, b) for a, b in zip(before, state(), strict=True))
    step(True)
    assert not all(torch.equal(a, b) for a, b in zip(before, state(), strict=True))


def test_counts_scale_and_batchnorms_averages_follow_the_steps():
    model = nn.Sequential(nn.BatchNorm1d(3))
    model.device = torch.device("cpu")
    skips = Skips(model, fp16=True, saved=NOTHING)
    assert skips.loss_scale == 2**16
    seen = []
    for finite in (True, False, False, True):
        model(torch.full((4, 3), 1.0 if finite else float("nan")))
        skips.count(torch.tensor(finite))
        seen.append((int(skips.total), int(skips.in_a_row), float(skips.loss_scale)))
        assert model[0].running_mean.isfinite().all() and model[0].running_var.isfinite().all()
    assert seen == [(0, 0, 2.0**16), (1, 1, 2.0**15), (2, 2, 2.0**14), (2, 0, 2.0**14)]
    assert model[0].running_mean[0] == pytest.approx(1 - 0.9**2)  # of the two good batches
    for _ in range(1999):
        skips.count(torch.tensor(True))
    assert skips.loss_scale == 2.0**15 and skips.progress() == {"skipped": 2, "loss_scale": 2.0**15, "since": 0}


def test_a_batch_with_a_nan_is_in_no_average(monkeypatch, tmp_path, small_world):
    following, calls = Stream.next, []

    def broken_once(self, image_size=None):
        batch = following(self, image_size)
        calls.append(1)
        if len(calls) == 5:
            batch.images.fill_(float("nan"))
        return batch

    monkeypatch.setattr(Stream, "next", broken_once)
    loop = replace(FP16.train, device="cpu", precision="fp32", checkpoint_every=100)
    run = train(replace(FP16, train=loop), tmp_path / "run")
    state = torch.load(tmp_path / "run/state.pt")
    assert state["skipped"] == 1 and any("running_var" in name for name in state["average"])
    assert all(x.isfinite().all() for kind in ("model", "average") for x in state[kind].values())
    assert all(x.isfinite().all() for x in run.model.state_dict().values())


@pytest.mark.parametrize("kind", [AdamW, Muon])
def test_on_a_mac_a_bad_step_is_not_taken(kind):
    class There:  # the one number of found_inf, as if on a Mac's GPU
        device = torch.device("mps")

        def __init__(self, value):
            self.value = value

        def __bool__(self):
            return self.value

    weight = nn.Parameter(torch.ones(3))
    weight.grad, optimizer = torch.full((3,), float("nan")), kind([weight], fused=True)
    optimizer.found_inf = There(True)
    AdamW.step(optimizer)
    assert torch.equal(weight, torch.ones(3)) and not optimizer.state


def test_without_fp16_the_scale_stays_1():
    skips = Skips(CLIP(MODEL), fp16=False, saved={**NOTHING, "loss_scale": 512.0})
    for finite in (False, True, False):
        skips.count(torch.tensor(finite))
    assert skips.loss_scale == 1 and skips.progress() == {"skipped": 2, "loss_scale": 0.0, "since": 0}


@pytest.mark.parametrize("micro_batch", [None, 4])
def test_a_scaled_loss_has_the_same_gradients_after_clipping(micro_batch):
    loop, norms, grads = LoopConfig(batch_size=12, micro_batch=micro_batch), [], []
    model, pairs = CLIP(MODEL), batch()
    for scale in (1.0, torch.tensor(2.0**10)):
        model.zero_grad()
        engine.gradients(model, pairs, loop, autocast=None, seed=7, loss_scale=scale)
        norms.append(clip_gradients(list(model.parameters()), 0.5, loss_scale=scale))
        grads.append(torch.cat([x.grad.flatten() for x in model.parameters()]))
    torch.testing.assert_close(*norms)
    torch.testing.assert_close(*grads)
    assert grads[0].norm() == pytest.approx(0.5, rel=1e-3)


def test_fp16_trains_and_resumes_exactly(fp16):
    whole = train(FP16, "runs/whole")
    losses = [line["loss"] for line in whole.steps]
    assert len(losses) >= 8 and losses[-1] < losses[0]
    stopped_after(FP16, 8, "runs/cut")
    resumed = train(FP16, "runs/cut", resume=True)
    assert [line["loss"] for line in resumed.steps] == losses
    whole, cut = (torch.load(f"runs/{name}/state.pt") for name in ("whole", "cut"))
    assert 1 < cut["loss_scale"] < 2**16 and cut["skipped"] == 16 - len(losses)  # what overflowed at first
    assert {name: cut[name] for name in NOTHING} == {name: whole[name] for name in NOTHING}
    assert all(torch.equal(a, b) for a, b in zip(whole["model"].values(), cut["model"].values()))


def test_an_overflow_halves_the_scale_and_goes_on(fp16, monkeypatch):
    begin = Skips.__init__

    def high(self, clip, *, fp16, saved):
        begin(self, clip, fp16=fp16, saved={**saved, "loss_scale": 2.0**34})

    monkeypatch.setattr(Skips, "__init__", high)
    run = train(replace(FP16, train=replace(FP16.train, steps=40, ema=0.0)), "runs/high")
    state = torch.load("runs/high/state.pt")
    assert 5 < state["skipped"] < 40 and state["loss_scale"] == 2.0 ** (34 - state["skipped"])
    assert all(x.isfinite().all() for x in run.model.state_dict().values())


def test_a_loss_that_never_becomes_finite_ends_a_run_with_fp16(fp16, monkeypatch):
    step = engine.gradients

    def broken(model, pairs, loop, **options):
        loss, scale = step(model, pairs, loop, **options)
        return loss * float("nan"), scale

    monkeypatch.setattr(engine, "gradients", broken)
    with pytest.raises(MinclipError, match=r"step 16 with loss nan.* 16 times"):
        train(replace(FP16, train=replace(FP16.train, steps=40)), "runs/broken")


@pytest.mark.parametrize("steps", [6, 20])
def test_a_run_that_ends_before_it_logs_again_is_not_saved_as_if_it_had_learned(
    tmp_path, monkeypatch, small_world, steps
):
    monkeypatch.chdir(tmp_path)
    step = engine.gradients

    def broken(model, pairs, loop, **options):
        loss, scale = step(model, pairs, loop, **options)
        return loss * float("nan"), scale

    monkeypatch.setattr(engine, "gradients", broken)
    loop = replace(FP16.train, steps=steps, log_every=1000, checkpoint_every=12, precision="fp32", device="cpu")
    with pytest.raises(MinclipError, match=r"step (6|12)\b.* (6|12) times"):
        train(replace(FP16, train=loop), "runs/broken")
    assert not (tmp_path / "runs/broken/state.pt").exists()

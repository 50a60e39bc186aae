"""When a step is recorded and when it is launched; what is recorded, only a GPU shows: see test_cuda.py."""

import gc
import weakref

import pytest
import torch
from test_engine import MODEL

from minclip.batches import Batch
from minclip.config import LoopConfig
from minclip.model import CLIP
from minclip.training import engine
from minclip.training.graph import EAGER_STEPS, Recorded
from minclip.training.optim import make_optimizer


class Graph:
    """Replays by calling a function."""

    def __init__(self, replay):
        self.replay = replay


@pytest.fixture
def debug_modes(monkeypatch):
    modes = [0]
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    return modes


def recorded(step):
    clip = CLIP(MODEL)
    return Recorded(step, clip, make_optimizer(clip, LoopConfig(lr=1)))


def batch(length):
    return Batch(torch.zeros(2, 3, 16, 16), torch.zeros(2, length, dtype=torch.long))


def test_each_shape_is_launched_three_times_and_then_replayed(monkeypatch, debug_modes):
    launched, replayed, modes = [], [], []

    def step(batch, seed):
        launched.append(batch.ids.shape[1])
        modes.append(debug_modes[-1])
        return (batch.ids.shape[1],)

    def record(self, batch):
        copy = Batch(batch.images.clone(), batch.ids.clone())
        return Graph(lambda: replayed.append(copy.ids.shape[1])), copy, (-copy.ids.shape[1],)

    monkeypatch.setattr(Recorded, "record", record)
    take, lengths = recorded(step), [8, 8, 16, 8, 8, 16, 16, 16, 8]
    results = [take(batch(length), 1)[0] for length in lengths]
    assert results == [8, 8, 16, 8, -8, 16, 16, -16, -8]
    assert launched == [8, 8, 16, 8, 16, 16] and replayed == [8, 16, 8] and EAGER_STEPS == 3
    assert modes == [0, 0, 0, "error", 0, "error"] and debug_modes[-1] == 0  # the last launch of each shape


@pytest.mark.parametrize("when", ["launched", "rehearsed", "recorded"])
def test_a_step_that_fails_is_launched_from_then_on_without_what_it_left(monkeypatch, debug_modes, when, capfd):
    left, launched = [], []

    class Memory:
        pass

    def fail():
        memory = Memory()
        left.append(weakref.ref(memory))
        raise RuntimeError("called a synchronizing CUDA operation")

    def step(batch, seed):
        if when == ("rehearsed" if debug_modes[-1] == "error" else "launched") and not left:
            fail()
        gc.collect()
        launched.append([memory() for memory in left])
        return (1,)

    monkeypatch.setattr(Recorded, "record", lambda self, batch: fail())
    take = recorded(step)
    assert [take(batch(8), 1)[0] for _ in range(6)] == [1] * 6
    assert len(left) == 1 and launched[-1] == [None] and launched[-3] == [None]
    assert capfd.readouterr().out.count("can't be recorded") == 1 and debug_modes[-1] == 0


def test_learning_rates_are_changed_in_place_and_are_never_whole_numbers(debug_modes):
    take = recorded(lambda batch, seed: ())
    optimizer = make_optimizer(take.clip, LoopConfig(lr=1))
    Recorded(take.step, take.clip, optimizer)
    before = [group["lr"] for group in optimizer.param_groups]
    engine.set_lrs(optimizer, [0.5] * len(before), 0.5, warmup=0.0)
    assert all(group["lr"] is lr and lr == 0.25 for group, lr in zip(optimizer.param_groups, before))


def test_another_gpu_than_the_first_becomes_the_current_one(monkeypatch):
    current, zeros = [], torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, **options: zeros(1))
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch, "set_float32_matmul_precision", lambda precision: None)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    assert engine.pick_device("cuda:1", "fp32") == (torch.device("cuda:1"), None)
    assert engine.pick_device("cuda", "fp32") == (torch.device("cuda"), None)
    assert current == [torch.device("cuda:1")]

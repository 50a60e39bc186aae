"""What torch.compile is asked for: each tower once, in one piece, whatever the captions' lengths."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from minclip.batches import Batch
from minclip.config import CLIPConfig, LoopConfig, TextConfig, VisionConfig
from minclip.model import CLIP
from minclip.text import trim
from minclip.training.engine import gradients
from minclip.training.parallel import wrap

TEXT = TextConfig(context_length=40, vocab_size=600, eot_id=599, width=16, layers=2, heads=2)
BAG = TextConfig("bag", context_length=40, vocab_size=600, eot_id=599, width=16, dropout=0.1)
VIT = VisionConfig(image_size=32, patch_size=8, width=16, layers=2, heads=2, patch_dropout=0.25)
TOWERS = {
    "vit": CLIPConfig(8, VIT, TEXT),
    "conv stem": CLIPConfig(8, replace(VIT, stem="conv", stem_width=4, pool="mean", patch_dropout=0.0), TEXT),
    "resnet": CLIPConfig(8, VisionConfig("resnet", image_size=32, width=4, heads=4, stages=(1, 1, 1, 1)), BAG),
    "small resnet": CLIPConfig(8, VisionConfig("small_resnet", image_size=32, width=8, stages=(1, 1, 1, 1)), BAG),
}


@pytest.fixture(autouse=True)
def traced_only(monkeypatch):
    """Compiles without a compiler: traced, and run as it was traced."""
    compile = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compile(self, backend="aot_eager", **options))
    monkeypatch.setattr("minclip.training.parallel.check_compiler", lambda device: None)
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def batch(length, side=32, pairs=4):
    torch.manual_seed(length)
    ids = torch.randint(1, 500, (pairs, 40))
    for row in range(pairs):
        ids[row, length - 1 - row :] = 599
    ids[0, length - 1] = 599
    return Batch(torch.randn(pairs, 3, side, side), trim(ids, 599, multiple=8))


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("towers", TOWERS)
def test_after_the_first_step_nothing_is_compiled_again(towers, micro_batch):
    loop = LoopConfig(batch_size=4, compile=True, micro_batch=micro_batch)
    model = wrap(CLIP(TOWERS[towers]).train(), loop)
    gradients(model, batch(20), loop, autocast=None, seed=0)
    first = counters["stats"]["unique_graphs"]
    assert first == (2 if micro_batch is None else 4)  # each tower, and again without a graph
    for length in (9, 12, 39, 17, 24, 31, 33, 8, 40, 25):
        gradients(model, batch(length), loop, autocast=None, seed=length)
    assert counters["stats"]["unique_graphs"] == first
    assert not counters["graph_break"]


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
@pytest.mark.parametrize("towers", TOWERS)
def test_compiled_towers_have_the_gradients_of_plain_ones(towers, autocast):
    plain, loop = CLIP(TOWERS[towers]).train(), LoopConfig(batch_size=4)
    compiled = CLIP(TOWERS[towers]).train()
    compiled.load_state_dict(plain.state_dict())
    wrap(compiled, replace(loop, compile=True))
    for length in (20, 33):
        losses = [
            gradients(model, batch(length), replace(loop, compile=model is compiled), autocast=autocast, seed=1)[0]
            for model in (plain, compiled)
        ]
        torch.testing.assert_close(*losses, rtol=2e-2 if autocast else 1e-5, atol=1e-6)
    for (name, a), b in zip(plain.named_parameters(), compiled.parameters()):
        close = (a.grad - b.grad).norm() <= (0.1 if autocast else 1e-4) * a.grad.norm() + 1e-6
        assert close, name


def test_each_size_of_growing_pictures_is_compiled_once():
    loop = LoopConfig(batch_size=4, compile=True)
    model = wrap(CLIP(TOWERS["small resnet"]).train(), loop)
    seen = []
    for side in (16, 16, 32, 32, 16, 32):
        gradients(model, batch(20, side), loop, autocast=None, seed=0)
        seen.append(counters["stats"]["unique_graphs"])
    assert seen == [2, 2, 3, 3, 3, 3]


def test_the_end_of_patch_dropout_is_compiled_once():
    loop = LoopConfig(batch_size=4, compile=True)
    clip = CLIP(TOWERS["vit"]).train()
    model, seen = wrap(clip, loop), []
    for fraction in (0.25, 0.25, 0.0, 0.0, 0.0):
        clip.vision.patch_dropout = fraction
        gradients(model, batch(20), loop, autocast=None, seed=0)
        seen.append(counters["stats"]["unique_graphs"])
    assert seen == [2, 2, 3, 3, 3]


def test_recomputed_blocks_are_compiled_too():
    plain, loop = CLIP(TOWERS["vit"]).train(), LoopConfig(batch_size=4, compile=True, grad_checkpointing=True)
    compiled = CLIP(TOWERS["vit"]).train()
    compiled.load_state_dict(plain.state_dict())
    model = wrap(compiled, loop)
    gradients(model, batch(20), loop, autocast=None, seed=1)
    first = counters["stats"]["unique_graphs"]
    for length in (9, 33, 40):
        gradients(model, batch(length), loop, autocast=None, seed=1)
    assert counters["stats"]["unique_graphs"] == first and not counters["graph_break"]
    for x in (*plain.parameters(), *compiled.parameters()):
        x.grad = None
    gradients(plain, batch(20), LoopConfig(batch_size=4), autocast=None, seed=1)
    gradients(model, batch(20), loop, autocast=None, seed=1)
    for (name, a), b in zip(plain.named_parameters(), compiled.named_parameters()):
        assert (a.grad - b[1].grad).norm() <= 1e-4 * a.grad.norm() + 1e-6, name

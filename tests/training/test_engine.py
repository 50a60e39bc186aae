"""What a training step is made of: gradients of cached batches, checkpointing, norms."""

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from minclip.batches import Batch
from minclip.config import CLIPConfig, DataConfig, LoopConfig, MinclipError, TextConfig, VisionConfig
from minclip.losses import clip_loss, siglip_loss
from minclip.model import CLIP
from minclip.training.engine import LOSSES, clip_gradients, contrastive_loss, gradients, norm, pick_device, picture_size
from minclip.training.parallel import check_compiler, frozen_statistics, wrap

VISION = VisionConfig(image_size=16, patch_size=4, width=32, layers=2, heads=2, patch_dropout=0.5, dropout=0.2)
TEXT = TextConfig(context_length=10, vocab_size=50, eot_id=49, width=32, layers=2, heads=2, dropout=0.2)
MODEL = CLIPConfig(16, VISION, TEXT)
RESNET = replace(MODEL, vision=VisionConfig(tower="resnet", image_size=32, width=4, heads=4, stages=(1, 1, 1, 1)))
CONV_STEM = replace(MODEL, vision=replace(VISION, stem="conv", stem_width=4, pool="mean", patch_dropout=0.0))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def batch(size=12, image_size=16):
    ids = torch.randint(1, 48, (size, 10))
    for row, end in enumerate(torch.randint(2, 10, (size,)).tolist()):
        ids[row, end:] = 0
        ids[row, end] = 49
    return Batch(torch.randn(size, 3, image_size, image_size), ids)


def grads_of(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def close(ours, theirs, tolerance=1e-5):
    """Equal within `tolerance` of the largest gradient of each parameter, or of 1."""
    assert ours.keys() == theirs.keys()
    for name, grad in theirs.items():
        assert (ours[name] - grad).abs().max() <= tolerance * max(1, grad.abs().max()), name


# ---- gradient caching (mistake 13)


def all_graphs_at_once(model, batch, loop, seed):
    """The true big batch: every micro-batch's graph is kept, and autograd goes through all of them."""
    size = loop.micro_batch
    image, text = [], []
    for number in range(len(batch.ids) // size):
        torch.manual_seed(seed + number)
        rows = slice(number * size, (number + 1) * size)
        i, t, scale = model(batch.images[rows], batch.ids[rows])
        image.append(i), text.append(t)
    image, text, scale = torch.cat(image), torch.cat(text), model.logit_scale.exp()
    loss = (
        siglip_loss(image, text, scale, model.logit_bias)
        if model.config.loss == "siglip"
        else clip_loss(image, text, scale)
    )
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("micro_batch", [1, 3, 6])
@pytest.mark.parametrize(
    "config", [MODEL, replace(MODEL, loss="siglip"), RESNET, CONV_STEM], ids=["clip", "siglip", "resnet", "stem"]
)
def test_micro_batches_give_the_gradients_of_the_big_batch(config, micro_batch):
    if config in (RESNET, CONV_STEM) and micro_batch == 1:
        pytest.skip("BatchNorm of one image")
    pairs, loop = batch(image_size=config.vision.image_size), LoopConfig(batch_size=12, micro_batch=micro_batch)
    model = CLIP(config).train()
    twin = copy.deepcopy(model)
    wanted = all_graphs_at_once(twin, pairs, loop, seed=7)
    loss, scale = gradients(model, pairs, loop, autocast=None, seed=7)
    torch.testing.assert_close(loss, wanted)
    assert scale == model.logit_scale.exp()
    close(grads_of(model), grads_of(twin))
    # BatchNorm's statistics saw each micro-batch once
    for (name, ours), theirs in zip(model.named_buffers(), twin.buffers()):
        assert torch.allclose(ours.float(), theirs.float(), atol=1e-6), name


def test_a_common_beginning_of_all_captions_is_dropped_out_row_by_row():
    # without a graph it would be computed once for all rows, with one dropout
    pairs, loop = batch(128), LoopConfig(batch_size=128, micro_batch=64)
    pairs.ids[:, 0] = 48
    model = CLIP(MODEL).train()
    twin = copy.deepcopy(model)
    wanted = all_graphs_at_once(twin, pairs, loop, seed=7)
    torch.testing.assert_close(gradients(model, pairs, loop, autocast=None, seed=7)[0], wanted)
    close(grads_of(model), grads_of(twin))


def test_without_dropout_micro_batches_give_the_gradients_of_the_whole():
    config = replace(MODEL, vision=replace(VISION, patch_dropout=0.0, dropout=0.0), text=replace(TEXT, dropout=0.0))
    pairs, model = batch(), CLIP(config).train()
    twin = copy.deepcopy(model)
    gradients(twin, pairs, LoopConfig(batch_size=12), autocast=None, seed=7)
    gradients(model, pairs, LoopConfig(batch_size=12, micro_batch=4), autocast=None, seed=7)
    close(grads_of(model), grads_of(twin))


def test_dropouts_do_something_and_the_seed_decides_them():
    model, pairs, loop = CLIP(MODEL).train(), batch(), LoopConfig(batch_size=12)
    losses = [gradients(model, pairs, loop, autocast=None, seed=seed)[0] for seed in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_the_loss_and_the_scale_come_without_a_graph():
    for loop in (LoopConfig(batch_size=12), LoopConfig(batch_size=12, micro_batch=4)):
        assert not any(x.requires_grad for x in gradients(CLIP(MODEL), batch(), loop, autocast=None, seed=7))


@pytest.mark.parametrize("micro_batch", [0, 4])
def test_under_autocast_the_towers_alone_are_bf16(micro_batch):
    config = replace(MODEL, vision=replace(VISION, patch_dropout=0.0, dropout=0.0), text=replace(TEXT, dropout=0.0))
    model, pairs, loop = CLIP(config), batch(), LoopConfig(batch_size=12, micro_batch=micro_batch)
    exact, rounded = (
        gradients(model, pairs, loop, autocast=autocast, seed=7)[0] for autocast in (None, torch.bfloat16)
    )
    assert rounded.dtype == torch.float32 and 0 < abs(exact - rounded) < 0.01 * exact
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        image, text, scale = model(pairs.images, pairs.ids)
    torch.testing.assert_close(rounded, clip_loss(image, text, scale))
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.parameters())


def test_processes_exchange_gradients_with_the_last_micro_batch():
    model, said = CLIP(MODEL), []
    model.set_requires_gradient_sync = said.append  # as FSDP's have it
    gradients(model, batch(), LoopConfig(batch_size=12, micro_batch=4), autocast=None, seed=7)
    assert said == [False, False, True]


@pytest.mark.parametrize("loss", ["clip", "siglip"])
@pytest.mark.parametrize(
    ("size", "loop_chunk", "chunk"), [(4096, None, None), (8192, None, 512), (8192, 100, 100), (8, 5, 5)]
)
def test_rows_of_a_large_matrix_are_computed_16_mb_at_a_time(monkeypatch, loss, size, loop_chunk, chunk):
    model, seen = CLIP(replace(MODEL, loss=loss)), []
    spy = LOSSES[loss]._replace(function=lambda *features, **options: seen.append(options))
    monkeypatch.setitem(LOSSES, loss, spy)
    features, numbers = torch.zeros(size, 2), [torch.ones(())] * (1 + (loss == "siglip"))
    contrastive_loss(model, features, features, numbers=numbers, loop=LoopConfig(loss_chunk=loop_chunk))
    assert [(options["chunk_size"], options["distributed"]) for options in seen] == [(chunk, False)]


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_chunks_of_the_loss_change_no_gradient(loss):
    model, pairs = CLIP(replace(MODEL, loss=loss)).train(), batch()
    twin = copy.deepcopy(model)
    gradients(twin, pairs, LoopConfig(batch_size=12), autocast=None, seed=7)
    gradients(model, pairs, LoopConfig(batch_size=12, loss_chunk=5), autocast=None, seed=7)
    close(grads_of(model), grads_of(twin))


# ---- gradient checkpointing


@pytest.mark.parametrize("config", [MODEL, RESNET, CONV_STEM], ids=["vit", "resnet", "stem"])
def test_checkpointing_changes_no_gradient_and_no_statistic(config):
    pairs, loop = batch(image_size=config.vision.image_size), LoopConfig(batch_size=12)
    model = CLIP(config).train()
    twin = wrap(copy.deepcopy(model), replace(loop, grad_checkpointing=True))
    for x in (model, twin):
        gradients(x, pairs, loop, autocast=None, seed=7)
    close(grads_of(twin), grads_of(model))
    assert all(torch.equal(a, b) for a, b in zip(model.buffers(), twin.buffers()))


@pytest.mark.parametrize("config", [MODEL, RESNET], ids=["vit", "resnet"])
def test_checkpointing_keeps_less_for_the_backward_pass(config):
    def kept(checkpointing):
        pairs, numbers = batch(image_size=config.vision.image_size), []
        model = wrap(CLIP(config).train(), LoopConfig(grad_checkpointing=checkpointing))
        with torch.autograd.graph.saved_tensors_hooks(lambda x: (numbers.append(x.numel()), x)[1], lambda x: x):
            model(pairs.images, pairs.ids)
        return sum(numbers)

    assert kept(True) < 0.7 * kept(False)


def test_statistics_that_were_frozen_move_again_also_after_an_error():
    model, pairs = CLIP(RESNET).train(), batch(image_size=32)
    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RuntimeError, match="stop"), frozen_statistics(model):
        model(pairs.images, pairs.ids)
        raise RuntimeError("stop")
    assert all(torch.equal(before[name], x) for name, x in model.state_dict().items())
    assert norms and all(part.momentum == 0.1 for part in norms)


def test_a_model_that_asks_for_nothing_is_left_as_it_is():
    model = CLIP(MODEL)
    assert wrap(model, LoopConfig()) is model
    assert not any("forward" in vars(part) for part in model.modules())


def test_compiled_checkpointing_with_batch_norm_is_refused_before_anything_starts():
    loop = LoopConfig(compile=True, grad_checkpointing=True)
    with pytest.raises(MinclipError, match=r"train\.compile.*train\.grad_checkpointing.*BatchNorm"):
        wrap(CLIP(CONV_STEM), loop)


@pytest.mark.parametrize("device", ["meta", "privateuseone", "xla", "nothing", "cuda:99", "cpu:x", ""])
def test_a_device_that_cannot_train_is_refused(device):
    with pytest.raises(MinclipError, match=r"train\.device"):
        pick_device(device, "fp32")


# ---- norms


def test_norms_and_clipping_are_pytorchs():
    model, twin = (CLIP(MODEL) for _ in range(2))
    twin.load_state_dict(model.state_dict())
    for x in (model, twin):
        torch.manual_seed(3)
        for parameter in x.parameters():
            parameter.grad = torch.randn_like(parameter)
    length = clip_gradients(list(model.parameters()), 0.5)
    torch.testing.assert_close(length, torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5))
    close(grads_of(model), grads_of(twin), 1e-6)
    torch.testing.assert_close(norm(list(model.parameters())), torch.nn.utils.get_total_norm(list(twin.parameters())))


def test_short_gradients_are_left_alone():
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([0.3, 0.4])
    assert clip_gradients([parameter], 1.0) == 0.5 and torch.equal(parameter.grad, torch.tensor([0.3, 0.4]))


# ---- compiling


@pytest.mark.slow
def test_a_compiled_model_has_the_same_gradients_and_the_same_names():
    config = replace(MODEL, vision=replace(VISION, patch_dropout=0.0, dropout=0.0), text=replace(TEXT, dropout=0.0))
    model, pairs, loop = CLIP(config).train(), batch(), LoopConfig(batch_size=12)
    twin = wrap(copy.deepcopy(model), replace(loop, compile=True))
    for x in (model, twin):
        gradients(x, pairs, loop, autocast=None, seed=7)
    assert list(model.state_dict()) == list(twin.state_dict())  # mistake 26: no _orig_mod.
    close(grads_of(twin), grads_of(model))


def test_without_a_compiler_compiling_is_refused(monkeypatch, tmp_path):
    torch._dynamo.reset()
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))  # nothing is compiled there yet
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", (str(tmp_path / "no-such-compiler"),))
    with pytest.raises(MinclipError, match=r"train\.compile.*C\+\+"):
        check_compiler(torch.device("cpu"))
    torch._dynamo.reset()


# ---- the size of the pictures


def test_pictures_grow_in_three_parts_to_their_size():
    data = DataConfig(image_size=64, first_size=32)
    assert [picture_size(progress, data) for progress in (0, 0.33, 0.34, 0.66, 0.67, 0.999, 1.2)] == [
        *(32, 32),
        *(48, 48),
        *(64, 64, 64),
    ]
    assert [picture_size(p, DataConfig(image_size=224, first_size=128)) for p in (0, 0.5, 0.9)] == [128, 176, 224]
    assert {picture_size(p, DataConfig(image_size=100)) for p in (0, 0.5, 1)} == {100}


def test_label_smoothing_reaches_the_loss():
    model, data = CLIP(MODEL).eval(), batch()
    loss, _ = gradients(model, data, LoopConfig(batch_size=12, label_smoothing=0.3), autocast=None, seed=0)
    with torch.no_grad():
        expected = clip_loss(*model(data.images, data.ids), label_smoothing=0.3)
        assert abs(expected - clip_loss(*model(data.images, data.ids))) > 0.01
    torch.testing.assert_close(loss, expected)

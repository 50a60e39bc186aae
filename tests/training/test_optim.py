"""Muon against PyTorch's own, which takes matrices only, and AdamW for everything else; and the moving average."""

import pytest
import torch
from torch import nn

from minclip.config import CLIPConfig, TextConfig, VisionConfig
from minclip.model import CLIP
from minclip.training.optim import EMA, Muon, orthogonal


def moved(optimizer_of, shape, steps=4):
    """A weight after some steps along the same gradients."""
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(shape))
    optimizer = optimizer_of(weight)
    for step in range(steps):
        torch.manual_seed(step)
        weight.grad = torch.randn(shape)
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("shape", [(8, 8), (4, 20), (20, 4)])
def test_a_matrix_moves_as_in_pytorchs_muon(shape):
    theirs = moved(
        lambda w: torch.optim.Muon([w], lr=0.02, weight_decay=0.3, momentum=0.9, adjust_lr_fn="match_rms_adamw"), shape
    )
    ours = moved(lambda w: Muon([{"params": [w], "muon": True}], lr=0.02, weight_decay=0.3, betas=(0.9, 0.98)), shape)
    torch.manual_seed(0)
    way = (theirs - torch.randn(shape)).norm()
    assert (ours - theirs).norm() < 0.05 * way  # both round to bf16
    adamw = moved(lambda w: torch.optim.AdamW([w], lr=0.02, weight_decay=0.3), shape)
    assert (adamw - theirs).norm() > 0.3 * way


def test_a_convolution_moves_as_the_matrix_of_its_filters():
    def flat(weight):
        return Muon([{"params": [weight], "muon": True}], lr=0.02)

    torch.manual_seed(0)
    filters = nn.Parameter(torch.randn(6, 3, 3, 3).contiguous(memory_format=torch.channels_last))
    matrix = nn.Parameter(filters.detach().flatten(1).clone())
    for weight in (filters, matrix):
        optimizer = flat(weight)
        for step in range(3):
            torch.manual_seed(step)
            weight.grad = torch.randn(6, 27).view(weight.shape)
            optimizer.step()
    torch.testing.assert_close(filters.detach().flatten(1), matrix.detach(), rtol=1e-3, atol=1e-3)


def test_other_groups_move_by_adamw():
    options = {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.1}
    torch.testing.assert_close(
        moved(lambda w: Muon([w], **options), (5,)), moved(lambda w: torch.optim.AdamW([w], **options), (5,))
    )


def test_all_groups_are_still_there_after_a_step():
    a, b = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    optimizer = Muon([{"params": [a], "muon": True}, {"params": [b]}], lr=0.1)
    a.grad, b.grad = torch.eye(2), torch.ones(2)
    optimizer.step()
    assert [group["params"][0] is x for group, x in zip(optimizer.param_groups, (a, b))] == [True, True]
    assert (a != 1).any() and (b != 1).all()


def test_without_a_gradient_a_weight_stays():
    weight = nn.Parameter(torch.ones(3, 3))
    Muon([{"params": [weight], "muon": True}], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(weight.detach(), torch.ones(3, 3))


def test_weights_of_one_shape_are_one_batch():
    """Twelve matrices take as many operations as two, and move as they would alone."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        operations = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.operations += not any(tag in str(function) for tag in ("view", "select", "unbind", "detach", "transp"))
            return function(*args, **(kwargs or {}))

    counts, moved = [], []
    for together in (2, 12):
        torch.manual_seed(0)
        weights = [nn.Parameter(torch.randn(6, 9)) for _ in range(together)]
        optimizer = Muon([{"params": weights, "muon": True}], lr=0.02, weight_decay=0.1)
        for _ in range(3):
            for weight in weights:
                weight.grad = weight.detach().sin()
            with Count() as counter:
                optimizer.step()
        counts.append(counter.operations)
        moved.append(weights[0].detach())
    assert counts[0] == counts[1]
    torch.testing.assert_close(moved[0], moved[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 6), (3, 30), (30, 3)])
def test_orthogonal_pulls_all_singular_values_to_one(shape):
    torch.manual_seed(0)
    x = torch.randn(shape)
    y = orthogonal(x)
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    values = torch.linalg.svdvals(y)
    assert y.shape == x.shape and y.dtype == torch.float32
    assert values.min() > 0.5 and values.max() < 1.3
    # and keeps their directions: what is left of u and v around it is nearly diagonal
    around = u.T @ y @ v.T
    assert (around - around.diagonal().diag()).abs().max() < 0.15


def test_orthogonal_of_nothing_is_nothing():
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_a_state_that_was_saved_goes_on_as_if_nothing_had_been():
    def some():
        torch.manual_seed(0)
        matrix, vector = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(4))
        return matrix, vector, Muon([{"params": [matrix], "muon": True}, {"params": [vector]}], lr=0.1)

    def go(matrix, vector, optimizer, steps):
        for step in steps:
            torch.manual_seed(step)
            matrix.grad, vector.grad = torch.randn(4, 6), torch.randn(4)
            optimizer.step()

    whole = some()
    go(*whole, range(6))
    first, second = some(), some()
    go(*first, range(3))
    for weight, saved in zip(second[:2], first[:2]):
        weight.data.copy_(saved.data)
    second[2].load_state_dict(first[2].state_dict())
    go(*second, range(3, 6))
    assert torch.equal(whole[0], second[0]) and torch.equal(whole[1], second[1])


# ---- the moving average


VISION = VisionConfig(tower="resnet", image_size=32, width=4, heads=4, stages=(1, 1, 1, 1))  # which has buffers
MODEL = CLIPConfig(16, VISION, TextConfig("bag", context_length=10, vocab_size=50, width=8))


def test_the_average_is_the_recursion():
    model = CLIP(MODEL)
    ema, weight = EMA(model, 0.9), model.text_projection.weight
    wanted = weight.detach().clone()
    for step in range(5):
        with torch.no_grad():
            weight.add_(1.0)
        ema.update(step)
        decay = min(0.9, (1 + step) / (10 + step))
        wanted = decay * wanted + (1 - decay) * weight.detach()
    own = weight.detach().clone()
    with ema.applied():
        torch.testing.assert_close(weight.detach(), wanted)
    assert torch.equal(weight, own)


def test_the_model_gets_its_own_weights_back_also_after_an_error():
    model = CLIP(MODEL)
    ema = EMA(model, 0.5)
    model.logit_scale.data.fill_(1.0)
    with pytest.raises(RuntimeError, match="stop"), ema.applied():
        assert model.logit_scale != 1
        raise RuntimeError("stop")
    assert model.logit_scale == 1


def test_the_average_has_batchnorms_statistics_too():
    model = CLIP(MODEL)
    ema = EMA(model, 0.5)
    name, buffer = next((n, b) for n, b in model.named_buffers() if n.endswith("running_var"))
    buffer.fill_(3.0)
    ema.update(1000)
    with ema.applied():
        assert dict(model.named_buffers())[name].eq(2.0).all()

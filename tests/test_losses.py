"""The losses against NumPy in double precision: values, gradients, extremes."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from minclip.config import MinclipError
from minclip.losses import clip_loss, siglip_bias, siglip_loss, similarity


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def pairs(batch=6, dim=8, spread=1.0):
    """Two batches of vectors of length 1, `spread` apart."""
    image = torch.randn(batch, dim)
    return F.normalize(image, dim=-1), F.normalize(image + spread * torch.randn(batch, dim), dim=-1)


def log_softmax(x, axis):
    top = x.max(axis=axis, keepdims=True)
    return x - top - np.log(np.exp(x - top).sum(axis=axis, keepdims=True))


def reference(image, text, scale, image_ids=None):
    """clip_loss written out in double precision."""
    logits = scale * np.asarray(image, dtype=np.float64) @ np.asarray(text, dtype=np.float64).T
    image_ids = np.arange(len(logits)) if image_ids is None else np.asarray(image_ids)
    loss = 0.0
    for i in range(len(logits)):
        positives = [j for j in range(len(logits)) if image_ids[i] == image_ids[j]]
        for log_p in (log_softmax(logits, 1)[i, :], log_softmax(logits, 0)[:, i]):
            loss -= sum(log_p[j] for j in positives) / len(positives) / len(logits) / 2
    return loss


def gradient_of(loss, x, step=1e-5):
    """Central differences in double precision."""
    x = np.asarray(x, dtype=np.float64)
    out = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        out[place] = (loss(up) - loss(down)) / (2 * step)
    return out


# ---- clip_loss


@pytest.mark.parametrize("scale", [1.0, 1 / 0.07, 100.0])
@pytest.mark.parametrize("batch", [2, 6, 33])
def test_clip_loss_equals_numpy(batch, scale):
    image, text = pairs(batch)
    assert clip_loss(image, text, scale).item() == pytest.approx(reference(image, text, scale), rel=1e-5, abs=1e-6)


def test_equal_logits_cost_ln_b():
    same = torch.ones(7, 1)
    assert clip_loss(same, same, 14.2857).item() == pytest.approx(math.log(7))


def test_perfect_matches_cost_nothing():
    assert clip_loss(torch.eye(8), torch.eye(8), 100.0) < 1e-6


def test_a_wrong_order_costs_the_scale():
    # each row is sure of the wrong text; at scale 100 the cost is the whole margin
    assert clip_loss(torch.eye(8), torch.eye(8).roll(1, 0), 100.0).item() == pytest.approx(100)


def test_images_and_texts_are_treated_alike():
    image, text = pairs()
    torch.testing.assert_close(clip_loss(image, text, 10.0), clip_loss(text, image, 10.0))


def test_both_directions_count():
    # all images point at text 0: the images' rows are told nothing wrong by the texts' alone
    image, text = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.eye(2)
    logits = torch.tensor([[5.0, 0.0], [5.0, 0.0]])
    target = torch.arange(2)
    one, other = F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)
    assert abs(one - other) > 0.1 and clip_loss(image, text, 5.0).item() == pytest.approx((one + other).item() / 2)


def test_the_order_of_the_pairs_does_not_matter():
    image, text = pairs()
    order = torch.randperm(6)
    torch.testing.assert_close(clip_loss(image[order], text[order], 10.0), clip_loss(image, text, 10.0))


def test_clip_loss_is_finite_where_the_naive_softmax_overflows():
    # mistake 9
    image, text = torch.eye(4), -torch.eye(4)
    naive = -torch.log((100 * torch.eye(4)).exp() / (100 * torch.eye(4)).exp().sum(1, keepdim=True)).diagonal()
    image, text = image.requires_grad_(), text.requires_grad_()
    loss = clip_loss(image, text, 100.0)
    loss.backward()
    assert not naive.isfinite().all()
    assert loss.isfinite() and image.grad.isfinite().all() and text.grad.isfinite().all()


def test_gradients_equal_finite_differences():
    image, text = pairs(4, 3)
    image.requires_grad_(), text.requires_grad_()
    clip_loss(image, text, 14.2857).backward()
    i, t = image.detach().numpy(), text.detach().numpy()
    np.testing.assert_allclose(image.grad, gradient_of(lambda x: reference(x, t, 14.2857), i), atol=1e-5)
    np.testing.assert_allclose(text.grad, gradient_of(lambda x: reference(i, x, 14.2857), t), atol=1e-5)


def test_the_scale_gets_the_gradient_of_finite_differences():
    image, text = pairs()
    scale = torch.tensor(14.2857, requires_grad=True)
    clip_loss(image, text, scale).backward()
    assert scale.grad.item() == pytest.approx(
        gradient_of(lambda s: reference(image, text, s), 14.2857).item(), rel=1e-4
    )


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_image_ids_that_do_not_fit_the_batch_are_refused(chunk_size):
    with pytest.raises(MinclipError, match=r"image_ids \(5,\).*\(4,\)"):
        clip_loss(*pairs(4), 1.0, image_ids=torch.arange(5), chunk_size=chunk_size)


@pytest.mark.parametrize("loss", [clip_loss, lambda i, t, s: siglip_loss(i, t, s, 0.0)], ids=["clip", "siglip"])
def test_batches_that_do_not_match_are_refused(loss):
    with pytest.raises(MinclipError, match=r"\(4, 8\).*\(5, 8\)"):
        loss(torch.zeros(4, 8), torch.zeros(5, 8), 1.0)


# ---- precision (mistake 10)


def test_similarities_are_fp32_under_autocast():
    image, text = pairs()
    with torch.autocast("cpu", torch.bfloat16):
        assert (image @ text.T).dtype == torch.bfloat16  # what it would be
        assert similarity(image, text).dtype == torch.float32


@pytest.mark.parametrize("loss", [clip_loss, lambda i, t, s: siglip_loss(i, t, s, -3.0)], ids=["clip", "siglip"])
def test_a_loss_is_the_same_under_autocast(loss):
    image, text = pairs(32)
    with torch.autocast("cpu", torch.bfloat16):
        low = loss(image, text, torch.tensor(100.0))
    assert low.dtype == torch.float32 and torch.equal(low, loss(image, text, torch.tensor(100.0)))


def test_bf16_features_are_multiplied_in_fp32():
    image, text = (x.bfloat16() for x in pairs())
    torch.testing.assert_close(similarity(image, text), image.float() @ text.float().T)


# ---- image_ids


def test_without_duplicates_image_ids_change_nothing():
    image, text = pairs()
    ids = torch.tensor([5, 3, 9, 0, 7, 1])
    torch.testing.assert_close(clip_loss(image, text, 10.0, image_ids=ids), clip_loss(image, text, 10.0))


def test_two_captions_of_one_image_share_the_target():
    # by hand: logits are the identity, each row's log-sum-exp is ln(e + 2); rows 0 and 1 each get half of 1, row 2 all
    loss = clip_loss(torch.eye(3), torch.eye(3), 1.0, image_ids=torch.tensor([4, 4, 2]))
    assert loss.item() == pytest.approx(math.log(math.e + 2) - (0.5 + 0.5 + 1) / 3)


def test_duplicates_equal_numpy():
    image, text = pairs(7)
    ids = [0, 1, 0, 2, 1, 0, 3]
    assert clip_loss(image, text, 14.2857, image_ids=torch.tensor(ids)).item() == pytest.approx(
        reference(image, text, 14.2857, ids), rel=1e-5
    )


def test_a_duplicate_is_no_false_negative():
    # two rows of one image that agree in everything: the gradient no longer pushes them apart
    image = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    with_ids = clip_loss(image, image, 100.0, image_ids=torch.tensor([0, 0, 1]))
    assert with_ids.item() == pytest.approx(math.log(2) * 2 / 3) and with_ids < clip_loss(image, image, 100.0) + 1e-6


# ---- siglip_loss (mistake 11)


def sigmoid_reference(image, text, scale, bias):
    logits = scale * np.asarray(image, dtype=np.float64) @ np.asarray(text, dtype=np.float64).T + bias
    sign = 2 * np.eye(len(logits)) - 1
    return np.logaddexp(0, -sign * logits).sum() / len(logits)


@pytest.mark.parametrize(("scale", "bias"), [(1.0, 0.0), (10.0, -10.0), (100.0, -3.0)])
def test_siglip_loss_equals_numpy(scale, bias):
    image, text = pairs()
    expected = sigmoid_reference(image, text, scale, bias)
    assert siglip_loss(image, text, scale, bias).item() == pytest.approx(expected, rel=1e-5)


def test_siglip_gradients_equal_finite_differences():
    image, text = pairs(4, 3)
    image.requires_grad_()
    bias = torch.tensor(-2.0, requires_grad=True)
    siglip_loss(image, text, 10.0, bias).backward()
    i = image.detach().numpy()
    np.testing.assert_allclose(image.grad, gradient_of(lambda x: sigmoid_reference(x, text, 10, -2), i), atol=1e-5)
    assert bias.grad.item() == pytest.approx(
        gradient_of(lambda b: sigmoid_reference(i, text, 10, b), -2.0).item(), rel=1e-4
    )


def test_siglip_loss_is_finite_at_scale_100():
    image = torch.eye(4, requires_grad=True)
    loss = siglip_loss(image, -torch.eye(4), 100.0, 0.0)
    loss.backward()
    assert loss.isfinite() and image.grad.isfinite().all()


@pytest.mark.parametrize("batch", [2, 16, 4096])
def test_siglip_bias_starts_at_the_rate_of_positives(batch):
    undecided = torch.zeros(batch)  # cosines of 0
    assert torch.sigmoid(undecided + siglip_bias(batch)).mean().item() == pytest.approx(1 / batch)


@pytest.mark.parametrize("batch", [1, 0, -3])
def test_a_batch_without_wrong_pairs_has_no_bias(batch):
    with pytest.raises(MinclipError, match=f"{batch}"):
        siglip_bias(batch)


def test_siglip_bias_is_the_best_bias_for_undecided_pairs():
    image, text = torch.eye(16)[:8], torch.eye(16)[8:]
    bias = torch.tensor(siglip_bias(8), requires_grad=True)
    siglip_loss(image, text, 10.0, bias).backward()
    assert abs(bias.grad.item()) < 1e-5


# ---- in chunks: the same values and gradients, without the matrix


def in_both_ways(function, batch, dim, other, chunk_size, scale=14.2857):
    """Value and gradients for image, text, scale (and SigLIP's bias), plain and in chunks."""
    image, text = pairs(batch, dim)
    for size in (None, chunk_size):
        leaves = [x.clone().requires_grad_() for x in (image, text, torch.tensor(scale))]
        if function is siglip_loss:
            leaves.append(torch.tensor(other, requires_grad=True))
            loss = function(*leaves, chunk_size=size)
        else:
            loss = function(*leaves, image_ids=other, chunk_size=size)
        yield loss.detach(), *torch.autograd.grad(3 * loss, leaves)  # 3: what comes from above is handed through


@pytest.mark.parametrize("function", [clip_loss, siglip_loss])
@given(st.integers(2, 40), st.integers(1, 50), st.sampled_from([1.0, 14.2857, 100.0]), st.integers(0, 99))
def test_chunks_give_the_plain_values_and_gradients(function, batch, chunk_size, scale, seed):
    torch.manual_seed(seed)
    plain, chunked = in_both_ways(function, batch, 8, -3.0 if function is siglip_loss else None, chunk_size, scale)
    for a, b in zip(chunked, plain):
        assert (a - b).abs().max() <= 1e-5 * max(1, b.abs().max())


@given(st.lists(st.integers(0, 5), min_size=2, max_size=20), st.integers(1, 9))
def test_chunks_know_captions_of_one_image(ids, chunk_size):
    plain, chunked = in_both_ways(clip_loss, len(ids), 8, torch.tensor(ids), chunk_size)
    for a, b in zip(chunked, plain):
        assert (a - b).abs().max() <= 1e-5 * max(1, b.abs().max())


@pytest.mark.parametrize("function", [clip_loss, lambda *args, **kwargs: siglip_loss(*args, -9.7, **kwargs)])
def test_a_batch_of_4096_is_finite_at_scale_100(function):
    image, text = pairs(4096, 8, spread=0.5)
    image[0] = -text[0]  # the worst that a pair can be
    image.requires_grad_(), text.requires_grad_()
    loss = function(image, text, 100.0, chunk_size=512)
    loss.backward()
    assert loss.isfinite() and image.grad.isfinite().all() and text.grad.isfinite().all()
    assert loss > 0 and image.grad.any()


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 0, 2]])
def test_chunks_are_finite_wherever_the_largest_logits_lie(order):
    # from chunk to chunk a column's largest logit goes from 100 to -100, or back
    image, text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])[order], torch.tensor([[1.0, 0.0]] * 3)
    answers = []
    for size in (None, 1):
        leaves = [x.clone().requires_grad_() for x in (image, text)]
        loss = clip_loss(*leaves, 100.0, chunk_size=size)
        answers.append([loss, *torch.autograd.grad(loss, leaves)])
    for chunked, plain in zip(*reversed(answers)):
        torch.testing.assert_close(chunked, plain)


def test_chunks_take_bf16_and_hand_back_bf16():
    image, text = (x.bfloat16().requires_grad_() for x in pairs())
    with torch.autocast("cpu", torch.bfloat16):
        loss = clip_loss(image, text, 10.0, chunk_size=4)
    loss.backward()
    assert loss.dtype == torch.float32 and image.grad.dtype == text.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, clip_loss(image, text, 10.0))


def test_a_gradient_has_its_inputs_shape():
    image, text = pairs()
    scale = torch.tensor([10.0], requires_grad=True)
    clip_loss(image, text, scale, chunk_size=4).backward()
    assert scale.grad.shape == (1,)


def test_chunks_refuse_gradients_of_gradients():
    (image, text), weight = (x.requires_grad_() for x in pairs()), torch.ones((), requires_grad=True)
    (once,) = torch.autograd.grad(weight * clip_loss(image, text, 10.0, chunk_size=4), image, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        once.sum().backward()


def test_chunks_never_hold_the_matrix():
    image, text = (x.requires_grad_() for x in pairs(512))
    with SizesSeen() as seen:
        clip_loss(image, text, 10.0, chunk_size=32).backward()
    assert max(seen.sizes) <= 2 * 32 * 512
    with SizesSeen() as seen:
        clip_loss(image, text, 10.0).backward()
    assert max(seen.sizes) == 512 * 512  # the check would see it


class SizesSeen(TorchDispatchMode):
    """Notes the number of elements of every tensor that is computed within."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        self.sizes += [
            x.numel() for x in (out if isinstance(out, tuple | list) else [out]) if isinstance(x, torch.Tensor)
        ]
        return out


@pytest.mark.parametrize("loss", [clip_loss, lambda i, t, s, **more: siglip_loss(i, t, s, 0.0, **more)])
def test_chunks_refuse_what_makes_no_batch(loss):
    with pytest.raises(MinclipError, match=r"\(4, 8\).*\(5, 8\)"):
        loss(torch.zeros(4, 8), torch.zeros(5, 8), 1.0, chunk_size=2)
    for size in (0, -1):
        with pytest.raises(MinclipError, match=f"chunk_size.*got {size}"):
            loss(torch.zeros(4, 8), torch.zeros(4, 8), 1.0, chunk_size=size)


# ---- label smoothing


@pytest.mark.parametrize("image_ids", [None, torch.tensor([0, 1, 0, 2, 1, 0])], ids=["pairs", "image_ids"])
@pytest.mark.parametrize("chunk_size", [None, 1, 4, 6])
@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_label_smoothing_is_pytorchs(smoothing, chunk_size, image_ids):
    image, text = pairs()
    scale = torch.tensor(14.2857)
    inputs = [x.requires_grad_() for x in (image, text, scale)]
    logits = scale * image @ text.T
    target = torch.eye(6) if image_ids is None else F.normalize((image_ids[:, None] == image_ids).float(), p=1)
    theirs = sum(F.cross_entropy(x, target, label_smoothing=smoothing) for x in (logits, logits.T)) / 2
    ours = clip_loss(*inputs, image_ids=image_ids, chunk_size=chunk_size, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for a, b in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs)):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)

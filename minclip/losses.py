"""clip_loss and siglip_loss: how far a batch's similarity matrix is from the diagonal one; whole, in chunks, across processes."""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import MinclipError
from .training.distributed import (
    all_gather,
    all_reduce_max,
    all_reduce_sum,
    rank,
    reduce_scatter_rows,
    ring_shift,
    world_size,
)


def similarity(image: Tensor, text: Tensor) -> Tensor:
    """Dot products (B, B) in fp32, also under autocast: bf16 would round cosines to about 0.004, logits to 0.4 at scale 100."""
    check_shapes(image, text)
    with torch.autocast(image.device.type, enabled=False):
        return image.float() @ text.float().T


def check_shapes(image: Tensor, text: Tensor) -> None:
    if image.shape != text.shape:
        raise MinclipError(f"image {tuple(image.shape)} and text {tuple(text.shape)} must both be (B, D)")


def clip_loss(
    image: Tensor,
    text: Tensor,
    scale: Tensor | float,
    image_ids: Tensor | None = None,
    chunk_size: int = 0,
    everywhere: bool = False,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The symmetric contrastive loss, a scalar (paper, figure 3).

    `image` and `text` (B, D) have length 1 and row i of both belongs together; `scale` is exp(logit_scale), 14.29 at the
    start.  With `image_ids` (B,), rows of one image are each other's positives too: the target is shared evenly among
    them, where they would else be false negatives.

    With a `chunk_size`, the similarity matrix is never held: `chunk_size` of its rows are computed at a time, twice.  With
    `everywhere`, the batch is that of all processes, and all must call this: each one gives its (b, D) and gets the loss
    of all W · b pairs.  Its gradients are W times those of that loss, because DDP and FSDP average them over the W
    processes.  Both have the plain one's values and gradients, but not gradients of gradients.

    With `label_smoothing` e, a target is 1 - e for the row's own column and e shared by all (Szegedy et al. 2016).
    """
    if label_smoothing:
        if image_ids is not None:
            raise MinclipError("clip_loss takes image_ids or label_smoothing, not both")
        # All that a row's target loses at its own logit, it gains at the mean one; softmaxes don't change.
        plain = clip_loss(image, text, scale, None, chunk_size, everywhere)
        return plain + label_smoothing * scale * _own_above_mean(image.float(), text.float(), everywhere)
    if chunk_size or everywhere:
        return _by_hand(_clip, image, text, scale, image_ids, chunk_size, everywhere)
    logits = scale * similarity(image, text)
    own = torch.arange(len(logits), device=logits.device)
    target = own if image_ids is None else _shares(image_ids, image_ids)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def siglip_loss(
    image: Tensor,
    text: Tensor,
    scale: Tensor | float,
    bias: Tensor | float,
    chunk_size: int = 0,
    everywhere: bool = False,
) -> Tensor:
    """Each of the B² pairs as a yes-or-no question of its own, summed and divided by B (Zhai et al. 2023, algorithm 1).

    Arguments as for `clip_loss`.  Across processes the texts go round in a ring (section 3.3): nobody ever holds all.
    """
    if chunk_size or everywhere:
        return _by_hand(_siglip, image, text, scale, bias, chunk_size, everywhere)
    logits = scale * similarity(image, text) + bias
    sign = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -F.logsigmoid(sign * logits).sum() / len(logits)


def _own_above_mean(image: Tensor, text: Tensor, everywhere: bool) -> Tensor:
    """How far the mean cosine of the pairs lies above that of all B² combinations, a scalar; gradients as in `clip_loss`."""
    own, mean_image, mean_text = (image * text).sum(dim=1).mean(), image.mean(dim=0), text.mean(dim=0)
    if not everywhere:
        return own - (mean_image * mean_text).sum()
    whole = all_reduce_sum(torch.cat([own.detach()[None], mean_image.detach(), mean_text.detach()])) / world_size()
    own_of_all, image_of_all, text_of_all = whole[0], *whole[1:].chunk(2)
    # my share of the gradients, around the value of all
    mine = own - (mean_image * text_of_all + image_of_all * mean_text).sum()
    return mine - mine.detach() + own_of_all - (image_of_all * text_of_all).sum()


def siglip_bias(batch_size: int) -> float:
    """ln(p / (1 - p)) with p = 1/B: the bias with which B² undecided pairs start at the rate of their positives."""
    return -math.log(batch_size - 1)


# ---- by hand: the loss and its gradients in one go, so that no matrix has to be kept for a backward pass


def _by_hand(
    function: Callable,
    image: Tensor,
    text: Tensor,
    scale: Tensor | float,
    other: Any,
    chunk_size: int,
    everywhere: bool,
) -> Tensor:
    check_shapes(image, text)
    if chunk_size < 0:
        raise MinclipError(f"chunk_size {chunk_size} is negative; 0 takes all rows at once")
    return _WithGradients.apply(function, chunk_size or len(image), everywhere, image, text, scale, other)


class _WithGradients(torch.autograd.Function):
    """A loss whose function returns its gradients too: the backward pass only hands them out."""

    @staticmethod
    def forward(
        ctx: Any, function: Callable, size: int, everywhere: bool, image: Tensor, text: Tensor, scale: Any, other: Any
    ) -> Tensor:
        with torch.autocast(image.device.type, enabled=False):
            loss, *gradients = function(image.float(), text.float(), scale, other, size, everywhere)
        # a scale may be a number, which has no gradient, or of shape (1,); autograd itself rounds to an input's dtype
        ctx.shapes = [x.shape if isinstance(x, Tensor) else None for x in (image, text, scale, other)]
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        gradients = [*ctx.saved_tensors, None][:4]
        return (None, None, None) + tuple(
            None if shape is None or g is None else (grad * g).view(shape) for g, shape in zip(gradients, ctx.shapes)
        )


def _clip(
    image: Tensor, text: Tensor, scale: Tensor | float, image_ids: Tensor | None, size: int, everywhere: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Loss and gradients for image, text and scale: four products of matrices, where autograd needs six.

    My rows of the matrix are images, its columns everybody's texts.  A row's softmax is mine alone; a column's is shared,
    and of that only the sums travel.
    """
    texts, ids = (
        (all_gather(text), None if image_ids is None else all_gather(image_ids)) if everywhere else (text, image_ids)
    )
    n, me = len(texts), rank() * len(image) if everywhere else 0
    # two blocks of memory for all chunks: fresh ones cost a CPU as much as the exponentials
    rooms = image.new_empty(2, min(size, len(image)), n)
    # A softmax is exp(logit - top) / total.  Folded into one log-sum-exp they would round at the size of a logit, 100.
    rows, top, total = [], torch.full((n,), -math.inf, device=image.device), torch.zeros(n, device=image.device)
    for chunk in image.split(size):
        logits, room = rooms[:, : len(chunk)]
        torch.mm(scale * chunk, texts.T, out=logits)
        row_top, old = logits.amax(dim=1, keepdim=True), top
        rows.append((row_top, torch.sub(logits, row_top, out=room).exp_().sum(dim=1, keepdim=True)))
        top = torch.maximum(old, logits.amax(dim=0))
        total = total * (old - top).exp() + torch.sub(logits, top, out=room).exp_().sum(dim=0)
    if everywhere:
        old, top = top, all_reduce_max(top.clone())
        total = all_reduce_sum(total * (old - top).exp())

    positives, grad_image, grad_texts = image.new_zeros(()), torch.empty_like(image), torch.zeros_like(texts)
    for start, chunk, (row_top, row_total) in zip(range(0, len(image), size), image.split(size), rows):
        mine = slice(start, start + len(chunk))
        logits, g = rooms[:, : len(chunk)]
        torch.mm(scale * chunk, texts.T, out=logits)
        torch.sub(logits, row_top, out=g).exp_().div_(row_total)  # softmax of the rows
        if ids is None:  # a row's only positive is its own column
            own = torch.arange(len(chunk), device=image.device)
            positives += logits[own, me + start + own].sum()
            g[own, me + start + own] -= 2
        else:
            share = _shares(image_ids[mine], ids)
            positives += (share * logits).sum()
            g -= 2 * share
        g += logits.sub_(top).exp_().div_(total)  # and of the columns
        torch.mm(g, texts, out=grad_image[mine])
        grad_texts.addmm_(g.T, chunk)

    loss = sum((row_top + row_total.log()).sum() for row_top, row_total in rows) - 2 * positives
    grad_text, processes = grad_texts, 1
    if everywhere:
        loss, grad_text, processes = all_reduce_sum(loss), reduce_scatter_rows(grad_texts), world_size()
    loss = (loss + (top + total.log()).sum()) / (2 * n)
    factor = processes / (2 * n)  # times W: see clip_loss
    grad_scale = factor * torch.vdot(grad_image.flatten(), image.flatten())
    return loss, grad_image.mul_(factor * scale), grad_text.mul_(factor * scale), grad_scale


def _siglip(
    image: Tensor, text: Tensor, scale: Tensor | float, bias: Tensor | float, size: int, everywhere: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Loss and gradients for image, text, scale and bias.  The texts' gradients travel with them, and come home with them."""
    processes = world_size() if everywhere else 1
    loss, grad_bias = image.new_zeros(()), image.new_zeros(())
    grad_image, grad_text = torch.zeros_like(image), torch.zeros_like(text)
    for turn in range(processes):
        for start, chunk in zip(range(0, len(image), size), image.split(size)):
            logits = scale * chunk @ text.T + bias
            own = torch.arange(len(chunk), device=image.device)
            if turn == 0:  # my own texts: the diagonal is positive
                positives = logits[own, start + own]
                loss += F.softplus(-positives).sum()
                logits[own, start + own] = -math.inf  # and no negative
            loss += F.softplus(logits).sum()
            g = logits.sigmoid_()
            if turn == 0:
                g[own, start + own] = -torch.sigmoid(-positives)
            grad_bias += g.sum()
            grad_image[start : start + len(chunk)] += g @ text
            grad_text.addmm_(g.T, chunk)
        if processes > 1:
            text, grad_text = ring_shift(torch.stack([text, grad_text]))
    n = processes * len(image)
    loss = (all_reduce_sum(loss) if everywhere else loss) / n
    factor = processes / n  # times W: see clip_loss
    grad_scale = factor * torch.vdot(grad_image.flatten(), image.flatten())
    return loss, grad_image.mul_(factor * scale), grad_text.mul_(factor * scale), grad_scale, factor * grad_bias


def _shares(mine: Tensor, all_: Tensor) -> Tensor:
    """The target of rows with image numbers `mine` (b,) over columns `all_` (B,): 1, shared evenly by those of one image."""
    same = (mine[:, None] == all_[None, :]).float()
    return same / same.sum(dim=1, keepdim=True)

"""clip_loss and siglip_loss for large batches: a chunk of the matrix's rows at a time, over all processes.

The plain loss keeps several (B, B) matrices for its backward pass, 4 GB each for B = 32,768.  Here the gradients are
written by hand, so that a chunk of rows is computed, used and discarded.  With z = scale · image · textᵀ (+ bias),

    clip     d loss / d z = (softmax of the rows + softmax of the columns - 2 · target) / 2B
    siglip   d loss / d z = (sigmoid(z) - target) / B

and the gradients for image and text are products of that matrix with the other side, those for scale and bias sums.
With W processes, each passes its own b pairs and gets the loss of all B = W · b pairs; all must call it.  The gradients
are W times those of that loss, because DDP and FSDP average them over the processes.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..losses import Float
from .distributed import all_gather, all_reduce_max, all_reduce_sum, rank, reduce_scatter_rows, ring_shift, world_size


def big_clip_loss(image: Tensor, text: Tensor, scale: Float, *options: Any) -> Tensor:
    """For `clip_loss`, which checks the arguments.  `options`: image_ids, label_smoothing, chunk_size, distributed."""
    return _WithGradients.apply(_clip, options, image, text, scale)


def big_siglip_loss(image: Tensor, text: Tensor, scale: Float, bias: Float, *options: Any) -> Tensor:
    """For `siglip_loss`, likewise.  `options`: chunk_size, distributed."""
    return _WithGradients.apply(_siglip, options, image, text, scale, bias)


class _WithGradients(torch.autograd.Function):
    """A loss whose `function` also returns the gradients; the backward pass multiplies them by the incoming one."""

    @staticmethod
    def forward(ctx: Any, function: Callable, options: tuple, image: Tensor, text: Tensor, *numbers: Float) -> Tensor:
        with torch.autocast(image.device.type, enabled=False):
            loss, *gradients = function(image.float(), text.float(), *numbers, *options)
        # a scale may be a float, which has no gradient, or have shape (1,); autograd casts to each input's dtype
        pairs = zip(gradients, (image, text, *numbers))
        ctx.save_for_backward(*(g.view(x.shape) if isinstance(x, Tensor) else None for g, x in pairs))
        return loss

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(None if gradient is None else grad * gradient for gradient in ctx.saved_tensors)


def _clip(
    image: Tensor, text: Tensor, scale: Float, image_ids: Tensor | None, smoothing: float, size: int, distributed: bool
) -> tuple[Tensor, ...]:
    """Loss and gradients for image, text and scale: four products of matrices, where autograd needs six.

    Rows are this process's b images, columns all B texts: a row's softmax is complete here, a column's is shared.
    """
    b, texts, ids, first = len(image), text, image_ids, 0  # first: the column of this process's first pair
    if distributed:
        texts, first = all_gather(text), rank() * b  # (B, D)
        ids = None if image_ids is None else all_gather(image_ids)  # (B,)
    n, chunks = len(texts), [slice(start, start + size) for start in range(0, b, size)]

    # First pass: a column's softmax is exp(logit - top) / total; its logsumexp would be rounded to a logit's precision.
    top, total = image.new_full((n,), -math.inf), image.new_zeros(n)
    for rows in chunks:
        logits = scale * image[rows] @ texts.T  # (size, B)
        old, top = top, torch.maximum(top, logits.amax(dim=0))
        total = total * (old - top).exp() + logits.sub_(top).exp_().sum(dim=0)
    if distributed:
        old, top = top, all_reduce_max(top.clone())
        total = all_reduce_sum(total * (old - top).exp())

    # Second pass: the gradient g of each chunk's logits, here without its factor 1 / 2B.
    loss, grad_image, grad_texts = image.new_zeros(()), torch.empty_like(image), torch.zeros_like(texts)
    for rows in chunks:
        logits = scale * image[rows] @ texts.T
        loss += logits.logsumexp(dim=1).sum()
        g = logits.softmax(dim=1)
        if ids is None:  # a row's only positive is its own column
            loss -= 2 * (1 - smoothing) * logits.diagonal(first + rows.start).sum()
            g.diagonal(first + rows.start).sub_(2 * (1 - smoothing))
        else:
            same = (image_ids[rows, None] == ids).float()
            target = same * ((1 - smoothing) / same.sum(dim=1, keepdim=True))
            loss -= 2 * (target * logits).sum()
            g -= 2 * target
        g += logits.sub_(top).exp_().div_(total)  # the softmax of the columns
        grad_image[rows] = g @ texts
        grad_texts.addmm_(g.T, image[rows])

    # The smoothed part of the target is constant, so its gradient has rank 1 and needs no pass over the logits.
    everywhere, image_sum, text_sum = smoothing / n, image.sum(dim=0), texts.sum(dim=0)
    loss -= 2 * everywhere * torch.vdot(scale * image_sum, text_sum)
    grad_image -= 2 * everywhere * text_sum
    grad_texts -= 2 * everywhere * image_sum
    if distributed:
        loss, grad_texts = all_reduce_sum(loss), reduce_scatter_rows(grad_texts)  # (B, D) -> (b, D)
    loss = (loss + (top + total.log()).sum()) / (2 * n)
    return loss, *_scaled(1 / (2 * b), scale, image, grad_image, grad_texts)


def _siglip(image: Tensor, text: Tensor, scale: Float, bias: Float, size: int, distributed: bool) -> tuple[Tensor, ...]:
    """Loss and gradients for image, text, scale, bias.  Texts and their gradients pass around a ring (section 3.3)."""
    b, processes = len(image), world_size() if distributed else 1
    loss, grad_bias = image.new_zeros(()), image.new_zeros(())
    grad_image, grad_text = torch.zeros_like(image), torch.zeros_like(text)
    for turn in range(processes):
        for start in range(0, b, size):
            rows = slice(start, start + size)
            logits = scale * image[rows] @ text.T + bias
            right = logits.diagonal(start)[: b if turn == 0 else 0]  # a view; the right pairs are in the first turn
            right.neg_()  # softplus(-z) for right pairs, softplus(z) for wrong ones
            loss += F.softplus(logits).sum()
            g = logits.sigmoid_()
            right.neg_()
            grad_bias += g.sum()
            grad_image[rows] += g @ text
            grad_text.addmm_(g.T, image[rows])
        if processes > 1:
            text, grad_text = ring_shift(torch.stack([text, grad_text]))  # after the last turn, each is back
    loss = (all_reduce_sum(loss) if distributed else loss) / (processes * b)
    return loss, *_scaled(1 / b, scale, image, grad_image, grad_text), grad_bias / b


def _scaled(factor: float, scale: Float, image: Tensor, grad_image: Tensor, grad_text: Tensor) -> tuple[Tensor, ...]:
    """The gradients for image, text and scale; those passed in still lack `factor` and the scale."""
    grad_scale = factor * torch.vdot(grad_image.flatten(), image.flatten())  # Σ g · cosine
    return grad_image.mul_(factor * scale), grad_text.mul_(factor * scale), grad_scale

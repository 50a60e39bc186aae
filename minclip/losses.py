"""clip_loss and siglip_loss: how far a batch's similarity matrix is from the diagonal one."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import MinclipError


def similarity(image: Tensor, text: Tensor) -> Tensor:
    """Dot products (B, B) in fp32, also under autocast: bf16 would round cosines to about 0.004, logits to 0.4 at scale 100."""
    if image.shape != text.shape:
        raise MinclipError(f"image {tuple(image.shape)} and text {tuple(text.shape)} must both be (B, D)")
    with torch.autocast(image.device.type, enabled=False):
        return image.float() @ text.float().T


def clip_loss(image: Tensor, text: Tensor, scale: Tensor | float, image_ids: Tensor | None = None) -> Tensor:
    """The symmetric contrastive loss, a scalar (paper, figure 3).

    `image` and `text` (B, D) have length 1 and row i of both belongs together; `scale` is exp(logit_scale), 14.29 at the
    start.  With `image_ids` (B,), rows of one image are each other's positives too: the target is shared evenly among
    them, where they would else be false negatives.
    """
    logits = scale * similarity(image, text)
    if image_ids is None:
        target = torch.arange(len(logits), device=logits.device)
    else:
        same = (image_ids[:, None] == image_ids[None, :]).float()
        target = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def siglip_loss(image: Tensor, text: Tensor, scale: Tensor | float, bias: Tensor | float) -> Tensor:
    """Each of the B² pairs as a yes-or-no question of its own, summed and divided by B (Zhai et al. 2023, algorithm 1)."""
    logits = scale * similarity(image, text) + bias
    sign = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -F.logsigmoid(sign * logits).sum() / len(logits)


def siglip_bias(batch_size: int) -> float:
    """ln(p / (1 - p)) with p = 1/B: the bias with which B² undecided pairs start at the rate of their positives."""
    return -math.log(batch_size - 1)

"""Two contrastive losses: how far a batch's similarity matrix is from the one that pairs each image with its text.

Rows are images, columns are texts, and entry (i, i) is a pair that belongs together:

    clip_loss    "which of these B texts is mine?"     a softmax over each row and each column    (Radford et al. 2021)
    siglip_loss  "does this text belong to me?"        a sigmoid for each of the B² entries       (Zhai et al. 2023)
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import MinclipError, need

Float = Tensor | float  # scale and bias: learned, or fixed


def similarity(image: Tensor, text: Tensor) -> Tensor:
    """Dot products, (B, D) and (B, D) -> (B, B) in fp32; cosines if the features have length 1."""
    # even under autocast: bf16 stores a cosine near 1 only to about 0.004, i.e. 0.4 in a logit at scale 100
    with torch.autocast(image.device.type, enabled=False):
        return image.float() @ text.float().T


def clip_loss(
    image: Tensor,
    text: Tensor,
    scale: Float,
    *,
    image_ids: Tensor | None = None,
    label_smoothing: float = 0.0,
    chunk_size: int | None = None,
    distributed: bool = False,
) -> Tensor:
    """CLIP's symmetric cross-entropy, a scalar (paper, figure 3).

    `image` and `text` are (B, D) features of length 1; row i of both is a pair.  `scale` is exp(logit_scale), the
    inverse of the softmax's temperature: 14.29 at the start, at most 100.  With `image_ids` (B,), all captions of one
    image are its positives and share its target evenly; without, a second caption in the batch counts as wrong.
    `label_smoothing` spreads this fraction of each target evenly over all B columns (Szegedy et al. 2016).

    `chunk_size` computes this many rows of the matrix at a time, to save memory; `distributed` takes the batch of all
    processes together.  Both give the same values and gradients: see `training/big_losses.py`.
    """
    _check(image, text, image_ids, chunk_size)
    if chunk_size is not None or distributed:
        from .training.big_losses import big_clip_loss  # only needed for chunked or distributed computation

        return big_clip_loss(image, text, scale, image_ids, label_smoothing, chunk_size or len(image), distributed)
    logits = similarity(scale * image.float(), text)  # (B, B); scaling it afterwards would store the cosines, too
    if image_ids is None:
        target = torch.arange(len(logits), device=logits.device)  # the class of row i is column i: the diagonal
    else:
        same = (image_ids[:, None] == image_ids).float()  # (B, B), symmetric: one target serves rows and columns
        target = same / same.sum(dim=1, keepdim=True)  # probabilities: each row sums to 1
    from_images = F.cross_entropy(logits, target, label_smoothing=label_smoothing)  # each image chooses among B texts
    from_texts = F.cross_entropy(logits.T, target, label_smoothing=label_smoothing)  # and each text among B images
    return (from_images + from_texts) / 2  # ln B for a model that knows nothing yet


def siglip_loss(
    image: Tensor, text: Tensor, scale: Float, bias: Float, *, chunk_size: int | None = None, distributed: bool = False
) -> Tensor:
    """SigLIP's loss, a scalar: B² yes-or-no questions, their sum over B (algorithm 1).  Arguments as in `clip_loss`."""
    _check(image, text, None, chunk_size)
    if chunk_size is not None or distributed:
        from .training.big_losses import big_siglip_loss

        return big_siglip_loss(image, text, scale, bias, chunk_size or len(image), distributed)
    logits = similarity(scale * image.float(), text) + bias
    sign = 2 * torch.eye(len(logits), device=logits.device) - 1  # +1 on the diagonal, -1 for the B² - B wrong pairs
    # divided by B, not by B²: the many wrong pairs would drown the gradient of the few right ones
    return -F.logsigmoid(sign * logits).sum() / len(logits)


def siglip_bias(batch_size: int) -> float:
    """ln(p / (1 - p)) for p = 1/B: with this bias, cosine 0 has the probability p, the fraction of right pairs."""
    need(batch_size >= 2, f"SigLIP needs batches of at least 2 pairs, got {batch_size}: one pair has no wrong text")
    return -math.log(batch_size - 1)


def _check(image: Tensor, text: Tensor, image_ids: Tensor | None, chunk_size: int | None) -> None:
    if image.shape != text.shape or image.ndim != 2:
        raise MinclipError(f"image {tuple(image.shape)} and text {tuple(text.shape)} must both be (B, D)")
    if image_ids is not None and image_ids.shape != image.shape[:1]:
        raise MinclipError(f"image_ids {tuple(image_ids.shape)} must be ({len(image)},), one number for each row")
    need(chunk_size is None or chunk_size >= 1, f"chunk_size must be 1 or more, or None for all rows, got {chunk_size}")

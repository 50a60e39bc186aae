"""Recall@k both ways, with any number of captions an image."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..config import MinclipError


@torch.no_grad()
def retrieval(
    image: Tensor, text: Tensor, text_to_image: Tensor | np.ndarray, ks: Sequence[int] = (1, 5, 10), block: int = 1024
) -> dict[str, float]:
    """How often the right one is among the k best, as shares of 1.

    `image` (N, D) and `text` (M, D) have length 1; caption j belongs to image `text_to_image[j]`.  text→image: the share
    of captions whose image is among the k nearest.  image→text: the share of images with at least one of their captions
    among the k nearest (all of them count, not the first).  Whoever ties with the right one counts half, so that a model
    that maps everything to one point puts it in the middle and does not get 100 %.  Works on `block` rows at a time.
    """
    owner = torch.as_tensor(text_to_image, device=image.device)
    if len(owner) != len(text) or len(owner) == 0:
        raise MinclipError(
            f"{len(text)} texts and {len(owner)} entries of text_to_image: each text needs the number of its image"
        )
    if int(owner.min()) < 0 or int(owner.max()) >= len(image):
        raise MinclipError(
            f"text_to_image names images {int(owner.min())} to {int(owner.max())}, but there are {len(image)}"
        )

    text_ranks = torch.cat(
        [
            _ranks(
                text[i : i + block] @ image.T,
                owner[i : i + block, None] == torch.arange(len(image), device=image.device),
            )
            for i in range(0, len(text), block)
        ]
    )
    images = torch.arange(len(image), device=image.device)
    image_ranks = torch.cat(
        [
            _ranks(image[i : i + block] @ text.T, images[i : i + block, None] == owner[None, :])
            for i in range(0, len(image), block)
        ]
    )
    image_ranks = image_ranks[
        torch.bincount(owner, minlength=len(image)) > 0
    ]  # an image without a caption can't be answered
    return {
        f"{way}_r@{k}": float((ranks < k).double().mean())
        for way, ranks in (("text_to_image", text_ranks), ("image_to_text", image_ranks))
        for k in ks
    }


def _ranks(scores: Tensor, right: Tensor) -> Tensor:
    """(rows,) rank, from 0, of the best right column of each row of `scores`; a wrong column that ties adds one half."""
    best = scores.masked_fill(~right, float("-inf")).max(dim=1, keepdim=True).values
    wrong = ~right
    # "not below", so that a score that is not a number never helps
    return (~(scores < best) & wrong).sum(1) - ((scores == best) & wrong).sum(1) / 2

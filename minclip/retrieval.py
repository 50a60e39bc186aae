"""Recall@k, median rank and mean recall both ways, with any number of captions an image."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .config import MinclipError


@torch.no_grad()
def retrieval(
    image: Tensor, text: Tensor, text_to_image: Tensor | np.ndarray, ks: Sequence[int] = (1, 5, 10), block: int = 512
) -> dict[str, float]:
    """How often the right one is among the k best, as shares of 1; its median rank, 1 for the best; the recalls' mean.

    `image` (N, D) and `text` (M, D) have length 1; caption j belongs to image `text_to_image[j]`.  text→image: the share
    of captions whose image is among the k nearest.  image→text: the share of images with at least one of their captions
    among the k nearest (all of them count, not the first).  Whoever ties with the right one counts half, so that a model
    that maps everything to one point puts it in the middle and does not get 100 %; a score that is not a number never
    helps.  Works on (block, block) of the (M, N) scores at a time, and keeps nothing larger than one number a vector.
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
    if min(ks, default=0) < 1:
        raise MinclipError(f"recall@k needs every k to be at least 1, not {tuple(ks)}")
    text_ranks, image_ranks = _ranks(image, text, owner, block)
    recalls = {
        f"{way}_r@{k}": float((ranks < k).cpu().double().mean())
        for way, ranks in (("text_to_image", text_ranks), ("image_to_text", image_ranks))
        for k in ks
    }
    return {
        **recalls,
        "text_to_image_median_rank": 1 + float(np.median(text_ranks.cpu().numpy())),
        "image_to_text_median_rank": 1 + float(np.median(image_ranks.cpu().numpy())),
        "mean_recall": sum(recalls.values()) / len(recalls),
    }


def _ranks(image: Tensor, text: Tensor, owner: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Ranks from 0, of each caption's image and of each captioned image's best caption; a wrong one that ties adds one half.

    A rank is the number of wrong ones less those that are beaten.  Every score is computed in a product of the same
    shape, and a right one in the very product in which it is compared: another would round it otherwise.
    """
    n, m = len(image), len(text)
    order = owner.argsort()  # the captions by image: right pairs then lie in few of the blocks
    owner = owner[order]
    texts = [(slice(j, j + block), order[j : j + block]) for j in range(0, m, block)]

    right = torch.empty(m, dtype=image.dtype, device=image.device)
    for rows, captions in texts:
        words = _padded(text[captions], block)
        for i in (owner[rows] // block).unique().tolist():
            scores = words @ _padded(image[i * block : (i + 1) * block], block).T
            here = (owner[rows] // block == i).nonzero()[:, 0]
            right[rows][here] = scores[here, owner[rows][here] - i * block]
    best = right.new_full((n,), float("-inf")).scatter_reduce(0, owner, right, "amax")

    text_points, image_points = (torch.zeros(count, dtype=torch.int64, device=image.device) for count in (m, n))
    memory = torch.empty(block, block, device=image.device)
    for rows, captions in texts:
        words = _padded(text[captions], block)
        for i in range(0, n, block):
            columns = slice(i, min(i + block, n))
            scores = (words @ _padded(image[columns], block).T)[: len(captions), : columns.stop - i]
            text_points[rows] += _points(scores, right[rows, None], 1, memory)
            image_points[columns] += _points(scores, best[None, columns], 0, memory)

    # those of the right ones are not counted
    text_points -= (right == right).long()  # it equals itself, unless it is not a number
    own = torch.zeros_like(image_points).index_add(0, owner, _points(right[:, None], best[owner, None], 1))
    captions = torch.bincount(owner, minlength=n)
    text_ranks = (n - 1) - text_points / 2
    image_ranks = (m - captions) - (image_points - own) / 2
    return text_ranks, image_ranks[captions > 0]  # an image without a caption can't be answered


def _padded(rows: Tensor, block: int) -> Tensor:
    return rows if len(rows) == block else F.pad(rows, (0, 0, 0, block - len(rows)))


def _points(scores: Tensor, best: Tensor, dim: int, memory: Tensor | None = None) -> Tensor:
    """Along `dim`: 2 for each score below `best`, 1 for each that equals it, 0 for what is above or not a number."""
    # floats, because booleans are summed four times slower; a block's sum is exact
    out = torch.empty_like(scores) if memory is None else memory[: scores.shape[0], : scores.shape[1]]
    return (torch.lt(scores, best, out=out).sum(dim) + torch.le(scores, best, out=out).sum(dim)).long()

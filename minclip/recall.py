"""Retrieval: recall@k and median rank, from text to image and from image to text (paper, table 13)."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .config import need


@torch.no_grad()
def retrieval(
    image: Tensor, text: Tensor, text_to_image: Tensor | np.ndarray, *, ks: Sequence[int] = (1, 5, 10), block: int = 256
) -> dict[str, float]:
    """Recall@k from 0 to 1 and median rank (1 is the best) in both directions, and the mean of all recalls.

    `image` (N, D) and `text` (M, D) have length 1; text j belongs to image `text_to_image[j]`, any number to an image.
    text -> image: the fraction of texts whose image is among the k nearest.  image -> text: the fraction of images with
    at least one of their texts among the k nearest; images without a text are left out.  A wrong answer that ties with
    the right one counts half: a model that maps everything to one point gets middle ranks, not recall 1.  A NaN score
    never improves a rank.  `block` rows of scores are computed at a time.  MinclipError: a wrong shape or type.
    """
    image, text = torch.as_tensor(image), torch.as_tensor(text)
    owner = torch.as_tensor(text_to_image, device=image.device)  # (M,)
    alike = image.is_floating_point() and image.dtype == text.dtype and image.shape[1:] == text.shape[1:]
    fits = alike and image.ndim == 2 and owner.shape == text.shape[:1] and not owner.is_floating_point()
    got = ", ".join(f"{tuple(x.shape)} {x.dtype}" for x in (image, text, owner))
    need(fits and len(owner), f"image, text and text_to_image must be floats (N, D), (M, D) and integers (M,): {got}")
    inside = int(owner.min()) >= 0 and int(owner.max()) < len(image)
    need(inside, f"text_to_image names images {owner.min()} to {owner.max()}, but there are {len(image)}")
    whole = len(ks) and all(hasattr(n, "__index__") and n >= 1 for n in (*ks, block))
    need(whole, f"ks and block must be whole numbers of at least 1, got {tuple(ks)} and {block}")
    texts, images = torch.arange(len(text), device=owner.device), owner
    ranks = {
        "text_to_image": _ranks(text, image, texts, images, block),
        "image_to_text": _ranks(image, text, images, texts, block)[owner.unique().cpu()],
    }
    recalls = {f"{way}_r@{k}": float((r < k).double().mean()) for way, r in ranks.items() for k in ks}
    medians = {f"{way}_median_rank": 1 + float(np.median(r)) for way, r in ranks.items()}
    return {**recalls, **medians, "mean_recall": sum(recalls.values()) / len(recalls)}


def _ranks(queries: Tensor, answers: Tensor, asked: Tensor, right: Tensor, block: int) -> Tensor:
    """(Q,) on the CPU: the number of wrong answers before the best right one, ties counted half; 0 is the best.

    Queries (Q, D), answers (A, D); the right pair number i is query `asked[i]` and answer `right[i]`.
    """
    # Equal vectors must tie exactly: padded to whole tiles, all columns of the matrix product are rounded alike.
    padded = F.pad(answers, (0, 0, 0, -len(answers) % 64))
    ranks = []
    for start in range(0, len(queries), block):
        q = queries[start : start + block]
        scores = (F.pad(q, (0, 0, 0, -len(q) % 64)) @ padded.T)[: len(q), : len(answers)]  # (block, A)
        here = (asked >= start) & (asked < start + block)
        rows, columns = asked[here] - start, right[here]
        own = scores[rows, columns]  # from the same product: another one would round differently
        best = own.new_full((len(q),), -torch.inf).scatter_reduce(0, rows, own, "amax")[:, None]
        scores[rows, columns] = torch.nan  # neither below nor tied: only wrong answers are counted now
        below, tied = (x.sum(dim=1, dtype=torch.int32) for x in (scores < best, scores == best))
        # counted as not below, so that a wrong answer with a score of NaN comes before the right one
        ranks.append((len(answers) - rows.bincount(minlength=len(q))) - below - tied / 2)
    return torch.cat(ranks).cpu()

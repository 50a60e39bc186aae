"""Checks of notebook 14: precision at k, and NT-Xent."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .judging import judge_tensor


def precision_at_k(function: Callable) -> None:
    """`function(found, asked, k)` should be the mean fraction of right labels among the k nearest, a tensor ().

    `found` (Q, n) are the labels of n neighbors of each query, nearest first; `asked` (Q,) those of the queries.
    """
    found = torch.tensor([[3, 7, 3, 3], [5, 5, 1, 5], [4, 6, 9, 2], [8, 8, 8, 8]])
    asked, k = torch.tensor([3, 5, 2, 8]), 2
    right = found[:, :k] == asked[:, None]
    everywhere = found == asked[:, None]
    mistakes = {
        "you used all n columns: only the k nearest count": everywhere.float().mean(),
        "that is the number of right labels: divide by k and by the number of queries": right.float().sum(),
        "that is the fraction of queries with at least one right page (recall): count every right page": (
            right.any(dim=1).float().mean()
        ),
        "you divided by the number of queries only: divide by k, too": right.float().sum() / len(asked),
        "those are the precisions of the single queries: return their mean": right.float().mean(dim=1),
        "you divided by the number of right pages in the list (recall): divide by k": (
            (right.sum(dim=1) / everywhere.sum(dim=1).clamp(min=1)).float().mean()
        ),
        "you used column k alone: use the first k columns": everywhere[:, k].float().mean(),
    }
    judge_tensor(function, (found, asked, k), right.float().mean(), mistakes=mistakes)


def nt_xent(function: Callable) -> None:
    """`function(a, b, temperature)` should be the mean of 2N cross-entropies over 2N - 1 other views, a tensor ().

    `a` and `b` (N, D) are unit vectors of two views of N images (NT-Xent, Chen et al. 2020, formula 1).
    """
    generator = torch.Generator().manual_seed(1)
    a, b = (F.normalize(torch.randn(3, 4, generator=generator), dim=-1) for _ in range(2))
    z, partner, itself = torch.cat([a, b]), torch.arange(6).roll(3), torch.eye(6, dtype=torch.bool)
    cosines = z @ z.T

    def loss(logits: torch.Tensor, *, masked: bool = True, reduction: str = "mean") -> torch.Tensor:
        logits = logits.masked_fill(itself, -torch.inf) if masked else logits
        return F.cross_entropy(logits, partner, reduction=reduction)

    mistakes = {
        "the diagonal takes part: replace a view's cosine with itself, 1, by −∞": loss(cosines / 0.5, masked=False),
        "you put 0 on the diagonal: e^0 = 1 still takes part, use −∞": (
            F.cross_entropy((cosines / 0.5).masked_fill(itself, 0.0), partner)
        ),
        "you multiplied by the temperature: divide by it": loss(cosines * 0.5),
        "the temperature has no effect: divide the cosines by it": loss(cosines),
        "that is CLIP's loss: here the views of the same side are negatives, too": (
            (F.cross_entropy(a @ b.T / 0.5, torch.arange(3)) + F.cross_entropy(b @ a.T / 0.5, torch.arange(3))) / 2
        ),
        "only N of the 2N rows: add the rows of the second views": (
            F.cross_entropy((cosines / 0.5).masked_fill(itself, -torch.inf)[:3], partner[:3])
        ),
        "that is the sum over the 2N rows: return the mean": loss(cosines / 0.5, reduction="sum"),
    }
    judge_tensor(function, (a, b, 0.5), loss(cosines / 0.5), mistakes=mistakes)

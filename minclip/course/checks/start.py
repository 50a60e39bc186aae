"""Checks of notebook 00."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ...losses import clip_loss
from .judging import NOT_ATTEMPTED, judge_number, run


def symmetric_loss(function: Callable) -> None:
    """`function(image, text, scale)` should be the symmetric contrastive loss."""
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(6, 8, generator=generator), dim=-1) for _ in range(2))
    answer = run(function, image, text, 5.0)
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    logits, target = 5.0 * image @ text.T, torch.arange(6)
    rows, columns = F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)
    mistakes = {
        "only image→text: the other direction, over the columns, is missing": rows,
        "only text→image: the other direction, over the rows, is missing": columns,
        "the two directions are added: take their mean": rows + columns,
        "the scale is missing: multiply the similarities by it": (
            F.cross_entropy(logits / 5, target) + F.cross_entropy(logits.T / 5, target)
        )
        / 2,
        "the similarities are divided by the scale: multiply by it": (
            F.cross_entropy(logits / 25, target) + F.cross_entropy(logits.T / 25, target)
        )
        / 2,
    }
    judge_number(answer, clip_loss(image, text, 5.0), mistakes)


def recall_at_1(function: Callable) -> None:
    """`function(similarity)` should be the fraction of rows whose largest entry is on the diagonal."""
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.3, 0.1], [0.1, 0.2, 0.7]])
    answer = run(function, similarity)
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    mistakes = {
        "that is the fraction of columns: take the largest entry of each row": torch.tensor(1.0),
        "that is the number of right rows: divide it by the number of all rows": torch.tensor(2.0),
        "that is the mean of the diagonal: find the column where each row is largest": similarity.diagonal().mean(),
    }
    judge_number(answer, torch.tensor(2 / 3), mistakes)

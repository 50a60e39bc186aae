"""Checks of notebook 04."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from .judging import NOT_ATTEMPTED, judge_number, judge_tensor, run


def cosine_matrix(function: Callable) -> None:
    """`function(image, text)`, (n, D) and (m, D), should be all their cosines, (n, m)."""
    image, text = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).split([3, 5])
    right = F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    mistakes = {
        "these are plain dot products: give each vector the length 1 first": image @ text.T,
        "the texts still have their own lengths": F.normalize(image, dim=1) @ text.T,
        "the images still have their own lengths": image @ F.normalize(text, dim=1).T,
        "you normalized the columns: each row is a vector (dim=1)": F.normalize(image, dim=0)
        @ F.normalize(text, dim=0).T,
        "divide by the length, not by its square": (image / image.square().sum(1, keepdim=True))
        @ (text / text.square().sum(1, keepdim=True)).T,
        "rows are images, columns are texts: yours is the transpose": right.T,
    }
    judge_tensor(function, (image.clone(), text.clone()), right, mistakes=mistakes)


def scale_needed(function: Callable) -> None:
    """`function(right, wrong, batch, p)` should be the scale that gives the right caption p.

    Its cosine is `right`, that of the batch - 1 others is `wrong`.
    """
    right, wrong, batch, p = 0.3, 0.1, 5, 0.9
    answer = run(function, right, wrong, batch, p)
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    odds = p / (1 - p)
    scale = math.log((batch - 1) * odds) / (right - wrong)
    mistakes = {
        "there are batch - 1 wrong captions: the right one is not among them": math.log(batch * odds) / (right - wrong),
        "only one wrong caption was counted: there are batch - 1": math.log(odds) / (right - wrong),
        "that makes the right one as likely as all wrong ones together: use p, too": math.log(batch - 1)
        / (right - wrong),
        "use the odds of the right caption: p / (1 - p), not p": math.log((batch - 1) * p) / (right - wrong),
        "divide by the difference of the cosines": math.log((batch - 1) * odds),
        "the softmax sees the difference right - wrong, not right alone": math.log((batch - 1) * odds) / right,
        "that is the temperature: the scale is 1 divided by it": 1 / scale,
        "that is the logarithm of the scale": math.log(scale),
        "the sign is wrong: the right one has the larger cosine": -scale,
    }
    judge_number(answer, torch.tensor(scale), {name: torch.tensor(value) for name, value in mistakes.items()})


def csls(function: Callable) -> None:
    """`function(similarity, k)`, (n, m), should be 2 · similarity - its rows' means of k largest - its columns'."""
    similarity = torch.rand(4, 6, generator=torch.Generator().manual_seed(0))
    rows = similarity.topk(2, dim=1).values.mean(dim=1, keepdim=True)
    columns = similarity.topk(2, dim=0).values.mean(dim=0)

    def smallest(dim: int) -> torch.Tensor:
        return similarity.topk(2, dim=dim, largest=False).values.mean(dim=dim, keepdim=True)

    mistakes = {
        "count the similarity twice: two means are subtracted from it": similarity - rows - columns,
        "the columns' means are missing: they are large for hubs": 2 * similarity - rows,
        "the rows' means are missing": 2 * similarity - columns,
        "take the mean of the k largest only, not of all": 2 * similarity
        - similarity.mean(dim=1, keepdim=True)
        - similarity.mean(dim=0),
        "these are the k smallest: take the nearest, the k largest": 2 * similarity - smallest(1) - smallest(0),
        "take the means, not the sums": 2 * similarity - 2 * rows - 2 * columns,
        "subtract the means": 2 * similarity + rows + columns,
    }
    judge_tensor(function, (similarity.clone(), 2), 2 * similarity - rows - columns, mistakes=mistakes)

"""Checks of the game in notebook 11."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .judging import judge_cases, judge_tensor


def mixed(function: Callable) -> None:
    """`function(texts, examples, w)`, (C, D), (C, k, D) and a number, should be the classifier (D, C)."""
    generator = torch.Generator().manual_seed(0)
    texts, examples = (F.normalize(torch.randn(*n, generator=generator), dim=-1) for n in ((4, 5), (4, 2, 5)))

    def by(w: float, mean: torch.Tensor, dim: int = -1) -> torch.Tensor:
        return F.normalize(w * texts + (1 - w) * mean, dim=dim).T

    mean, unit, w = examples.mean(dim=1), F.normalize(examples.mean(dim=1), dim=-1), 0.3
    right = by(w, unit)
    mistakes = {
        "normalize the mean of the examples before you mix: two examples that differ have a short mean": by(w, mean),
        "normalize at the end, too: a mix of two unit vectors is shorter than 1": (w * texts + (1 - w) * unit).T,
        "nothing was normalized: the mean before mixing, and the mix": (w * texts + (1 - w) * mean).T,
        "w belongs to the sentence, 1 - w to the examples": by(1 - w, unit),
        "these are the examples only: mix in w times the texts": unit.T,
        "that is the first example only: take the mean of all k": by(w, examples[:, 0]),
        "normalize along D, the last dimension, not along the classes": by(w, unit, dim=0),
        "transpose it: a classifier (D, C) has a column for each class": right.T,
    }
    judge_tensor(function, (texts.clone(), examples.clone(), w), right, mistakes=mistakes)


def where_gained(function: Callable) -> None:
    """`function(before, after, right)`, (N,) each, should be the gains (on unanswered, on answered) of all N."""
    right = [0, 1, 2, 3, 4, 5, 6, 7]
    before, after = [0, 1, 0, 3, -1, -1, -1, -1], [0, 1, 2, 0, 4, 5, 6, 0]
    cases = [
        (
            (before, after, right),
            [0.375, 0.0],
            {
                "the order is (unanswered, answered)": [0.0, 0.375],
                "divide by the number of all pictures, not by that of each group": [0.75, 0.0],
                "these are counts: divide by the number of pictures": [3.0, 0.0],
                "that is the accuracy after: subtract the one before": [0.375, 0.375],
                "a picture that was right and is now wrong counts as a loss: subtract it": [0.375, 0.125],
            },
        ),
        (
            ([-1, 1], [0, 0], [0, 1]),
            [0.5, -0.5],
            {"a loss is negative: don't take the absolute value": [0.5, 0.5]},
        ),
    ]

    def rounded(*lists: list[int]) -> object:
        answer = function(*(torch.tensor(values) for values in lists))
        return [round(float(value), 6) for value in answer] if isinstance(answer, tuple | list) else answer

    judge_cases(rounded, cases)

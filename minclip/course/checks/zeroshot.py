"""Checks of notebook 08."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .judging import NOT_ATTEMPTED, judge_cases, judge_number, judge_tensor, run


def ensemble(function: Callable) -> None:
    """`function(prompts)`, (T, C, D) of any length, should be the classifier (D, C)."""
    prompts = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
    prompts = prompts * torch.tensor([1.0, 3.0, 0.5])[:, None, None]
    unit = F.normalize(prompts, dim=-1)
    right = F.normalize(unit.mean(dim=0), dim=-1).T
    transposed = "transpose it: a classifier (D, C) has a column for each class"
    last = "the mean of vectors of length 1 is shorter than 1: normalize it again, at the end"
    first = "normalize the prompts before the mean: longer vectors outweigh the others"
    mistakes = {
        last: unit.mean(dim=0).T,
        first: F.normalize(prompts.mean(dim=0), dim=-1).T,
        "nothing was normalized: before the mean, and after it": prompts.mean(dim=0).T,
        "the mean goes over the templates (the first dimension), not over the classes": F.normalize(
            unit.mean(dim=1), dim=-1
        ).T,
        "each column should have length 1, not each row: normalize along D": F.normalize(unit.mean(dim=0).T, dim=-1),
        "normalize along D, the last dimension": F.normalize(
            F.normalize(prompts, dim=1).mean(dim=0), dim=-1
        ).T,
        "that is the first template only: take the mean of all": unit[0].T,
    }  # fmt: skip
    mistakes |= {transposed: right.T, f"{last}; and {transposed}": unit.mean(dim=0)}
    judge_tensor(function, (prompts.clone(),), right, mistakes=mistakes)


def mean_per_class(function: Callable) -> None:
    """`function(answers, labels)`, (N,) each, should be the mean of the classes' accuracies."""
    answers, labels = torch.tensor([0, 0, 0, 0, 0, 0, 2, 1, 0, 0]), torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 3])
    answer = run(function, answers.clone(), labels.clone())
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    if isinstance(answer, float | torch.Tensor) and torch.as_tensor(answer).isnan().any():
        raise AssertionError("class 2 has no image here, and 0 of 0 is not a number: leave it out")
    hits = {0: 6 / 7, 1: 1 / 2, 3: 0.0}
    of_answers = (6 / 8 + 1 / 1 + 0) / 3
    mistakes = {
        "that is the plain accuracy: the large class outweighs the small ones": 0.7,
        "class 2 has no image here: leave it out, don't count it as 0": sum(hits.values()) / 4,
        "you took the images *predicted* as a class (precision): take those that *belong* to it": of_answers,
        "that is the sum: divide by the number of classes": sum(hits.values()),
        "a class without a single right answer counts, too, as 0": sum(hits.values()) / 2,
        "that is in percent: return a fraction of 1": 100 * sum(hits.values()) / 3,
        "these are counts of right answers: divide each by the number of images of its class": 7 / 3,
    }
    judge_number(answer, torch.tensor(sum(hits.values()) / 3), {k: torch.tensor(v) for k, v in mistakes.items()})


def reject(function: Callable) -> None:
    """`function(cosines, threshold)`, (N, C), should be each row's class, or -1 below the threshold."""
    cosines = [[0.6, 0.2, 0.1], [0.30, 0.35, 0.1], [0.1, 0.2, 0.5], [0.3, 0.4, 0.9], [-0.9, -0.2, -0.8]]
    none = "nothing is rejected: return -1 where the largest cosine, not its softmax, is below the threshold"
    softmaxed = "that is a threshold on the softmax, whose probabilities always sum to 1: use the cosine itself"
    cases = [
        (
            (cosines, 0.5),
            [0, -1, 2, 2, -1],
            {
                none: [0, 1, 2, 2, 1],
                "a cosine that equals the threshold is not below it: compare with <": [0, -1, -1, 2, -1],
                "the wrong ones are rejected: -1 where the largest cosine is *below* the threshold": [-1, 1, -1, -1, 1],
                "these are booleans: return the class, or -1": [True, False, True, True, False],
                "these are the largest cosines: return the class of each": [
                    max(row) for row in torch.tensor(cosines).tolist()
                ],
                softmaxed: [-1, -1, -1, -1, -1],
            },
        ),
        (
            ([[0.1, 0.35, 0.1], [0.2, 0.1, 0.1]], 0.3),
            [1, -1],
            {softmaxed: [1, 0], "use the threshold that was passed, not one of your own": [-1, -1]},
        ),
    ]
    judge_cases(lambda rows, threshold: function(torch.tensor(rows), threshold), cases)

"""Checks of notebook 09: smoothing, a sentence's log-likelihood, and the images needed for an accuracy."""

from collections.abc import Callable

import torch

from .judging import NOT_ATTEMPTED, judge_cases, judge_number, judge_tensor, run


def jelinek_mercer(function: Callable) -> None:
    """`function(observed, weight)` should mix an n-gram's estimates, highest order first, with the lower orders."""

    def rounded(observed: tuple[float, ...], weight: float) -> object:
        answer = run(function, list(observed), weight)
        return answer if answer is NOT_ATTEMPTED else round(_number(answer), 5)

    def case(observed: tuple[float, ...], weight: float) -> tuple:
        mistakes = {
            "the lowest order has nothing below it: take its estimate as it is": _mixed(observed, weight, last=weight),
            "`weight` belongs to the higher order, 1 − weight to all that is below it": _mixed(observed, 1 - weight),
            "the list begins with the highest order: start from its end": _mixed(observed[::-1], weight),
            "that is the highest order alone: an n-gram never seen would have probability 0": observed[0],
            "that is the lowest order alone: mix the higher ones in": observed[-1],
        }
        mean = "that is the mean of all orders: each order gets `weight`, all below it share 1 − weight"
        mistakes[mean] = sum(observed) / len(observed)
        right = round(_mixed(observed, weight), 5)
        wrong = {name: round(value, 5) for name, value in mistakes.items() if round(value, 5) != right}
        return (observed, weight), right, wrong

    cases = [((0.0, 0.3, 0.1), 0.75), ((0.4, 0.1), 0.8), ((0.9, 0.5, 0.2, 0.05), 0.6), ((0.25,), 0.9)]
    judge_cases(rounded, [case(*given) for given in cases])


def _mixed(observed: tuple[float, ...], weight: float, last: float = 1.0) -> float:
    """λ · p_n + (1 − λ) · (λ · p_{n-1} + …); the lowest order is multiplied by `last`."""
    if len(observed) == 1:
        return last * observed[0]
    return weight * observed[0] + (1 - weight) * _mixed(observed[1:], weight, last)


def _number(answer: object) -> float:
    if isinstance(answer, torch.Tensor) and answer.numel() == 1:
        return float(answer)
    if not isinstance(answer, int | float):
        raise AssertionError(f"the answer should be one number, not {answer!r}")
    return float(answer)


def sentence_score(function: Callable) -> None:
    """`function(log_p, ids)`, (C, L, V) and (C, L), should be each sentence's log-likelihood (C,), real words only."""
    generator = torch.Generator().manual_seed(0)
    log_p = torch.randn(3, 5, 7, generator=generator).log_softmax(dim=2)
    ids = torch.tensor([[2, 4, 6, 1, 0], [3, 5, 1, 0, 0], [2, 3, 4, 5, 1]])
    each = log_p.gather(2, ids[:, :, None])[:, :, 0]
    word = ids > 1
    right = (each * word).sum(dim=1)
    mistakes = {
        "padding is not a word: leave out the places where ids is 0": each.sum(dim=1),
        "the end symbol (1) is not a word of the class: leave it out, too": (each * (ids > 0)).sum(dim=1),
        "that is the mean over the words: the log of a product is the sum": right / word.sum(dim=1),
        "that is the likelihood: stay with logarithms, and add them": right.exp(),
        "that is the sum of the probabilities: add their logarithms": (each.exp() * word).sum(dim=1),
        "a log-likelihood is negative: yours has the sign of a loss": -right,
    }
    judge_tensor(function, (log_p.clone(), ids.clone()), right, mistakes=mistakes)


def images_to_reach(function: Callable) -> None:
    """`function(marks, accuracy, level)` should be the images needed, interpolated on a logarithmic axis."""
    marks, accuracy, level = [1024, 2048, 4096, 8192], [0.05, 0.15, 0.30, 0.55], 0.2
    answer = run(function, list(marks), list(accuracy), level)
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    mistakes = {
        "that is the first mark above the level: interpolate between it and the one before": 4096.0,
        "that is the last mark below the level: interpolate between it and the next one": 2048.0,
        "the axis is logarithmic: interpolate log2(images), then take 2 to that power": 2048 + 2048 / 3,
        "that is log2 of the number: take 2 to that power": 11 + 1 / 3,
    }
    right = torch.tensor(2 ** (11 + 1 / 3))
    judge_number(answer, right, {name: torch.tensor(wrong) for name, wrong in mistakes.items()})

"""Checks of notebook 15: the operations of a convolution, and the slope of a power law."""

import math
from collections.abc import Callable

import torch

from .judging import NOT_ATTEMPTED, judge_cases, run


def convolution_flops(function: Callable) -> None:
    """`function(side, before, after, kernel, stride, groups)` should count multiplications and additions, an int.

    Images of side² pixels and `before` channels become `after` channels; the padding is (kernel − 1) / 2.
    """
    judge_cases(
        function, [_convolution(case) for case in ((8, 4, 6, 3, 1, 1), (9, 8, 8, 3, 2, 1), (9, 8, 16, 5, 2, 8))]
    )


def _convolution(case: tuple[int, ...]) -> tuple[tuple, object, dict[str, object]]:
    side, before, after, kernel, stride, groups = case
    out, total = -(-side // stride), kernel**2 * before * after // groups
    mistakes: dict[str, object] = {
        "that is half of it: a multiplication and an addition are two operations": out**2 * total,
        "the stride is missing: with stride 2, there is an output at every second pixel only": 2 * side**2 * total,
        "each output channel sees before / groups channels": 2 * out**2 * total * groups,
        "a side is rounded up: 9 pixels with stride 2 have 5 outputs": 2 * (side // stride) ** 2 * total,
        "the kernel is a square: kernel² pixels": 2 * out**2 * total // kernel,
        "the grid is a square: side² outputs": 2 * out * total,
    }
    right = 2 * out**2 * total
    return case, right, {name: wrong for name, wrong in mistakes.items() if wrong != right}


def power_law(function: Callable) -> None:
    """`function(compute, error)`, two lists, should be the least-squares slope of log(error) over log(compute)."""
    cases = [([1.0, 10.0, 100.0], [0.8, 0.4, 0.2]), ([1e9, 3e9, 2e10, 1e11], [0.6, 0.5, 0.2, 0.15])]
    for compute, error in cases:
        answer = run(function, list(compute), list(error))
        if answer is NOT_ATTEMPTED:
            print(NOT_ATTEMPTED)
            return
        try:
            value = float(answer)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise AssertionError(f"the answer should be one number, not {answer!r}") from None
        x, y = [math.log(c) for c in compute], [math.log(e) for e in error]
        right = _slope(x, y)
        mistakes = {
            "that is the slope without logarithms: a power law is straight on two logarithmic axes": _slope(
                compute, error
            ),
            "you took the logarithm of the compute only: take that of the error, too": _slope(x, error),
            "you took the logarithm of the error only: take that of the compute, too": _slope(compute, y),
            "that is log(compute) over log(error): the other way round": _slope(y, x),
            "the sign is wrong: the error falls, so the slope is negative": -right,
            "that is the line through the first and the last point: fit all points": (y[-1] - y[0]) / (x[-1] - x[0]),
            "that is what ten times the compute does to the error, 10 ** slope: return the slope": 10**right,
            "the error's logarithm has another base than the compute's": right / math.log(10),
            "the compute's logarithm has another base than the error's": right * math.log(10),
        }
        if math.isclose(value, right, rel_tol=1e-3):
            continue
        for name, wrong in mistakes.items():
            if math.isclose(value, wrong, rel_tol=1e-3):
                raise AssertionError(name)
        raise AssertionError(f"for compute {compute} and error {error}: got {value:.4f}, expected {right:.4f}")
    print("right!")


def _slope(x: list[float], y: list[float]) -> float:
    """Slope of the least-squares line of y over x."""
    a, b = torch.tensor(x, dtype=torch.float64), torch.tensor(y, dtype=torch.float64)
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (a * a).sum())

"""Checks of notebook 11: the search for C, and the number of labels that a sentence is worth."""

import math
from collections.abc import Callable
from typing import Any

from .judging import NOT_ATTEMPTED, run


def coarse_to_fine(function: Callable) -> None:
    """`function(score)` should find the i of 0 to 96 with the best `score(i)`, trying at most 40 of them."""
    for name, right, height in (
        ("a peak at 43", 43, lambda i: -abs(i - 43)),
        ("a peak at 96", 96, lambda i: i),
        ("a peak at 0", 0, lambda i: -i),
        ("equal values from 30 to 50", 30, lambda i: -max(0, 30 - i, i - 50)),
    ):
        answer, tried = _searched(function, height)
        if answer is NOT_ATTEMPTED:
            print(NOT_ATTEMPTED)
            return
        if isinstance(answer, float) and math.isclose(answer, 10 ** (right / 8 - 6)):
            raise AssertionError("that is C itself: return its index i, from 0 to 96")
        if not isinstance(answer, int):
            raise AssertionError(f"the answer should be a whole number from 0 to 96, not {answer!r}")
        if len(tried) > 40:
            raise AssertionError(f"you tried {len(tried)} of the 97 values: start with every 16th, then halve the step")
        if answer == 50 and right == 30:
            raise AssertionError("30 to 50 are equally good: a tie goes to the smallest, which regularizes most")
        if answer != right and answer % 16 == 0:
            raise AssertionError(
                f"{name}: you stopped at {answer}, a multiple of 16: halve the step and try its neighbors"
            )
        if answer != right:
            raise AssertionError(f"{name}: got {answer}, expected {right}; the steps are 8, 4, 2 and 1")
    print("right!")


def _searched(function: Callable, height: Callable[[int], float]) -> tuple[Any, set[int]]:
    """The function's answer, and the set of indices that it tried."""
    tried: set[int] = set()

    def score(i: int) -> float:
        if not 0 <= i <= 96:
            raise AssertionError(f"score({i}): the values are numbered from 0 to 96, leave out the others")
        tried.add(i)
        return float(height(i))

    return run(function, score), tried


def shots_worth(function: Callable) -> None:
    """`function(curve, zero_shot)`, k -> accuracy, should be the k that matches zero-shot, or None."""
    curve = {1: 0.25, 2: 0.5, 4: 0.75, 8: 0.875}
    dips = {1: 0.25, 2: 0.5, 4: 0.375, 8: 0.75}
    between = "the crossing lies between two points: interpolate"
    cases: list[tuple[dict[int, float], float, float | None, dict[str, object]]] = [
        (
            curve,
            0.625,
            2**1.5,
            {
                "halfway between 2 and 4 is 2.83 on an axis of log k, not 3: interpolate log2 k": 3.0,
                "that is log2 k: return k": 1.5,
                f"that is the first k at or above zero-shot; {between}": 4,
                f"that is the last k below zero-shot; {between}": 2,
            },
        ),
        (curve, 0.2, 1.0, {"the curve starts above zero-shot: return the first k": None}),
        (dips, 0.45, 2**0.8, {"the curve dips below zero-shot again: take the *first* crossing": 2 ** (2 + 0.2)}),
        (dips, 0.75, 8.0, {"at k = 8 the curve equals zero-shot: that counts as reached": None}),
    ]
    if function(dict(curve), 0.9) not in (None, ...):
        raise AssertionError("the curve stays below zero-shot: return None")
    for given, level, right, mistakes in cases:
        answer = function(dict(given), level)
        if answer is ... or (answer is None and given is curve and level == 0.625):
            print(NOT_ATTEMPTED)
            return
        for name, wrong in mistakes.items():
            if answer == wrong or _close(answer, wrong):
                raise AssertionError(name)
        if not _close(answer, right):
            raise AssertionError(f"for {given} and zero-shot {level}: got {answer!r}, expected {right:.3f}")
    print("right!")


def _close(answer: object, value: object) -> bool:
    numbers = all(isinstance(x, int | float) for x in (answer, value))
    return numbers and math.isclose(float(answer), float(value), abs_tol=1e-4)  # type: ignore[arg-type]

"""Judges an answer: right, not attempted, or a known mistake."""

import contextlib
import copy
from collections.abc import Callable

import torch

NOT_ATTEMPTED = "not attempted yet: fill in the function, then run this cell again"


def run(function: Callable, *arguments: object) -> object:
    """The function's answer, or NOT_ATTEMPTED if the stub is untouched (it returns None or ...)."""
    answer = function(*arguments)
    return NOT_ATTEMPTED if answer is None or answer is ... else answer


def judge_number(answer: object, right: torch.Tensor, mistakes: dict[str, torch.Tensor]) -> None:
    """Prints that the answer is right, or raises an AssertionError that names the mistake."""
    try:
        value = torch.as_tensor(answer, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"the answer should be one number, not {answer!r}") from None
    if value.ndim:
        raise AssertionError(f"the answer should be one number; yours has shape {tuple(value.shape)}")
    if torch.isclose(value, right, atol=1e-4):
        print("right!")
        return
    for name, wrong in mistakes.items():
        if torch.isclose(value, wrong, atol=1e-4):
            raise AssertionError(name)
    raise AssertionError(f"got {value:.4f}, expected {right:.4f}")


def judge_cases(function: Callable, cases: list[tuple[tuple, object, dict[str, object]]]) -> None:
    """Judges cases of (arguments, right answer, {message of the AssertionError: the wrong answer it explains})."""
    for arguments, right, mistakes in cases:
        given = copy.deepcopy(arguments)
        answer = run(function, *given)
        if answer is NOT_ATTEMPTED:
            print(NOT_ATTEMPTED)
            return
        answer = answer.tolist() if isinstance(answer, torch.Tensor) else answer
        answer = list(answer) if isinstance(answer, tuple) else answer
        for name, wrong in mistakes.items():
            if answer == wrong:
                raise AssertionError(name)
        if answer != right:
            raise AssertionError(f"for {', '.join(map(repr, arguments))}: got {answer!r}, expected {right!r}")
        if given != arguments:
            raise AssertionError("the function changed the list it was given: build a new one")
    print("right!")


def rounded(function: Callable, digits: int = 4) -> Callable:
    """The function with its answer, one number, rounded, so that `judge_cases` can compare it.

    Raises AssertionError for an answer that is no number.
    """

    def answer(*arguments: object) -> object:
        value = run(function, *arguments)
        if value is NOT_ATTEMPTED:
            return value
        with contextlib.suppress(TypeError, ValueError, RuntimeError):  # None, a list, a tensor of several numbers
            if not isinstance(value, str):
                return round(float(value), digits)
        raise AssertionError(f"the answer should be one number, not {value!r}")

    return answer


def judge_tensor(
    function: Callable, arguments: tuple, right: torch.Tensor, *, mistakes: dict[str, torch.Tensor]
) -> None:
    """Prints that the tensor is right, or raises an AssertionError that names the mistake."""
    answer = run(function, *arguments)
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    if not isinstance(answer, torch.Tensor):
        raise AssertionError(f"the answer should be a tensor, not {type(answer).__name__}")
    for name, wrong in mistakes.items():
        if answer.shape == wrong.shape and torch.allclose(answer.float(), wrong.float(), atol=1e-5):
            raise AssertionError(name)
    if answer.shape != right.shape:
        raise AssertionError(f"the answer should have shape {tuple(right.shape)}; yours has {tuple(answer.shape)}")
    if not torch.allclose(answer.float(), right.float(), atol=1e-5):
        raise AssertionError("the shape is right, the numbers are not: check a small example by hand")
    print("right!")

"""Checks of notebook 12: effective robustness, and mixing the weights of two models."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .judging import NOT_ATTEMPTED, run


def _logit(p: Tensor) -> Tensor:
    return torch.log(p / (1 - p))


def effective_robustness(function: Callable) -> None:
    """`function(accuracy, shifted, slope, intercept)` should be the effective robustness (logits, points).

    Accuracies are fractions; the line predicts logit(shifted) = slope · logit(accuracy) + intercept.  Logits are the
    distance above the line, points that of the accuracies in percentage points (Taori et al. 2020).
    """
    for a, s, slope, intercept in ((0.8, 0.7, 0.5, -0.25), (0.95, 0.9, 1.0, 0.0), (0.9, 0.5, 0.75, 0.5)):
        answer = run(function, a, s, slope, intercept)
        if answer is NOT_ATTEMPTED:
            print(NOT_ATTEMPTED)
            return
        given = f"accuracy {a}, shifted {s}, slope {slope}, intercept {intercept}"
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise AssertionError(f"return two numbers, (logits, points), not {answer!r}")
        try:
            logits, points = (float(value) for value in answer)
        except (TypeError, ValueError):
            raise AssertionError(f"return two numbers, (logits, points), not {answer!r}") from None
        x, y = torch.tensor(a, dtype=torch.float64), torch.tensor(s, dtype=torch.float64)
        line = slope * _logit(x) + intercept
        right, in_points = float(_logit(y) - line), float(100 * (y - line.sigmoid()))
        _judge(logits, right, _wrong_logits(x, y, slope=slope, intercept=intercept), what=f"{given}: logits")
        mistakes = {
            "that is a fraction: multiply it by 100 for percentage points": in_points / 100,
            "an accuracy minus a logit: turn the line's logit into an accuracy first (sigmoid)": float(
                100 * (y - line)
            ),
            "100 times the logits are not points: subtract two accuracies": 100 * right,
            "that is the sigmoid of the difference: take the sigmoid of the line, then subtract": float(
                100 * torch.tensor(right).sigmoid()
            ),
            "that is the fall from the ordinary images: subtract what the line predicts": float(100 * (y - x)),
        }
        _judge(points, in_points, mistakes, what=f"{given}: points")
    print("right!")


def _wrong_logits(x: Tensor, y: Tensor, *, slope: float, intercept: float) -> dict[str, float]:
    """Messages and the wrong answers in logits that they explain; x and y are the accuracies."""
    line = slope * _logit(x) + intercept
    return {
        "the sign is the wrong way round: above the line is positive": float(line - _logit(y)),
        "the line lives in logits: transform both accuracies first": float(y - (slope * x + intercept)),
        "the shifted accuracy is still a fraction: take its logit, too": float(y - line),
        "log p is not the logit: use log(p / (1 - p))": float(torch.log(y) - (slope * torch.log(x) + intercept)),
        "that is the fall from the ordinary images: subtract what the line predicts": float(_logit(y) - _logit(x)),
    }


def _judge(value: float, right: float, mistakes: dict[str, float], *, what: str) -> None:
    if abs(value - right) > 1e-3:
        for name, wrong in mistakes.items():
            if abs(value - wrong) <= 1e-3:
                raise AssertionError(name)
        raise AssertionError(f"{what}: got {value:.3f}, expected {right:.3f}")


def mix_weights(function: Callable) -> None:
    """`function(a, b, alpha)`, dicts of name -> tensor, should be (1 - alpha) of a and alpha of b, name by name."""
    a = {"head": torch.tensor([2.0, 0.0]), "tower": torch.tensor([[1.0, -1.0]])}
    b = {"head": torch.tensor([6.0, 4.0]), "tower": torch.tensor([[3.0, 1.0]])}
    for alpha in (0.25, 0.0, 1.0):
        given = ({k: v.clone() for k, v in a.items()}, {k: v.clone() for k, v in b.items()})
        answer: Any = run(function, *given, alpha)
        if answer is NOT_ATTEMPTED:
            print(NOT_ATTEMPTED)
            return
        if not isinstance(answer, dict) or set(answer) != set(a):
            raise AssertionError("return a dict with the names of both models, here 'head' and 'tower'")
        for k in a:
            if not isinstance(answer[k], Tensor) or answer[k].shape != a[k].shape:
                raise AssertionError(f"{k!r} should be a tensor of shape {tuple(a[k].shape)}, not {answer[k]!r}")
        if any(not torch.equal(x[k], y[k]) for x, y in zip(given, (a, b)) for k in a):
            raise AssertionError("the function changed the weights it was given: build new tensors")
        mistakes = {
            "alpha is the weight of b, the adapted model; in yours it is that of a": lambda k, alpha=alpha: torch.lerp(
                b[k], a[k], alpha
            ),
            "the two weights must add up to 1: multiply a by 1 - alpha": lambda k, alpha=alpha: a[k] + alpha * b[k],
            "you mixed the head only: mix the tower's weights, too": lambda k, alpha=alpha: (
                torch.lerp(a[k], b[k], alpha) if k == "head" else a[k]
            ),
        }
        if all(torch.allclose(answer[k], torch.lerp(a[k], b[k], alpha)) for k in a):
            continue
        for name, wrong in mistakes.items():
            if all(torch.allclose(answer[k], wrong(k)) for k in a):
                raise AssertionError(name)
        raise AssertionError(
            f"alpha = {alpha}: got {answer}, expected { ({k: torch.lerp(a[k], b[k], alpha) for k in a}) }"
        )
    print("right!")

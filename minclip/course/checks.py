"""Checks of the exercises: `check.name(function)` says what is right or names the mistake."""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ..losses import clip_loss

NOT_ATTEMPTED = "not attempted yet: fill in the function, then run this cell again"


def _run(function: Callable, *arguments: object) -> object:
    """The function's answer, or a message where the stub is untouched (it returns None or ...)."""
    answer = function(*arguments)
    return NOT_ATTEMPTED if answer is None or answer is ... else answer


def symmetric_loss(function: Callable) -> None:
    """Exercise of notebook 00: `function(image, text, scale)` should be the symmetric contrastive loss."""
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(6, 8, generator=generator), dim=-1) for _ in range(2))
    answer = _run(function, image, text, 5.0)
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
    _judge(answer, clip_loss(image, text, 5.0), mistakes)


def recall_at_1(function: Callable) -> None:
    """Exercise of notebook 00: `function(similarity)` should be the share of rows whose largest entry is on the diagonal."""
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.3, 0.1], [0.1, 0.2, 0.7]])
    answer = _run(function, similarity)
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    mistakes = {
        "that is the share of columns: take the largest entry of each row": torch.tensor(1.0),
        "that is a number of rows: divide by how many there are": torch.tensor(2.0),
        "that is the mean of the diagonal: ask where each row is largest": similarity.diagonal().mean(),
    }
    _judge(answer, torch.tensor(2 / 3), mistakes)


def _judge(answer: object, right: torch.Tensor, mistakes: dict[str, torch.Tensor]) -> None:
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

"""Checks of notebook 06."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .judging import NOT_ATTEMPTED, judge_tensor, run


def warmup_cosine(function: Callable) -> None:
    """`function(progress, warmup)` should rise linearly to 1 and fall to 0 as half a cosine."""
    places, warmup = [0.05, 0.1, 0.2, 0.325, 0.55, 0.775, 0.9, 1.0], 0.1

    def falling(after: Callable[[float], float], rising: Callable[[float], float] = lambda p: p / warmup) -> Tensor:
        return torch.tensor([rising(p) if p < warmup else after(p) for p in places])

    def half(angle: float) -> float:
        return (1 + math.cos(math.pi * angle)) / 2

    right = falling(lambda p: half((p - warmup) / (1 - warmup)))
    mistakes = {
        "the cosine starts where the warm-up ends: count from there, (progress - warmup) / (1 - warmup)": falling(half),
        "from the end of the warm-up, progress - warmup only reaches 1 - warmup: divide by that": falling(
            lambda p: half(p - warmup)
        ),
        "a cosine goes from 1 to -1: add 1 and halve it": falling(
            lambda p: math.cos(math.pi * (p - warmup) / (1 - warmup))
        ),
        "half a cosine ends at π; yours ends at π/2": falling(lambda p: half((p - warmup) / (1 - warmup) / 2)),
        "that falls in a straight line, not as a cosine": falling(lambda p: (1 - p) / (1 - warmup)),
        "the warm-up is missing": falling(
            lambda p: half((p - warmup) / (1 - warmup)), lambda p: half((p - warmup) / (1 - warmup))
        ),
        "the warm-up should reach 1 at its end: divide by warmup": falling(
            lambda p: half((p - warmup) / (1 - warmup)), lambda p: p
        ),
    }  # fmt: skip
    mistakes["half a cosine ends at the angle π; yours goes on to 2π"] = falling(
        lambda p: half(2 * (p - warmup) / (1 - warmup))
    )
    first = run(function, places[0], warmup)
    if first is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    answers = [function(p, warmup) for p in places]
    if any(answer is None or answer is ... for answer in answers):
        raise AssertionError(
            "your function returns nothing for some values of progress: return a number before and after the warm-up"
        )
    answer = torch.tensor([float(answer) for answer in answers])
    judge_tensor(lambda: answer, (), right, mistakes=mistakes)


def clip_together(function: Callable) -> None:
    """`function(grads, most)` should return the list of gradients, clipped as one vector."""
    grads = [torch.tensor([1.0, 7.0]), torch.tensor([[5.0], [3.0]]), torch.tensor(4.0)]  # their norm is 10

    def flat(parts: list[Tensor]) -> Tensor:
        return torch.cat([part.flatten() for part in parts])

    mistakes = {
        "each gradient was clipped on its own: the direction of the whole has changed": flat(
            [g * min(1.0, 5 / g.norm().item()) for g in grads]
        ),
        "single values were clamped: the direction of the whole has changed": flat([g.clamp(-5, 5) for g in grads]),
        "norms don't add up: the norm of the whole is the square root of the sum of their squares": flat(
            [g * 5 / sum(x.norm() for x in grads) for g in grads]
        ),
        "the square root is missing: the norm is the root of the sum of squares": flat([g * 5 / 100 for g in grads]),
        "the norm of the whole is 1 now, not `most`": flat([g / 10 for g in grads]),
        "nothing was clipped, though the norm of the whole is above `most`": flat(grads),
    }  # fmt: skip
    answer = run(function, [g.clone() for g in grads], 5.0)
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    if not isinstance(answer, list | tuple) or [getattr(a, "shape", None) for a in answer] != [g.shape for g in grads]:
        raise AssertionError("the answer should be a list of tensors with the shapes of those given")
    short = flat(list(function([g.clone() for g in grads], 20.0)))
    if torch.allclose(short, 2 * flat(grads), rtol=1e-3):
        raise AssertionError("a gradient whose norm is below `most` was made longer: it should stay as it is")
    judge_tensor(lambda: flat(list(answer)), (), 0.5 * flat(grads), mistakes=mistakes)
    assert torch.allclose(short, flat(grads), rtol=1e-3), "a gradient whose norm is below `most` should stay as it is"


def cached_gradients(function: Callable) -> None:
    """`function(tower, inputs, size, loss)` should leave the gradient of the large batch in `.grad`.

    `tower` makes (B, D) of (B, W) inputs, `loss` a number of all (B, D); only `size` rows may go through at a time.
    """
    torch.manual_seed(0)
    inputs, weight = torch.randn(6, 4), torch.randn(3, 4)
    sizes: list[tuple[int, bool]] = []

    class Tower(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(weight.clone())

        def forward(self, x: Tensor) -> Tensor:
            sizes.append((len(x), torch.is_grad_enabled()))
            return (x @ self.weight.T).tanh()

    def loss(features: Tensor) -> Tensor:  # as in CLIP, each row's part depends on all rows
        return (features @ features.T).logsumexp(dim=1).mean()

    def gradient(*parts: tuple[Tensor, float]) -> Tensor:
        tower = Tower()
        sum(share * loss(tower(x)) for x, share in parts).backward()
        return tower.weight.grad

    right, halves = gradient((inputs, 1)), inputs.split(2)
    mistakes = {
        "that is the sum of the parts' own losses: rows of different parts were never compared": gradient(
            *[(x, 1) for x in halves]
        ),
        "that is the mean of the parts' own losses: rows of different parts were never compared": gradient(
            *[(x, 1 / 3) for x in halves]
        ),
        "the gradient is counted twice: run the first pass under torch.no_grad()": 2 * right,
        "the sign is reversed": -right,
    }  # fmt: skip
    tower = Tower()
    sizes.clear()
    answer = run(function, tower, inputs, 2, loss)
    if answer is NOT_ATTEMPTED and tower.weight.grad is None and not sizes:
        print(NOT_ATTEMPTED)
        return
    if max((size for size, _ in sizes), default=0) > 2:
        raise AssertionError("more than `size` rows went through the tower at once")
    if tower.weight.grad is None:
        raise AssertionError("no gradient has reached the tower: its second pass needs a graph, and backward(gradient)")
    if sum(with_graph for _, with_graph in sizes) > 3 and torch.allclose(tower.weight.grad, right, atol=1e-5):
        raise AssertionError("correct, but the first pass kept its graphs: run it under torch.no_grad()")
    if torch.allclose(tower.weight.grad, right, atol=1e-5) and len(sizes) < 6:
        raise AssertionError(
            "correct, but all graphs were kept at once: run each part twice, with a graph only the second time"
        )
    judge_tensor(lambda: tower.weight.grad, (), right, mistakes=mistakes)

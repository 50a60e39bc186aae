"""Checks of notebook 05."""

from collections.abc import Callable

import torch
from torch import Tensor

from .judging import NOT_ATTEMPTED, judge_tensor, run


def log_softmax(function: Callable) -> None:
    """Exercise of notebook 05: `function(logits)`, (B, B), should be the logarithm of each row's softmax, at any size."""
    small = torch.tensor([[1.0, 2.0, 4.0], [0.0, 3.0, 1.0], [2.0, 2.0, 5.0]])
    rows = small - small.amax(dim=1, keepdim=True)
    mistakes = {
        "the rows should be asked, not the columns: dim=1": small.log_softmax(dim=0),
        "that is the softmax: its logarithm is wanted": small.softmax(dim=1),
        "the largest is subtracted, the logarithm of the sum is missing": rows,
        "the sum is of the numbers before their largest was subtracted: take it afterwards": rows
        - small.exp().sum(dim=1, keepdim=True).log(),
        "the rows' largest has to be subtracted from the numbers, too, not only within the sum": small
        - rows.exp().sum(dim=1, keepdim=True).log(),
    }
    large = torch.tensor([[100.0, -100.0, 0.0], [-100.0, 0.0, 100.0], [-100.0, -99.0, -98.0]])
    answer = run(function, small)
    if isinstance(answer, Tensor) and torch.allclose(answer, small.log_softmax(dim=1), atol=1e-5):
        out = function(large)
        if out.isnan().any() or out[0].amax() == -torch.inf:
            raise AssertionError("right for small numbers, but exp(100) overflows: subtract each row's largest first")
        if out.isinf().any():
            raise AssertionError(
                "a probability was rounded to 0 and its logarithm is −∞: subtract each row's own largest "
                "(not the matrix's), and the logarithm of the sum, instead of dividing by the sum"
            )
        judge_tensor(function, (large,), large.log_softmax(dim=1), {})
        return
    judge_tensor(function, (small,), small.log_softmax(dim=1), mistakes)


def loss_gradient(function: Callable) -> None:
    """Exercise of notebook 05: `function(logits)`, (B, B), should be the gradient of the symmetric loss, (B, B)."""
    logits = torch.tensor([[4.0, 1.0, 3.0], [5.0, 8.0, 3.0], [1.0, 1.0, 2.0]]).log()
    rows, columns, eye = logits.softmax(dim=1), logits.softmax(dim=0), torch.eye(3)
    right = (rows + columns - 2 * eye) / 6
    mistakes = {
        "the columns' softmax is missing: each entry takes part in two questions": (rows - eye) / 3,
        "the rows' softmax is missing: each entry takes part in two questions": (columns - eye) / 3,
        "the diagonal is right in two questions: subtract the identity twice": (rows + columns - eye) / 6,
        "the loss is a mean: divide by 2B": 6 * right,
        "two directions are averaged: divide by 2, too": 2 * right,
        "the mean over the B rows is missing: divide by B, too": 3 * right,
        "the mean is over B rows, not over B² entries": right / 3,
        "the sign is turned round: the gradient is probability minus target": -right,
        "the target is missing: subtract the identity, once for each direction": (rows + columns) / 6,
    }
    judge_tensor(function, (logits,), right, mistakes)


def merge(function: Callable) -> None:
    """Exercise of notebook 05: `function(top_a, total_a, top_b, total_b)` should be (top, total) of both parts together."""
    parts = [torch.tensor([[3.0, 1.0], [6.0, 5.0]]), torch.tensor([[1.0, 90.0], [4.0, 2.0], [4.0, 0.5]])]
    tops = [part.amax(dim=0) for part in parts]
    totals = [(part - top).exp().sum(dim=0) for part, top in zip(parts, tops)]
    answer = run(function, tops[0], totals[0], tops[1], totals[1])
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise AssertionError("the answer should be two tensors: the largest, and the sum")
    top, total = (torch.as_tensor(x, dtype=torch.float32) for x in answer)
    largest = torch.maximum(*tops)
    if not torch.equal(top, largest):
        raise AssertionError("the first answer should be the larger of both largest, number by number")
    mistakes = {
        "the two sums are of different scales: shrink each by exp(its old largest − the new one) before you add": sum(
            totals
        ),
        "only the first sum was shrunk: the new largest may come from either part": totals[0]
        * (tops[0] - largest).exp()
        + totals[1],
        "only the second sum was shrunk: the new largest may come from either part": totals[0]
        + totals[1] * (tops[1] - largest).exp(),
        "the exponent is turned round: the old largest minus the new one, which is never above 0": sum(
            total * (largest - old).exp() for total, old in zip(totals, tops)
        ),
    }
    right = sum(total * (old - largest).exp() for total, old in zip(totals, tops))
    if total.shape == right.shape and torch.allclose(total, right, atol=1e-5):
        # a part without any numbers yet: −∞ and 0, as the running sums begin
        begun = function(torch.full((2,), -torch.inf), torch.zeros(2), tops[0], totals[0])
        if not (torch.equal(begun[0], tops[0]) and torch.allclose(begun[1], totals[0])):
            raise AssertionError("right for two parts with numbers, but a part may still be empty: −∞ and 0")
    judge_tensor(lambda: total, (), right, mistakes)

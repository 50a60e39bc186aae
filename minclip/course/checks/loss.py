"""Checks of notebook 05."""

from collections.abc import Callable

import torch
from torch import Tensor

from .judging import NOT_ATTEMPTED, judge_tensor, run


def log_softmax(function: Callable) -> None:
    """`function(logits)`, (B, B), should be the logarithm of each row's softmax, at any size."""
    small = torch.tensor([[1.0, 2.0, 4.0], [0.0, 3.0, 1.0], [2.0, 2.0, 5.0]])
    rows = small - small.amax(dim=1, keepdim=True)
    mistakes = {
        "take the softmax along each row, not along each column: dim=1": small.log_softmax(dim=0),
        "that is the softmax: return its logarithm": small.softmax(dim=1),
        "the largest value is subtracted, but the logarithm of the sum is missing": rows,
        "the sum is taken before the largest value is subtracted: subtract first, then sum": rows
        - small.exp().sum(dim=1, keepdim=True).log(),
        "subtract each row's largest value from the logits, too, not only inside the sum": small
        - rows.exp().sum(dim=1, keepdim=True).log(),
    }
    large = torch.tensor([[100.0, -100.0, 0.0], [-100.0, 0.0, 100.0], [-100.0, -99.0, -98.0]])
    answer = run(function, small)
    if isinstance(answer, Tensor) and torch.allclose(answer, small.log_softmax(dim=1), atol=1e-5):
        out = function(large)
        if out.isnan().any() or out[0].amax() == -torch.inf:
            raise AssertionError(
                "correct for small logits, but exp(100) overflows: subtract each row's largest value first"
            )
        if out.isinf().any():
            raise AssertionError(
                "a probability was rounded to 0, and its logarithm is −∞: subtract each row's own largest value "
                "(not the matrix's), and the logarithm of the sum instead of dividing by the sum"
            )
        judge_tensor(function, (large,), large.log_softmax(dim=1), mistakes={})
        return
    judge_tensor(function, (small,), small.log_softmax(dim=1), mistakes=mistakes)


def loss_gradient(function: Callable) -> None:
    """`function(logits)`, (B, B), should be the gradient of the symmetric loss, (B, B)."""
    logits = torch.tensor([[4.0, 1.0, 3.0], [5.0, 8.0, 3.0], [1.0, 1.0, 2.0]]).log()
    rows, columns, eye = logits.softmax(dim=1), logits.softmax(dim=0), torch.eye(3)
    right = (rows + columns - 2 * eye) / 6
    mistakes = {
        "the columns' softmax is missing: each entry belongs to a row and to a column": (rows - eye) / 3,
        "the rows' softmax is missing: each entry belongs to a row and to a column": (columns - eye) / 3,
        "the diagonal is the target of both directions: subtract the identity twice": (rows + columns - eye) / 6,
        "the loss is a mean: divide by 2B": 6 * right,
        "two directions are averaged: divide by 2, too": 2 * right,
        "the mean over the B rows is missing: divide by B, too": 3 * right,
        "the mean is over B rows, not over B² entries": right / 3,
        "the sign is reversed: the gradient is probability minus target": -right,
        "the target is missing: subtract the identity, once for each direction": (rows + columns) / 6,
    }
    judge_tensor(function, (logits,), right, mistakes=mistakes)


def merge(function: Callable) -> None:
    """`function(top_a, total_a, top_b, total_b)`, all (n,), should be (top, total) of both parts together."""
    parts = [torch.tensor([[3.0, 1.0], [6.0, 5.0]]), torch.tensor([[1.0, 90.0], [4.0, 2.0], [4.0, 0.5]])]
    tops = [part.amax(dim=0) for part in parts]
    totals = [(part - top).exp().sum(dim=0) for part, top in zip(parts, tops)]
    answer = run(function, tops[0], totals[0], tops[1], totals[1])
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise AssertionError("the answer should be two tensors: the largest value and the sum")
    top, total = (torch.as_tensor(x, dtype=torch.float32) for x in answer)
    largest = torch.maximum(*tops)
    if not torch.equal(top, largest):
        raise AssertionError("the first answer should be the elementwise maximum of the two largest values")
    mistakes = {
        "the sums have different scales: multiply each by exp(its old largest − the new largest) before you add": sum(
            totals
        ),
        "only the first sum was rescaled: the new largest value may come from either part": totals[0]
        * (tops[0] - largest).exp()
        + totals[1],
        "only the second sum was rescaled: the new largest value may come from either part": totals[0]
        + totals[1] * (tops[1] - largest).exp(),
        "the exponent is reversed: it is the old largest minus the new largest, which is never above 0": sum(
            total * (largest - old).exp() for total, old in zip(totals, tops)
        ),
    }
    right = sum(total * (old - largest).exp() for total, old in zip(totals, tops))
    if total.shape == right.shape and torch.allclose(total, right, atol=1e-5):
        # an empty part, −∞ and 0: how the running sums begin
        begun = function(torch.full((2,), -torch.inf), torch.zeros(2), tops[0], totals[0])
        if not (torch.equal(begun[0], tops[0]) and torch.allclose(begun[1], totals[0])):
            raise AssertionError("correct for two parts with values, but a part may still be empty: −∞ and 0")
    judge_tensor(lambda: total, (), right, mistakes=mistakes)

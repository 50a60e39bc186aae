"""Checks of notebooks 02 and 03."""

from collections.abc import Callable

import torch
from einops import rearrange

from .judging import judge_cases, judge_tensor, run


def patchify(function: Callable) -> None:
    """`function(image, p)`, image (C, H, W), should be its patches, (P, C·p·p), row by row."""
    image = torch.arange(3 * 4 * 6).view(3, 4, 6)

    def cut(order: str) -> torch.Tensor:
        return rearrange(image, f"c (h p) (w q) -> {order}", p=2, q=2)

    mistakes = {
        "that cuts the memory, not the picture: split H and W first, then reorder the axes": image.view(6, 12),
        "the patches go down the columns: take them row by row": cut("(w h) (c p q)"),
        "within a patch the colors come first, not last": cut("(h w) (p q c)"),
        "within a patch the pixels go down the columns: take them row by row": cut("(h w) (c q p)"),
        "each patch should be flat: (P, C·p·p)": cut("(h w) c p q"),
    }
    judge_tensor(function, (image, 2), cut("(h w) (c p q)"), mistakes=mistakes)


def attention(function: Callable) -> None:
    """`function(q, k, v)`, (L, d) and (M, d) twice, should be the attention's output, (L, d)."""
    q, k, v = torch.randn(13, 4, generator=torch.Generator().manual_seed(0)).split([3, 5, 5])
    scores = q @ k.T
    weights = (scores / 2).softmax(dim=1)
    mistakes = {
        "divide the scores by √d before the softmax": scores.softmax(dim=1) @ v,
        "divide by √d, not by d": (scores / 4).softmax(dim=1) @ v,
        "softmax along the wrong dimension: each row, one query, sums to 1": (scores / 2).softmax(dim=0) @ v,
        "the softmax is missing: turn each row of scores into weights": scores / 2 @ v,
        "divide the scores, before the softmax, not its result": scores.softmax(dim=1) / 2 @ v,
        "these are the weights: take the weighted sum of v": weights,
    }
    judge_tensor(function, (q, k, v), weights @ v, mistakes=mistakes)


def attention_rollout(function: Callable) -> None:
    """`function(maps)`, (layers, H, L, L), should be the rollout, (L, L)."""
    maps = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    means = maps.mean(dim=1)
    steps = (means + torch.eye(4)) / 2
    mistakes = {
        "the residual connection is missing: half of each step is the token itself": means[2] @ means[1] @ means[0],
        "take half of both, so that each row sums to 1": 8 * steps[2] @ steps[1] @ steps[0],
        "the order is wrong: in the product a later layer is to the left of an earlier one": steps[0]
        @ steps[1]
        @ steps[2],
        "multiply matrices (@), not elementwise": steps.prod(dim=0),
        "that is the mean of the layers: what passes through all of them is their product": steps.mean(dim=0),
        "that is the last layer alone": steps[2],
    }
    judge_tensor(function, (maps,), steps[2] @ steps[1] @ steps[0], mistakes=mistakes)


def causal_mask(function: Callable) -> None:
    """`function(length)` should be (L, L) booleans, True where a row may attend to a column."""
    answer = run(function, 3)
    if isinstance(answer, torch.Tensor) and answer.dtype != torch.bool:
        raise AssertionError(
            f"the mask should hold booleans, True where a token may attend; yours holds {answer.dtype}"
        )
    mistakes = {
        "rows and columns are swapped: token i (row) attends to columns j <= i": [[1, 1, 1], [0, 1, 1], [0, 0, 1]],
        "a token may attend to itself, too: otherwise token 0 attends to nothing": [[0, 0, 0], [1, 0, 0], [1, 1, 0]],
        "True should mean “may attend”: yours marks what is forbidden": [[0, 1, 1], [0, 0, 1], [0, 0, 0]],
        "every token sees everything: the future has to be False": [[1, 1, 1]] * 3,
        "each token sees only itself: it may attend to everything before it": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    }
    judge_cases(function, [((3,), [[True, False, False], [True, True, False], [True, True, True]], mistakes)])


def find_end(function: Callable) -> None:
    """`function(ids, eot)`, ids (B, L), should be the position of each row's first `eot`, (B,)."""
    largest = "that is the position of the largest id: look for EOT's own id"
    several = "a row has several EOTs, and you returned all of them: take the first of each row"
    plain = {
        "that is the number of tokens: positions count from 0": [3, 5],
        "give argmax a dimension: it should search each row (dim=1)": 2,
        "that searches the columns: search each row (dim=1)": [0, 0, 0, 0, 1],
        "that marks EOT with booleans: return its position": [[0, 0, 1, 0, 0], [0, 0, 0, 0, 1]],
    }
    counted = "you counted the ids that are not 0: padding need not be 0, and 0 is a token, too"
    last = "that is the last EOT: padding may be EOT too, so take the first"
    judge_cases(
        lambda rows, eot: function(torch.tensor(rows), eot),
        [
            (([[6, 1, 7, 0, 0], [6, 2, 3, 4, 7]], 7), [2, 4], plain),
            (([[6, 1, 7, 9, 9], [6, 9, 2, 7, 0]], 7), [2, 3], {largest: [3, 1], counted: [4, 3]}),
            (([[6, 1, 7, 7, 7]], 7), [2], {last: [4], several: [2, 3, 4]}),
            (([[6, 0, 1, 7, 0]], 7), [3], {counted: [2]}),
        ],
    )

"""The check of notebook 10 on what copies of test images add to an accuracy."""

from collections.abc import Callable

import torch

from .judging import NOT_ATTEMPTED, judge_number, run


def flattery(function: Callable) -> None:
    """`function(right, overlap)`, (N,) booleans each, should be the accuracy on all images minus that on clean ones."""
    right = torch.tensor([True, True, True, True, False, True, False, True, False, True])
    overlap = torch.tensor([True, True, False, False, True, True, False, False, False, False])
    answer = run(function, right.clone(), overlap.clone())
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    everything, copies, clean = 7 / 10, 3 / 4, 4 / 6
    mistakes = {
        "that is the accuracy on copies minus that on clean images: compare *all* images with clean ones": copies
        - clean,
        "that is the accuracy on the copies minus that on all: compare all with the clean images": copies - everything,
        "the sign is reversed: all minus clean is positive if the copies help": clean - everything,
        "you left out only the copies' right answers: divide by the number of clean images": 7 / 10 - 4 / 10,
        "that is the accuracy on the clean images: subtract it from the accuracy on all": clean,
        "that is the share of copies, an upper bound of the difference": 4 / 10,
        "that is in percentage points: return a fraction of 1": 100 * (everything - clean),
    }
    judge_number(answer, torch.tensor(everything - clean), {k: torch.tensor(v) for k, v in mistakes.items()})

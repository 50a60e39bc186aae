"""The check of notebook 10 on a group's share among the images nearest to a text."""

from collections.abc import Callable

import torch

from .judging import NOT_ATTEMPTED, judge_number, run


def too_many(function: Callable) -> None:
    """`function(cosines, group, k)`: the group's share of the k highest cosines, divided by its share of all images."""
    cosines = torch.tensor([0.1, 0.9, 0.3, 0.75, 0.8, -0.6, -0.2, 0.2, 0.25, 0.15])
    group = torch.tensor([False, True, False, False, True, False, False, True, True, False])
    answer = run(function, cosines.clone(), group.clone(), 3)
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    top, everywhere = 2 / 3, 4 / 10
    mistakes = {
        "that is the share among the top: divide it by the group's share of all images": top,
        "that is the difference of the two shares: divide": top - everywhere,
        "the ratio is inverted: the share among the top is the numerator": everywhere / top,
        "these are the k *lowest* cosines: sort from the highest down": 0.0,
        "you took the first k images, not the k nearest": (1 / 3) / everywhere,
        "that is the part of the group that is among the top: divide by k, not by the size of the group": 2 / 4,
        "you took the number of the group's images among the top, not their share: divide it by k": 2 / everywhere,
    }
    judge_number(answer, torch.tensor(top / everywhere), {k: torch.tensor(v) for k, v in mistakes.items()})

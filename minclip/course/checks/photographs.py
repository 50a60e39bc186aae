"""Checks of notebook 07."""

import hashlib
from collections.abc import Callable

import torch

from .judging import NOT_ATTEMPTED, judge_cases, judge_tensor, run


def split_of(function: Callable) -> None:
    """`function(name)` should be "train", "val" or "test", by a hash of the name, 90:5:5."""

    def of(bucket: int, train: int = 90, val: int = 95) -> str:
        return "train" if bucket < train else "val" if bucket < val else "test"

    def sha(name: str) -> int:
        return int(hashlib.sha256(name.encode()).hexdigest(), 16)

    names = [f"{1_000_000 + 7919 * i**3}.jpg" for i in range(400)]
    if run(function, names[0]) is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    answers = [function(name) for name in names]
    if [function(name) for name in names] != answers:
        raise AssertionError("the same name got another split the second time: the split must not be random")
    strange = [answer for answer in answers if answer not in ("train", "val", "test")]
    if strange:
        raise AssertionError(f'the answer should be "train", "val" or "test", not {strange[0]!r}')
    mistakes = {
        "Python's own hash() differs from process to process: use hashlib.sha256": lambda n: of(hash(n) % 100),
        "bucket 90 belongs to val, and 95 to test: compare with <, not <=": lambda n: of(sha(n) % 100, 91, 96),
        "val and test are swapped": lambda n: {"train": "train", "val": "test", "test": "val"}[of(sha(n) % 100)],
        "that is 80:10:10": lambda n: of(sha(n) % 100, 80, 90),
        "the digits of a name are not spread evenly: hash the whole name": lambda n: of(
            int("".join(filter(str.isdigit, n))) % 100
        ),
        "a sum of characters is not spread evenly: hash the name": lambda n: of(sum(n.encode()) % 100),
    }  # fmt: skip
    for message, wrong in mistakes.items():
        if answers == [wrong(name) for name in names]:
            raise AssertionError(message)
    judge_cases(function, [((name,), of(sha(name) % 100), {}) for name in names])


def smoothed_target(function: Callable) -> None:
    """`function(size, share)` should be the (size, size) target; `share` of each row is spread over all columns."""
    eye, n, e = torch.eye(4), 4, 0.2
    mistakes = {
        "that is the plain target: nothing is spread yet": eye,
        "the share is spread over all columns, the right one included: e / B, not e / (B - 1)": torch.where(
            eye > 0, 1 - e, e / (n - 1)
        ),
        "the right column gets its part of the share, too: add e / B to 1 - e": torch.where(eye > 0, 1 - e, e / n),
        "rows sum to more than 1: take what is spread from the right column": eye + e / n,
        "each column gets the whole share: divide it by the size": (1 - e) * eye + e,
        "everything is spread evenly, and nothing is left for the right column": torch.full((n, n), 1 / n),
    }  # fmt: skip
    judge_tensor(function, (n, e), (1 - e) * eye + e / n, mistakes=mistakes)


def rank_of(function: Callable) -> None:
    """`function(scores, right)` should be the rank, from 0, of the best right one; ties count half."""
    first_only = "you looked only for the first right caption: the best of them counts"
    cases = [
        (
            # 0.8 is the best right one, and two wrong ones are above it
            [0.6, 0.9, 0.7, 0.8, 0.3, 0.85, 0.4, 0.65, 0.35],
            [0, 3, 4],
            2,
            {
                3: "the best of all has rank 0: count the wrong ones above the right one, and add nothing",
                4: first_only,
                5: first_only + "; and other right captions don't compete with it",
                6: "that is the worst right caption: the best of them counts",
                8: "that is the worst right caption: the best of them counts",
            },
        ),
        (
            [0.5, 0.5, 0.5, 0.5, 0.7],
            [1],
            2.5,
            {
                1: "ties count as won: a model that scores everything alike would be perfect; count each tie one half",
                4: "ties count as lost: count each tie one half",
                3: "the right one ties with itself: only wrong ones count",
            },
        ),
        ([0.4, 0.4, 0.1], [0, 1], 0, {0.5: "two right captions that tie don't compete: only wrong ones count"}),
    ]
    for scores, places, wanted, mistakes in cases:
        right = torch.zeros(len(scores), dtype=torch.bool)
        right[places] = True
        answer = run(function, torch.tensor(scores), right)
        if answer is NOT_ATTEMPTED:
            print(NOT_ATTEMPTED)
            return
        try:
            value = round(float(answer), 3)
        except (TypeError, ValueError, RuntimeError):
            raise AssertionError(f"the answer should be one number, not {answer!r}") from None
        if value != wanted:
            unknown = f"for scores {scores}, right at {places}: got {value:g}, expected {wanted}"
            raise AssertionError(mistakes.get(value, unknown))
    print("right!")

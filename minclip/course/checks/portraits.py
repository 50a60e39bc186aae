"""Checks of notebook 13: how often a written word wins, and how often a random portrait shows the same person."""

from collections.abc import Callable

from .judging import judge_cases, rounded


def word_wins(function: Callable) -> None:
    """`function(answers, shapes, words)` should be the fraction of answers that are the word, a fraction of 1.

    Only images whose word names another shape count.  All three are lists of shape names, one for each image; `words`
    has None for a word that names no shape.
    """
    answers, shapes = ["star", "star", "ring", "heart", "ring"], ["star", "heart", "ring", "cross", "cross"]
    words = ["star", "star", None, "ring", "ring"]
    mistakes: dict[str, object] = {
        "the first image shows a star with the word STAR: the word and the shape can't be told apart, leave it out": 3
        / 4,
        "divide by the images whose word names *another* shape, not by all images": 2 / 5,
        "that counts the images in which the shape won": 0.0,
        "None names no shape, so it can't win: leave this image out of the count": 2 / 4,
        "return a fraction, not the number of images": 2,
    }
    second = (["ring", "star"], ["star", "star"], ["ring", "heart"])
    judge_cases(rounded(function), [((answers, shapes, words), round(2 / 3, 4), mistakes), (second, 1 / 2, {})])


def chance_of_same(function: Callable) -> None:
    """`function(sizes)`, portraits per person, should be the probability that another one shows the same person."""
    right = sum(n * (n - 1) for n in (6, 5, 5)) / (16 * 15)
    mistakes = {
        "a portrait is not its own neighbor: of a person's n portraits, n − 1 remain, of all N, N − 1": 86 / 256,
        "1/3 would be right if the neighbor could be the portrait itself, and all three had equally many": 1 / 3,
        "the portrait itself is gone from all N, too: divide by N − 1": 70 / 256,
        "a person with six portraits is asked about six times: weight the people by their number of portraits": (
            5 / 15 + 4 / 15 + 4 / 15
        )
        / 3,
    }
    wrong: dict[str, object] = {name: round(value, 4) for name, value in mistakes.items()}
    judge_cases(rounded(function), [(([6, 5, 5],), round(right, 4), wrong), (([2, 2],), round(1 / 3, 4), {})])

"""Checks of notebook 10: the list of queries, and the search with a cap."""

import math
from collections.abc import Callable

import numpy as np

from .judging import judge_cases


def pmi(function: Callable) -> None:
    """`function(both, first, second, total)`, counts of a pair and of its two words, should be the PMI in bits."""

    def rounded(*counts: int) -> object:
        answer = function(*counts)
        if answer is None or answer is ...:
            return answer
        try:
            return round(float(answer), 3)
        except (TypeError, ValueError):
            raise AssertionError(f"the answer should be one number, not {answer!r}") from None

    def case(both: int, first: int, second: int, total: int) -> tuple:
        ratio = both * total / (first * second)
        mistakes = {
            "that is a natural logarithm: for bits, take log2": math.log(ratio),
            "that is a logarithm to base 10: for bits, take log2": math.log10(ratio),
            "that is the ratio itself: take its log2": ratio,
            "these are counts: divide each by the total first, or multiply the ratio by it once": math.log2(
                both / (first * second)
            ),
            "that is the logarithm of the pair's probability alone: divide by the words' probabilities": math.log2(
                both / total
            ),
            "the ratio is inverted: the pair's probability belongs in the numerator": -math.log2(ratio),
            "that is log2 of P(second | first): divide by the second word's probability, too": math.log2(both / first),
        }
        right = round(math.log2(ratio), 3)
        wrong = {name: round(value, 3) for name, value in mistakes.items() if round(value, 3) != right}
        if right < 0:
            wrong["a pair that is rarer than chance has a negative PMI: don't cut it off at 0"] = 0.0
        return (both, first, second, total), right, wrong

    judge_cases(rounded, [case(8, 10, 20, 1000), case(10, 50, 100, 1000), case(1, 40, 50, 1000)])


def capped_search(function: Callable) -> None:
    """`function(found, cap)` should be the rows that the queries found, at most `cap` of each, sorted, each once."""

    def listed(found: dict, cap: int) -> object:
        answer = function(found, cap)
        return answer.tolist() if isinstance(answer, np.ndarray) else answer

    twice = "a row that two queries find is one pair: list it once"
    cases = [
        (
            ({"red": [2, 3, 4, 9], "star": [0, 2, 5], "red star": [2]}, 2),
            [0, 2, 3],
            {
                "there is no cap: take at most `cap` rows of each query": [0, 2, 3, 4, 5, 9],
                twice: [2, 3, 0, 2, 2],
                f"{twice} (they are sorted)": [0, 2, 2, 2, 3],
                "cap each query's rows, not the union of all": [0, 2],
                "these are the last rows of each query: take the first, rows[:cap]": [2, 4, 5, 9],
                "the rows are right, but not in order: sort them": [2, 3, 0],
                "that is a set: return a sorted list": {0, 2, 3},
                "that is one row too many per query: rows[:cap] has `cap`": [0, 2, 3, 4, 5],
                "that is one row too few per query: rows[:cap] has `cap`": [0, 2],
            },
        ),
        (({"ring": [1, 7], "heart": []}, 3), [1, 7], {}),
    ]
    judge_cases(listed, cases)

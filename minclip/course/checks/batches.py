"""Checks of notebook 15: the part of the matrix that one GPU holds, and attention's share of a block's cost."""

from collections.abc import Callable

from .judging import judge_cases, rounded


def matrix_part(function: Callable) -> None:
    """`function(batch, gpus)` should be the bytes of the fp32 similarities between one GPU's images and all texts."""

    def case(batch: int, gpus: int) -> tuple:
        right = 4 * batch * batch // gpus
        mistakes = {
            "that is the whole matrix: a GPU has only its own images, batch / gpus of them": 4 * batch**2,
            "that is the number of entries: multiply by the 4 bytes of an fp32 number": batch * batch // gpus,
            "the columns are the texts of all GPUs: with its own texts only, its images would have fewer negatives": (
                4 * (batch // gpus) ** 2
            ),
            "that is for 16-bit numbers: an fp32 number takes 4 bytes": 2 * batch * batch // gpus,
            "that is in megabytes: return bytes": right / 1e6,
        }
        return (batch, gpus), right, {name: wrong for name, wrong in mistakes.items() if wrong != right}

    judge_cases(function, [case(1024, 8), case(32_768, 256), case(64, 1)])


def attention_share(function: Callable) -> None:
    """`function(tokens, width)` should be the fraction of a block's multiplications that grows with tokens²."""

    def case(tokens: int, width: int) -> tuple:
        pairs, matrices = 2 * tokens**2 * width, 12 * tokens * width**2
        right = pairs / (pairs + matrices)
        mistakes = {
            "the MLP is part of the block: two matrices with 4 · width² entries each": pairs
            / (pairs + 4 * tokens * width**2),
            "there are two products of this kind: q · kᵀ, and the weights times v": pairs / 2 / (pairs / 2 + matrices),
            "that is the ratio to the rest: divide by the sum of both": pairs / matrices,
            "that is the share of the matrices: return the rest, the share of the products of tokens": 1 - right,
            "that is in percent: return a fraction of 1": 100 * right,
        }
        wrong = {name: round(value, 5) for name, value in mistakes.items()}
        return (tokens, width), round(right, 5), wrong

    judge_cases(rounded(function, 5), [case(257, 1024), case(577, 1024), case(50, 768)])

"""Checks of notebook 01."""

from collections.abc import Callable

from .judging import judge_cases


def join_pair(function: Callable) -> None:
    """`function(symbols, pair)` should join that pair wherever it occurs, from left to right."""
    twice = "a symbol was used twice: after a join, continue after both of its parts"
    cases = [
        (
            (["l", "o", "w", "l", "o</w>"], ("l", "o")),
            ["lo", "w", "l", "o</w>"],
            {
                "the last symbol is lost: it has no right neighbor, but it has to be kept": ["lo", "w", "l"],
                "remove both parts when you add the joined symbol": ["lo", "o", "w", "l", "o</w>"],
                "“o</w>” is not the symbol “o”: compare whole symbols": ["lo", "w", "lo</w>"],
            },
        ),
        (
            (["a", "b", "a", "b"], ("a", "b")),
            ["ab", "ab"],
            {"only the first occurrence was joined: continue to the end of the word": ["ab", "a", "b"]},
        ),
        (
            (["la", "b", "a", "b"], ("a", "b")),
            ["la", "b", "ab"],
            {"“la” only ends in “a”: compare whole symbols, not their letters": ["lab", "ab"]},
        ),
        (
            (["a", "a", "a", "c"], ("a", "a")),
            ["aa", "a", "c"],
            {twice: ["aa", "aa", "c"], "join from left to right: the first two come first": ["a", "aa", "c"]},
        ),
        (
            (["a", "a", "a", "a"], ("a", "a")),
            ["aa", "aa"],
            {
                twice: ["aa", "aa", "aa"],
                "the second occurrence was missed: after a join, continue right after it": ["aa", "a", "a"],
            },
        ),
        ((["a"], ("a", "a")), ["a"], {"a word of one symbol stays as it is": []}),
    ]
    judge_cases(function, cases)


def to_row(function: Callable) -> None:
    """`function(ids, length, sot, eot)` should be SOT, the ids, EOT, zeros: `length` in all."""
    long = {
        "EOT was cut off: shorten the ids before you add EOT": [8, 1, 2, 3, 4],
        "SOT and EOT take two places: keep length - 2 ids": [8, 1, 2, 3, 4, 5, 9],
        "the row is too long: cut a long text": [8, 1, 2, 3, 4, 5, 6, 9],
        "SOT is missing": [1, 2, 3, 4, 9],
        "the end of the text was kept: keep its beginning": [8, 4, 5, 6, 9],
    }
    short = {
        "the row is too short: pad it with 0": [8, 1, 9],
        "pad with 0, after a single EOT": [8, 1, 9, 9, 9],
        "the zeros come last, after EOT": [8, 1, 0, 0, 9],
    }
    judge_cases(
        function,
        [
            (([1], 5, 8, 9), [8, 1, 9, 0, 0], short),
            (([1, 2, 3, 4, 5, 6], 5, 8, 9), [8, 1, 2, 3, 9], long),
            (([1, 2, 3], 5, 8, 9), [8, 1, 2, 3, 9], {"a text that just fits should not be cut": [8, 1, 2, 9, 0]}),
        ],
    )


def decode_tokens(function: Callable) -> None:
    """`function(tokens)` should be the text: bytes, then UTF-8, a space after each word but the last."""
    mistakes = {
        "“é” is split over two tokens: join the bytes of the whole word before you decode them": "caf\ufffd\ufffd bar",
        "these are the characters that stand for bytes: turn each one back into its byte, then decode": "cafÃ© bar",
        "the words run together: </w> stands for a space": "cafébar",
        "there is one space too many at the end: no word follows the last one": "café bar ",
        "</w> is left in the text: it stands for a space": "café</w>bar</w>",
        "a space comes after a word, not after each token": "c af é bar",
    }
    judge_cases(
        function,
        [
            ((["c", "af", "Ã", "©</w>", "bar</w>"],), "café bar", mistakes),
            ((["a</w>"],), "a", {"there is one space too many at the end: no word follows the last one": "a "}),
        ],
    )

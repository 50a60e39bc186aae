"""Checks of the exercises: `check.name(function)` says what is right or names the mistake."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange

from ..losses import clip_loss

NOT_ATTEMPTED = "not attempted yet: fill in the function, then run this cell again"


def _run(function: Callable, *arguments: object) -> object:
    """The function's answer, or a message where the stub is untouched (it returns None or ...)."""
    answer = function(*arguments)
    return NOT_ATTEMPTED if answer is None or answer is ... else answer


def symmetric_loss(function: Callable) -> None:
    """Exercise of notebook 00: `function(image, text, scale)` should be the symmetric contrastive loss."""
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(6, 8, generator=generator), dim=-1) for _ in range(2))
    answer = _run(function, image, text, 5.0)
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    logits, target = 5.0 * image @ text.T, torch.arange(6)
    rows, columns = F.cross_entropy(logits, target), F.cross_entropy(logits.T, target)
    mistakes = {
        "only image→text: the other direction, over the columns, is missing": rows,
        "only text→image: the other direction, over the rows, is missing": columns,
        "the two directions are added: take their mean": rows + columns,
        "the scale is missing: multiply the similarities by it": (
            F.cross_entropy(logits / 5, target) + F.cross_entropy(logits.T / 5, target)
        )
        / 2,
        "the similarities are divided by the scale: multiply by it": (
            F.cross_entropy(logits / 25, target) + F.cross_entropy(logits.T / 25, target)
        )
        / 2,
    }
    _judge(answer, clip_loss(image, text, 5.0), mistakes)


def recall_at_1(function: Callable) -> None:
    """Exercise of notebook 00: `function(similarity)` should be the share of rows whose largest entry is on the diagonal."""
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.3, 0.1], [0.1, 0.2, 0.7]])
    answer = _run(function, similarity)
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    mistakes = {
        "that is the share of columns: take the largest entry of each row": torch.tensor(1.0),
        "that is a number of rows: divide by how many there are": torch.tensor(2.0),
        "that is the mean of the diagonal: ask where each row is largest": similarity.diagonal().mean(),
    }
    _judge(answer, torch.tensor(2 / 3), mistakes)


def _judge(answer: object, right: torch.Tensor, mistakes: dict[str, torch.Tensor]) -> None:
    """Prints that the answer is right, or raises an AssertionError that names the mistake."""
    try:
        value = torch.as_tensor(answer, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(f"the answer should be one number, not {answer!r}") from None
    if value.ndim:
        raise AssertionError(f"the answer should be one number; yours has shape {tuple(value.shape)}")
    if torch.isclose(value, right, atol=1e-4):
        print("right!")
        return
    for name, wrong in mistakes.items():
        if torch.isclose(value, wrong, atol=1e-4):
            raise AssertionError(name)
    raise AssertionError(f"got {value:.4f}, expected {right:.4f}")


def join_pair(function: Callable) -> None:
    """Exercise of notebook 01: `function(symbols, pair)` should join that pair wherever it stands, from left to right."""
    twice = "a symbol was used twice: after a join, go on behind both of its parts"
    cases = [
        (
            (["l", "o", "w", "l", "o</w>"], ("l", "o")),
            ["lo", "w", "l", "o</w>"],
            {
                "the last symbol is lost: it has no right neighbour, but it has to be kept": ["lo", "w", "l"],
                "the parts should go where their join comes": ["lo", "o", "w", "l", "o</w>"],
                "“o</w>” is another symbol than “o”: compare whole symbols": ["lo", "w", "lo</w>"],
            },
        ),
        (
            (["a", "b", "a", "b"], ("a", "b")),
            ["ab", "ab"],
            {"only the first place was joined: go on to the end of the word": ["ab", "a", "b"]},
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
                "the second place was missed: after a join, go on right behind it": ["aa", "a", "a"],
            },
        ),
        ((["a"], ("a", "a")), ["a"], {"a word of one symbol stays as it is": []}),
    ]
    _compare(function, cases)


def to_row(function: Callable) -> None:
    """Exercise of notebook 01: `function(ids, length, sot, eot)` should be SOT, the ids, EOT, zeros: `length` in all."""
    long = {
        "EOT was cut off: shorten the ids, before EOT is added": [8, 1, 2, 3, 4],
        "SOT and EOT need two of the places: keep length - 2 ids": [8, 1, 2, 3, 4, 5, 9],
        "the row is too long: a long text has to be cut": [8, 1, 2, 3, 4, 5, 6, 9],
        "SOT is missing": [1, 2, 3, 4, 9],
        "the end of the text was kept: keep its beginning": [8, 4, 5, 6, 9],
    }
    short = {
        "the row is too short: fill it up with 0": [8, 1, 9],
        "fill up with 0, after the one EOT": [8, 1, 9, 9, 9],
        "the zeros come last, behind EOT": [8, 1, 0, 0, 9],
    }
    _compare(
        function,
        [
            (([1], 5, 8, 9), [8, 1, 9, 0, 0], short),
            (([1, 2, 3, 4, 5, 6], 5, 8, 9), [8, 1, 2, 3, 9], long),
            (([1, 2, 3], 5, 8, 9), [8, 1, 2, 3, 9], {"a text that just fits should not be cut": [8, 1, 2, 9, 0]}),
        ],
    )


def decode_tokens(function: Callable) -> None:
    """Exercise of notebook 01: `function(tokens)` should be the text: bytes, then UTF-8, a space after each word but the last."""
    mistakes = {
        "“é” lies in two tokens: put the whole word's bytes together before you decode them": "caf\ufffd\ufffd bar",
        "these are the bytes' characters: turn each one back into its byte, then decode": "cafÃ© bar",
        "the words run together: </w> stands for a space": "cafébar",
        "there is a space too many at the end: no word follows the last one": "café bar ",
        "</w> is left in the text: it stands for a space": "café</w>bar</w>",
        "a space comes after a word, not after each token": "c af é bar",
    }
    _compare(
        function,
        [
            ((["c", "af", "Ã", "©</w>", "bar</w>"],), "café bar", mistakes),
            ((["a</w>"],), "a", {"there is a space too many at the end: no word follows the last one": "a "}),
        ],
    )


def _compare(function: Callable, cases: list[tuple[tuple, object, dict[str, object]]]) -> None:
    """Each case: arguments, the right answer, and wrong ones by the mistake's name, which an AssertionError then tells."""
    for arguments, right, mistakes in cases:
        given = copy.deepcopy(arguments)
        answer = _run(function, *given)
        if answer is NOT_ATTEMPTED:
            print(NOT_ATTEMPTED)
            return
        answer = answer.tolist() if isinstance(answer, torch.Tensor) else answer
        answer = list(answer) if isinstance(answer, tuple) else answer
        for name, wrong in mistakes.items():
            if answer == wrong:
                raise AssertionError(name)
        if answer != right:
            raise AssertionError(f"for {', '.join(map(repr, arguments))}: got {answer!r}, expected {right!r}")
        if given != arguments:
            raise AssertionError("the function changed the list that it was given: build a new one")
    print("right!")


def causal_mask(function: Callable) -> None:
    """Exercise of notebook 03: `function(length)` should be (L, L) booleans, True where a row may look at a column."""
    answer = _run(function, 3)
    if isinstance(answer, torch.Tensor) and answer.dtype != torch.bool:
        raise AssertionError(f"the mask should hold booleans, True where a token may look; yours holds {answer.dtype}")
    mistakes = {
        "rows and columns are swapped: token i (row) looks back, at columns j <= i": [[1, 1, 1], [0, 1, 1], [0, 0, 1]],
        "a token may look at itself too: token 0 would have nobody to look at": [[0, 0, 0], [1, 0, 0], [1, 1, 0]],
        "True should mean “may look”: yours marks what is forbidden": [[0, 1, 1], [0, 0, 1], [0, 0, 0]],
        "everybody sees everything: the future has to be False": [[1, 1, 1]] * 3,
        "each token sees itself only: it may look at all before it": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    }
    _compare(function, [((3,), [[True, False, False], [True, True, False], [True, True, True]], mistakes)])


def find_end(function: Callable) -> None:
    """Exercise of notebook 03: `function(ids, eot)`, ids (B, L), should be the position of each row's first `eot`, (B,)."""
    largest = "that is where the largest id stands: look for EOT's own id"
    several = "a row has several EOTs and you named them all: take the first of each row"
    plain = {
        "that is how many tokens there are: positions count from 0": [3, 5],
        "give the argmax a dimension: it should look along each row (dim=1)": 2,
        "that looks down the columns: go along each row (dim=1)": [0, 0, 0, 0, 1],
        "that says where EOT stands, as booleans: which position is it?": [[0, 0, 1, 0, 0], [0, 0, 0, 0, 1]],
    }
    counted = "you counted the ids that are not 0: padding need not be 0, and 0 is a token as well"
    last = "that is the last EOT: padding may be EOT too, so take the first"
    _compare(
        lambda rows, eot: function(torch.tensor(rows), eot),
        [
            (([[6, 1, 7, 0, 0], [6, 2, 3, 4, 7]], 7), [2, 4], plain),
            (([[6, 1, 7, 9, 9], [6, 9, 2, 7, 0]], 7), [2, 3], {largest: [3, 1], counted: [4, 3]}),
            (([[6, 1, 7, 7, 7]], 7), [2], {last: [4], several: [2, 3, 4]}),
            (([[6, 0, 1, 7, 0]], 7), [3], {counted: [2]}),
        ],
    )


def attend_with_past(function: Callable) -> None:
    """Exercise of notebook 03: `function(q, k, v, past_k, past_v)`, (L, d) each, the past (P, d), should be (L, d)."""
    q, k, v, past_k, past_v = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    past_k, past_v = past_k[:2], past_v[:2]
    answer = _run(function, *(x.clone() for x in (q, k, v, past_k, past_v)))
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return

    def attention(past: int = 2, diagonal: int = 2, scale: float = 0.5) -> torch.Tensor:
        scores = scale * q @ torch.cat([past_k[:past], k]).T
        allowed = torch.ones(scores.shape, dtype=torch.bool).tril(diagonal)
        return scores.masked_fill(~allowed, -torch.inf).softmax(dim=1) @ torch.cat([past_v[:past], v])

    mistakes = {
        "the past is missing: new tokens look at its keys and values too": attention(past=0, diagonal=0),
        "a new token sees later ones: mask them": attention(diagonal=9),
        "the mask's columns begin with the past, which all may see: move its diagonal to the right by P": attention(
            diagonal=0
        ),
        "divide the scores by √d": attention(scale=1.0),
    }
    if not isinstance(answer, torch.Tensor) or answer.shape != q.shape:
        raise AssertionError(f"the answer should be the new tokens' outputs, of shape {tuple(q.shape)}")
    for name, wrong in mistakes.items():
        if torch.allclose(answer, wrong, atol=1e-5):
            raise AssertionError(name)
    if not torch.allclose(answer, attention(), atol=1e-5):
        raise AssertionError("these are not the outputs of the full pass: compare the scores, then the mask")
    print("right!")


def patchify(function: Callable) -> None:
    """Exercise of notebook 02: `function(image, p)`, image (C, H, W), should be its patches, (P, C·p·p), row by row."""
    image = torch.arange(3 * 4 * 6).view(3, 4, 6)

    def cut(order: str) -> torch.Tensor:
        return rearrange(image, f"c (h p) (w q) -> {order}", p=2, q=2)

    mistakes = {
        "that cuts the memory, not the picture: split H and W first, then bring the axes into order": image.view(6, 12),
        "the patches go down the columns: take them row by row": cut("(w h) (c p q)"),
        "within a patch the colours come first, not last": cut("(h w) (p q c)"),
        "within a patch the pixels go down the columns: take them row by row": cut("(h w) (c q p)"),
        "each patch should be flat: (P, C·p·p)": cut("(h w) c p q"),
    }
    _match(function, (image, 2), cut("(h w) (c p q)"), mistakes)


def attention(function: Callable) -> None:
    """Exercise of notebook 02: `function(q, k, v)`, (L, d) and (M, d) twice, should be the attention's output, (L, d)."""
    q, k, v = torch.randn(13, 4, generator=torch.Generator().manual_seed(0)).split([3, 5, 5])
    scores = q @ k.T
    weights = (scores / 2).softmax(dim=1)
    mistakes = {
        "divide the scores by √d before the softmax": scores.softmax(dim=1) @ v,
        "divide by √d, not by d": (scores / 4).softmax(dim=1) @ v,
        "softmax along the wrong way: each row, a token that looks, sums to 1": (scores / 2).softmax(dim=0) @ v,
        "the softmax is missing: turn each row of scores into weights": scores / 2 @ v,
        "divide the scores, before the softmax, not its result": scores.softmax(dim=1) / 2 @ v,
        "these are the weights: take the weighted sum of v": weights,
    }
    _match(function, (q, k, v), weights @ v, mistakes)


def attention_rollout(function: Callable) -> None:
    """Exercise of notebook 02: `function(maps)`, (layers, H, L, L), should be the rollout, (L, L)."""
    maps = torch.rand(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    means = maps.mean(dim=1)
    steps = (means + torch.eye(4)) / 2
    mistakes = {
        "the residual sum is missing: half of each step is the token itself": means[2] @ means[1] @ means[0],
        "take half of both, so that each row sums to 1": 8 * steps[2] @ steps[1] @ steps[0],
        "the order is wrong: a later layer stands to the left of an earlier one": steps[0] @ steps[1] @ steps[2],
        "multiply matrices (@), not number by number": steps.prod(dim=0),
        "that is the layers' mean: what goes through all of them is their product": steps.mean(dim=0),
        "that is the last layer alone": steps[2],
    }
    _match(function, (maps,), steps[2] @ steps[1] @ steps[0], mistakes)


def _match(function: Callable, arguments: tuple, right: torch.Tensor, mistakes: dict[str, torch.Tensor]) -> None:
    """Prints that the tensor is right, or raises an AssertionError that names the mistake."""
    answer = _run(function, *arguments)
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    if not isinstance(answer, torch.Tensor):
        raise AssertionError(f"the answer should be a tensor, not {type(answer).__name__}")
    for name, wrong in mistakes.items():
        if answer.shape == wrong.shape and torch.allclose(answer.float(), wrong.float(), atol=1e-5):
            raise AssertionError(name)
    if answer.shape != right.shape:
        raise AssertionError(f"the answer should have shape {tuple(right.shape)}; yours has {tuple(answer.shape)}")
    if not torch.allclose(answer.float(), right.float(), atol=1e-5):
        raise AssertionError("the shape is right, the numbers are not: compare them with a small example by hand")
    print("right!")

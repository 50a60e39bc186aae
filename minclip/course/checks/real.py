"""Checks of notebook 16: a zero-shot classifier from scratch, and a search in a folder."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .judging import NOT_ATTEMPTED, judge_tensor, run

# what a text tower might return: one vector for each text, not of length 1
_TEXTS = {
    "a photo of a cat": (3.0, 0.0, 0.6),
    "art of a cat": (0.2, 0.1, 0.0),
    "a photo of a dog": (0.0, 2.0, 0.9),
    "art of a dog": (0.4, 0.5, -0.8),
    "a photo of a car": (0.5, 0.5, 1.0),
    "art of a car": (-2.0, 1.0, 4.0),
}


def _embed(texts: object) -> Tensor:
    """Vectors (n, 3) of a list of n texts, not normalized; an AssertionError for other texts than those of _TEXTS."""
    if isinstance(texts, str):
        raise AssertionError("embed takes a list of texts, not one text")
    unknown = [text for text in texts if text not in _TEXTS]  # type: ignore[attr-defined]
    if unknown:
        raise AssertionError(f"embed was asked for {unknown[0]!r}: replace {{}} in each template by each label")
    return torch.tensor([_TEXTS[text] for text in texts])  # type: ignore[attr-defined]


def zero_shot(function: Callable) -> None:
    """`function(embed, image, labels, templates, scale)` should be the probabilities (C,) of C labels.

    `embed` maps n texts to vectors (n, D) that are not normalized, `image` (D,) is a unit vector.
    """
    labels, templates, scale = ["cat", "dog", "car"], ["a photo of a {}", "art of a {}"], 10.0
    image = F.normalize(torch.tensor([0.8, 0.5, 0.4]), dim=0)
    texts = torch.stack([_embed([t.replace("{}", label) for t in templates]) for label in labels])  # (C, T, D)
    unit = F.normalize(texts, dim=-1)

    def answer(columns: Tensor, by: float = scale) -> Tensor:
        return (by * columns @ image).softmax(dim=0)

    right = answer(F.normalize(unit.mean(dim=1), dim=-1))
    mistakes = {
        "the vectors of embed are not normalized: normalize each text before you take the mean": answer(
            F.normalize(texts.mean(dim=1), dim=-1)
        ),
        "a mean of unit vectors is shorter than 1: normalize once more after the mean": answer(unit.mean(dim=1)),
        "nothing was normalized: the longest text vector wins": answer(texts.mean(dim=1)),
        "these are cosines: multiply them by the scale and take the softmax": F.normalize(unit.mean(dim=1), dim=-1)
        @ image,
        "the scale is missing: the cosines are multiplied by it before the softmax": answer(
            F.normalize(unit.mean(dim=1), dim=-1), 1.0
        ),
        "you averaged the templates' probabilities: average their vectors, and take one softmax": torch.stack(
            [answer(unit[:, t]) for t in range(2)]
        ).mean(dim=0),
        "you used one template only: take the mean over all": answer(unit[:, 0]),
    }
    judge_tensor(function, (_embed, image, labels, templates, scale), right, mistakes=mistakes)


def nearest_pictures(function: Callable) -> None:
    """`function(vectors, names, query, k)` should be the k nearest pictures, pairs (name, cosine), best first.

    Neither `vectors` (N, D) nor `query` (D,) are normalized; with k > N, all N are asked for.
    """
    vectors = torch.tensor([[5.0, 5.0], [0.0, 1.0], [0.9, 0.1], [-1.0, 0.0], [0.3, 0.1]])
    names, query = ["long", "up", "right", "left", "short"], torch.tensor([2.0, 0.0])
    cosines = F.normalize(vectors, dim=-1) @ F.normalize(query, dim=0)
    order = cosines.argsort(descending=True).tolist()
    answer = run(function, vectors.clone(), [*names], query.clone(), 3)
    if answer is NOT_ATTEMPTED:
        print(NOT_ATTEMPTED)
        return
    answer = _as_pairs(answer)
    found = [name for name, _ in answer]
    if len(found) != 3:
        raise AssertionError(f"k is 3, and your list has {len(found)} pictures")
    if found[0] == "long":
        raise AssertionError("the longest vector came first: divide by the lengths, so that only the direction counts")
    if found == [names[i] for i in order[::-1][:3]]:
        raise AssertionError("these are the farthest pictures: sort by the cosine, largest first")
    if found != [names[i] for i in order[:3]]:
        raise AssertionError(f"got {found}, expected {[names[i] for i in order[:3]]}")
    for (name, value), i in zip(answer, order):
        if not math.isclose(value, cosines[i].item(), abs_tol=1e-4):
            raise AssertionError(f"{name} has cosine {cosines[i]:.3f}, yours is {value:.3f}: divide by both lengths")
    if len(_as_pairs(run(function, vectors, names, query, 9))) != len(names):
        raise AssertionError("k = 9 of 5 pictures: return all 5")
    print("right!")


def _as_pairs(answer: object) -> list[tuple[str, float]]:
    """The answer as (name, cosine) pairs, or an AssertionError that says what is expected."""
    try:
        pairs = [(name, float(value)) for name, value in answer]  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        raise AssertionError("return a list of pairs (name, cosine), best first") from None
    for name, _ in pairs:
        if not isinstance(name, str):
            raise AssertionError(f"each pair begins with the picture's name, yours with {name!r}: look it up in names")
    return pairs

"""Linear probe and few-shot: labels on top of frozen features (paper, sections 3.1.5 and 3.2, appendix A.3)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import MinclipError, need
from .metrics import accuracy

Set = tuple[Tensor | np.ndarray, Tensor | np.ndarray]  # features (N, D) float, labels (N,) of integers
Val, Names, Score = Set | None, Sequence[str], Callable[[Tensor, Tensor], float]


def linear_probe(
    train: Set, test: Set, *, val: Val = None, c: float | None = None, class_names: Names = (), metric: Score = accuracy
) -> dict[str, Any]:
    """Logistic regression on frozen features, C chosen on validation images (appendix A.3), in float64.

    Each set is features (N, D) and labels (N,); the classes are those of the training labels, which may have gaps.
    Errors use `class_names[label]`.  Without `val`, a fifth of each class's training images is held out to choose C,
    which is 1 if no class has five.
    Once C is chosen or given, the model is fitted to the training and validation images together.

    Returns "scores" (N, classes) of the test images; "accuracy", their `metric(scores, labels)`; "c"; "validated", C ->
    metric on the validation images (empty if `c` was given).  Raises MinclipError if features don't fit their labels or
    aren't finite, if there is only one training class, or if another set has a class that training hasn't.
    """
    (x, y), (test_x, test_y), val = checked(train, test, val=val, class_names=class_names)
    if val is None and c is None:  # a random fifth of each class, always the same; without five images, none
        generator, counts = torch.Generator().manual_seed(0), y.bincount().tolist()
        out = torch.cat([_draw(y == i, count // 5, generator) for i, count in enumerate(counts)])
        kept = torch.ones_like(y, dtype=torch.bool).index_fill(0, out, False)
        x, y, val, c = x[kept], y[kept], (x[~kept], y[~kept]), None if len(out) else 1.0
    c, validated = choose_c(x, y, val, metric=metric) if c is None else (c, {})
    if val is not None:
        x, y = torch.cat([x, val[0]]), torch.cat([y, val[1]])
    scores = predict(test_x, fit(x, y, c))
    return {"accuracy": metric(scores, test_y), "c": c, "validated": validated, "scores": scores}


def few_shot(
    train: Set,
    test: Set,
    *,
    ks: Sequence[int] = (1, 2, 4, 8, 16),
    repeats: int = 10,
    val: Val = None,
    class_names: Names = (),
    metric: Score = accuracy,
    seed: int = 0,
) -> dict[int, dict[str, Any]]:
    """Probes on k training images per class, for each k of `ks`, drawn `repeats` times without replacement.

    Sets as for `linear_probe`; the images of a smaller k are among those of a larger one.  With `val`, C is chosen for
    each k with one more draw and all of `val`, which flatters the probe: in practice it has only k images.  Else C = 1.

    Returns k -> "accuracies" of the repeats, their "mean" and sample "std" (0 for one repeat), and "c".
    Raises MinclipError as `linear_probe` does, and if a class has fewer than k training images.
    """
    need(ks and min(*ks, repeats) >= 1, f"ks and repeats must each be at least 1, got {tuple(ks)} and {repeats}")
    (x, y), (test_x, test_y), val = checked(train, test, val=val, class_names=class_names, shots=max(ks))
    generator, classes = torch.Generator().manual_seed(seed), range(int(y.max()) + 1)
    # (repeats + 1, classes, largest k) rows of x: each draw of k is the first k columns
    rows = torch.stack([torch.stack([_draw(y == i, max(ks), generator) for i in classes]) for _ in range(repeats + 1)])
    out = {}
    for k in ks:
        *chosen, extra = rows[:, :, :k].flatten(1)
        c = 1.0 if val is None else choose_c(x[extra], y[extra], val, metric=metric)[0]
        accuracies = [metric(predict(test_x, fit(x[r], y[r], c)), test_y) for r in chosen]
        spread = float(np.std(accuracies, ddof=1)) if repeats > 1 else 0.0
        out[k] = {"accuracies": accuracies, "mean": float(np.mean(accuracies)), "std": spread, "c": c}
    return out


def crossing(curve: dict[int, float], zero_shot: float) -> float | None:
    """How many labeled images per class zero-shot is worth: the k at which `curve` (k -> accuracy) first reaches it.

    Linear in log2 k (the paper's figure 7).  None if the curve stays below; the first k if it already starts above.
    """
    ks = sorted(curve)
    first = next((i for i, k in enumerate(ks) if curve[k] >= zero_shot), None)
    if not first:
        return None if first is None else float(ks[0])
    a, b = ks[first - 1 : first + 1]  # curve[a] is below zero-shot
    return float(2 ** np.interp(zero_shot, (curve[a], curve[b]), np.log2((a, b))))


def choose_c(x: Tensor, y: Tensor, val: Set, *, metric: Score = accuracy) -> tuple[float, dict[float, float]]:
    """The C with the best metric on the validation set, and C -> metric of all that were tried (appendix A.3).

    A search over 97 values from 1e-6 to 1e6, eight per decade: first every second decade, then on both sides of the
    best one, halving the distance down to direct neighbors.  Ties go to the smallest C, which regularizes most.
    """
    results, weights = {}, {}
    tried = range(0, 97, 16)  # in eighths of a decade
    for step in (8, 4, 2, 1, 0):
        for i in tried:
            if i not in results and 0 <= i <= 96:
                # start from the weights of the nearest C: the same minimum, sooner
                near = min(weights, key=lambda other: abs(other - i), default=None)
                weights[i] = fit(x, y, 10 ** (i / 8 - 6), start=weights.get(near))
                results[i] = metric(predict(val[0], weights[i]), val[1])
        best = max(sorted(results), key=results.get)
        tried = (best - step, best + step)
    return 10 ** (best / 8 - 6), {10 ** (i / 8 - 6): results[i] for i in sorted(results)}


def fit(x: Tensor, y: Tensor, c: float, *, start: Tensor | None = None) -> Tensor:
    """Weights (D + 1, classes), the last row the intercepts, that minimize C × the sum of the log losses + ½‖W‖².

    scikit-learn's objective: intercepts are not penalized, and two classes share one column.  `y` (N,) counts from 0
    and every class occurs.  L-BFGS on all images with a line search, from zeros or `start`.
    """
    need(0 < c < math.inf, f"c must be a positive number, got {c}")
    # a small C makes the weights tiny and hard to optimize: v holds them in units of their expected size
    unit = x.new_ones(x.shape[1] + 1, 1)
    unit[:-1] = min(1.0, math.sqrt(c * len(x)))
    columns = 1 if y.max() < 2 else int(y.max()) + 1
    v = (x.new_zeros(x.shape[1] + 1, columns) if start is None else start / unit).requires_grad_()
    stop = {"max_iter": 1000, "max_eval": 10_000, "tolerance_grad": 1e-6, "tolerance_change": 1e-13}
    optimizer = torch.optim.LBFGS([v], history_size=10, line_search_fn="strong_wolfe", **stop)

    @torch.enable_grad()
    def loss() -> Tensor:
        optimizer.zero_grad()
        # dividing by C and N keeps the minimum, and makes tolerance_grad mean the same for every C and N
        w = unit * v
        value = F.cross_entropy(predict(x, w), y) + w[:-1].square().sum() / (2 * c * len(x))
        value.backward()
        return value

    optimizer.step(loss)
    return (unit * v).detach()


def predict(x: Tensor, w: Tensor) -> Tensor:
    """Scores (N, classes) of features (N, D); if one column stands for two classes, the first class's score is 0."""
    scores = x @ w[:-1] + w[-1]
    return F.pad(scores, (1, 0)) if w.shape[1] == 1 else scores


def checked(train: Set, test: Set, *, val: Val = None, class_names: Names = (), shots: int = 1) -> list[Any]:
    """The sets in float64, with the training classes renumbered from 0; `few_shot` says which errors are raised."""
    sets: list[Any] = []

    def named(label: Tensor) -> str:
        return repr(class_names[int(label)]) if class_names else str(int(label))

    for what, (x, y) in {"training": train, "test": test, "validation": val or (None, None)}.items():
        if x is None:
            return [*sets, None]
        x, y = torch.as_tensor(x).double(), torch.as_tensor(() if y is None else y)
        fits = x.ndim == 2 and y.shape == x.shape[:1] and len(x) and not y.is_floating_point()
        got = f"{what} features {tuple(x.shape)} and labels {tuple(y.shape)} of {y.dtype}"
        need(fits, f"{got}: they must be (N, D) and (N,) integers, N at least 1")
        if bad := (~x.isfinite()).any(dim=1).nonzero()[:, 0].tolist():
            raise MinclipError(f"{len(bad)} of {len(x)} {what} images have features that aren't finite, first {bad[0]}")
        if not sets:
            width, device = x.shape[1], x.device
            classes, count = y.long().to(device).unique(return_counts=True)
            need(len(classes) > 1, f"all {len(x)} training images have label {classes[0]}: a probe needs two classes")
            few = f"class {named(classes[count.argmin()])} has {count.min()} training images"
            need(count.min() >= shots, f"{few}, too few for {shots} shots: lower the shots")
        x, y = x.to(device), y.long().to(device)
        need(x.shape[1] == width, f"training features have {width} numbers, {what} features {x.shape[1]}")
        if len(new := y[~torch.isin(y, classes)]):
            raise MinclipError(f"class {named(new[0])} has {(new == new[0]).sum()} {what} images and no training image")
        sets.append((x, torch.searchsorted(classes, y)))
    return sets


def _draw(mask: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """(k,) different indices at which the mask (N,) is True, in random order."""
    indices = mask.nonzero()[:, 0]
    return indices[torch.randperm(len(indices), generator=generator)[:k].to(indices.device)]

"""Linear probe and few-shot: what labels are worth on top of frozen features (sections 3.1.5 and 3.2, appendix A.3)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import MinclipError
from .metrics import accuracy

Array = Tensor | np.ndarray


def linear_probe(
    train_x: Array,
    train_y: Array,
    test_x: Array,
    test_y: Array,
    val_x: Array | None = None,
    val_y: Array | None = None,
    c: float | None = None,
    class_names: Sequence[str] = (),
    metric: Callable[[Tensor, Tensor], float] = accuracy,
    seed: int = 0,
) -> dict[str, Any]:
    """Logistic regression on frozen features, with C chosen on validation images as in appendix A.3.

    Features (N, D) float, labels (N,) int64; classes are those of the training labels, whose numbers may have gaps, and
    `class_names[label]` names one in an error.  Without `val_x`, every fifth training image of a class validates.  Once C
    is chosen (or given), the validation images are learned from, too.  Computed in float64 where `train_x` lies.

    Returns "accuracy", what `metric(scores, labels)` says of the test images; "c"; "validated", C -> the metric on the
    validation images, empty where C was given; and "scores" (N, classes) of the test images.  MinclipError where features
    and labels don't belong together or aren't finite, where all training labels are one, and where an image that is
    validated or tested shows a class that no training image shows.
    """
    classes, x, y = _training_set(train_x, train_y)
    test_x, test_y = _other_set("test", test_x, test_y, x, classes, class_names)
    if val_x is not None:
        val_x, val_y = _other_set("validation", val_x, val_y, x, classes, class_names)
    elif c is None:
        held_out = _fifth(y, seed)
        val_x, val_y, x, y = x[held_out], y[held_out], x[~held_out], y[~held_out]
    validated = {}
    if c is None:
        c, validated = choose_c(x, y, val_x, val_y, metric)
    if val_x is not None:
        x, y = torch.cat([x, val_x]), torch.cat([y, val_y])
    scores = predict(test_x, fit(x, y, c))
    return {"accuracy": metric(scores, test_y), "c": c, "validated": validated, "scores": scores}


def few_shot(
    train_x: Array,
    train_y: Array,
    test_x: Array,
    test_y: Array,
    ks: Sequence[int] = (1, 2, 4, 8, 16),
    repeats: int = 10,
    val_x: Array | None = None,
    val_y: Array | None = None,
    c: float = 1.0,
    class_names: Sequence[str] = (),
    metric: Callable[[Tensor, Tensor], float] = accuracy,
    seed: int = 0,
) -> dict[int, dict[str, Any]]:
    """A probe that learns from k training images of each class, for each k of `ks`, drawn anew `repeats` times.

    Features and labels as for `linear_probe`.  Images are drawn without replacement; those of a smaller k are among those
    of a larger one.  With `val_x`, C is chosen for each k on all of them, with one more draw; that flatters the probe,
    who in life has k images for this as well, and never zero-shot.

    Returns k -> "accuracies" of the repeats, their "mean" and "std" (of a sample; 0 for one repeat), and "c".
    MinclipError as for `linear_probe`, and where a class has fewer than k training images.
    """
    classes, x, y = _training_set(train_x, train_y)
    test_x, test_y = _other_set("test", test_x, test_y, x, classes, class_names)
    if val_x is not None:
        val_x, val_y = _other_set("validation", val_x, val_y, x, classes, class_names)
    if not ks or min(ks) < 1 or repeats < 1:
        raise MinclipError(
            f"few-shot with k = {tuple(ks)} and {repeats} repeats learns nothing: each must be at least 1"
        )
    check_shots(train_y, max(ks), class_names)
    generator = torch.Generator().manual_seed(seed)
    # (repeats + 1, classes, largest k) rows of x: each draw of k is the first k columns
    draws = torch.stack(
        [torch.stack([_draw(y == i, max(ks), generator) for i in range(len(classes))]) for _ in range(repeats + 1)]
    )
    out = {}
    for k in ks:
        *rows, extra = draws[:, :, :k].flatten(1)
        chosen = c if val_x is None else choose_c(x[extra], y[extra], val_x, val_y, metric)[0]
        accuracies = [metric(predict(test_x, fit(x[r], y[r], chosen)), test_y) for r in rows]
        spread = float(np.std(accuracies, ddof=1)) if repeats > 1 else 0.0
        out[k] = {"accuracies": accuracies, "mean": float(np.mean(accuracies)), "std": spread, "c": chosen}
    return out


def check_shots(train_y: Array, k: int, class_names: Sequence[str] = ()) -> None:
    """A MinclipError names the class, of the training labels (N,), that has the fewest images where those are fewer than k."""
    classes, count = torch.as_tensor(train_y).unique(return_counts=True)
    if int(count.min()) < k:
        name = _name(classes[count.argmin()], class_names)
        raise MinclipError(f"class {name} has {int(count.min())} training images, too few for {k} shots")


def crossing(curve: dict[int, float], zero_shot: float) -> float | None:
    """How many labelled images a class zero-shot is worth: the k at which the curve first reaches it.

    `curve` maps k to accuracy.  Between two k, it is a line over log2 k (the paper's figure 7).  The smallest k where the
    curve begins at zero-shot or above, so that the true one may be smaller; None where it stays below.
    """
    ks = sorted(curve)
    if curve[ks[0]] >= zero_shot:
        return float(ks[0])
    for a, b in zip(ks, ks[1:]):
        if curve[b] >= zero_shot:  # and was below at a
            share = (zero_shot - curve[a]) / (curve[b] - curve[a])
            return 2 ** (math.log2(a) + share * (math.log2(b) - math.log2(a)))
    return None


def choose_c(
    x: Tensor, y: Tensor, val_x: Tensor, val_y: Tensor, metric: Callable[[Tensor, Tensor], float] = accuracy
) -> tuple[float, dict[float, float]]:
    """The C with the best metric on the validation set, and C -> metric of all that were tried (appendix A.3).

    97 values from 1e-6 to 1e6, eight a decade, are not all tried: first every second decade, then twice around the best
    at half the distance, until neighbours are.  Of equals the smallest, which regularises most.
    """
    results: dict[int, float] = {}
    weights: dict[int, Tensor] = {}

    def measure(eighths: int) -> None:
        if eighths in results or not 0 <= eighths <= 96:
            return
        # it begins where the nearest C ended: the same minimum, sooner
        near = min(weights, key=lambda other: abs(other - eighths), default=None)
        weights[eighths] = fit(x, y, _c(eighths), weights.get(near))
        results[eighths] = metric(predict(val_x, weights[eighths]), val_y)

    for eighths in range(0, 97, 16):
        measure(eighths)
    for step in (8, 4, 2, 1):
        best = max(sorted(results), key=results.get)
        measure(best - step)
        measure(best + step)
    best = max(sorted(results), key=results.get)
    return _c(best), {_c(eighths): results[eighths] for eighths in sorted(results)}


def fit(x: Tensor, y: Tensor, c: float, start: Tensor | None = None, steps: int = 1000) -> Tensor:
    """Weights (D + 1, classes), the last row the intercepts, that minimise C × the sum of the log losses + ½‖W‖².

    scikit-learn's objective: intercepts are not penalised, and two classes have one column.  `y` (N,) counts from 0 and
    every class occurs.  L-BFGS over all images with a line search, at most `steps` steps, from zeros or from `start`.
    """
    if not (c > 0 and math.isfinite(c)):
        raise MinclipError(f"C {c} must be a positive number")
    classes = int(y.max()) + 1
    # a small C makes weights small and their minimum narrow: they are looked for in a unit of their own size
    unit = x.new_ones(x.shape[1] + 1, 1)
    unit[:-1] = min(1.0, math.sqrt(c * len(x)))
    v = x.new_zeros(x.shape[1] + 1, classes if classes > 2 else 1) if start is None else start / unit
    v.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [v],
        max_iter=steps,
        max_eval=10 * steps,
        tolerance_grad=1e-6,
        tolerance_change=1e-13,
        history_size=10,
        line_search_fn="strong_wolfe",
    )

    @torch.enable_grad()
    def loss() -> Tensor:
        optimizer.zero_grad()
        # divided by C and N, which moves no minimum: the gradient's size then says the same for every C and N
        w = unit * v
        value = F.cross_entropy(predict(x, w), y) + w[:-1].square().sum() / (2 * c * len(x))
        value.backward()
        return value

    optimizer.step(loss)
    return (unit * v).detach()


def predict(x: Tensor, w: Tensor) -> Tensor:
    """Scores (N, classes) of features (N, D); where one column stands for two classes, the first one's score is 0."""
    scores = x @ w[:-1] + w[-1]
    return F.pad(scores, (1, 0)) if w.shape[1] == 1 else scores


def _c(eighths: int) -> float:
    return 10 ** (eighths / 8 - 6)


def _training_set(x: Array, y: Array) -> tuple[Tensor, Tensor, Tensor]:
    """The classes, sorted, the features in float64, and the labels as places in `classes`."""
    x, y = _pair("training", x, y)
    classes, y = y.unique(return_inverse=True)
    if len(classes) < 2:
        raise MinclipError(f"all {len(x)} training images have label {classes[0]}: a probe needs at least two classes")
    return classes, x, y


def _other_set(
    what: str, x: Array, y: Array | None, train_x: Tensor, classes: Tensor, names: Sequence[str]
) -> tuple[Tensor, Tensor]:
    x, y = _pair(what, x, y)
    if x.shape[1] != train_x.shape[1]:
        raise MinclipError(f"training features have {train_x.shape[1]} numbers, {what} features {x.shape[1]}")
    x, y = x.to(train_x.device), y.to(train_x.device)
    if (new := ~torch.isin(y, classes)).any():
        label = y[new][0]
        raise MinclipError(
            f"class {_name(label, names)} has {int((y == label).sum())} {what} images and no training image: a probe can't know it"
        )
    return x, torch.searchsorted(classes, y)


def _pair(what: str, x: Array, y: Array | None) -> tuple[Tensor, Tensor]:
    if y is None:
        raise MinclipError(f"the {what} images have no labels")
    x, y = torch.as_tensor(x).double(), torch.as_tensor(y)
    if x.ndim != 2 or y.shape != x.shape[:1] or len(x) == 0:
        raise MinclipError(
            f"{what} features {tuple(x.shape)} and labels {tuple(y.shape)}: they must be (N, D) and (N,), N at least 1"
        )
    if bad := int((~x.isfinite()).any(dim=1).sum()):
        first = int((~x.isfinite()).any(dim=1).nonzero()[0])
        raise MinclipError(
            f"{bad} of {len(x)} {what} images have features that are not finite, the first is number {first}"
        )
    if y.is_floating_point():
        raise MinclipError(f"{what} labels are {y.dtype}: they must be whole numbers")
    return x, y.long().to(x.device)


def _name(label: Tensor, names: Sequence[str]) -> str:
    return repr(names[int(label)]) if names else str(int(label))


def _draw(mask: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k different places at which the mask (N,) is true, in random order."""
    places = mask.nonzero()[:, 0]
    return places[torch.randperm(len(places), generator=generator)[:k].to(places.device)]


def _fifth(y: Tensor, seed: int) -> Tensor:
    """(N,) bool: a random fifth of each class, rounded down, so that some of every class stays."""
    generator, held_out = torch.Generator().manual_seed(seed), torch.zeros_like(y, dtype=torch.bool)
    for i, count in enumerate(y.bincount().tolist()):
        held_out[_draw(y == i, count // 5, generator)] = True
    if not held_out.any():
        raise MinclipError("no class has five training images, so that none can validate: give val_x and val_y, or c")
    return held_out

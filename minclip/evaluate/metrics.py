"""The paper's metrics (its table 9): functions of scores and labels, each a share of 1.

Ties are broken as by a coin: a model that maps everything to one point gets what chance gets, not 0 or 100 %.  A score
that is not a number never helps.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..config import MinclipError

Array = Tensor | np.ndarray


def accuracy(scores: Array, labels: Array, k: int = 1) -> float:
    """Share of rows whose right class is among the k best; `scores` (N, C) float, `labels` (N,) int64 from 0 to C - 1."""
    return float(_right(*_of_classes(scores, labels), k).mean())


def mean_of_top_1_and_5(scores: Array, labels: Array) -> float:
    """The mean of accuracy at k = 1 and k = 5, as Kinetics-700 counts."""
    return (accuracy(scores, labels) + accuracy(scores, labels, 5)) / 2


def mean_per_class(scores: Array, labels: Array) -> float:
    """The accuracy within each class, averaged over the classes that occur: a rare one weighs as much as a frequent one.

    `scores` (N, C) float, `labels` (N,) int64.
    """
    scores, labels = _of_classes(scores, labels)
    count = torch.bincount(labels)
    right = torch.zeros(len(count), dtype=torch.float64, device=scores.device)
    right.index_add_(0, labels, _right(scores, labels))
    return float((right / count)[count > 0].mean())


def mean_average_precision(scores: Array, labels: Array) -> float:
    """The average precision of each class as VOC 2007 defines it, averaged over the classes that occur.

    `scores` (N, C) float, `labels` (N, C) bool: an image may show several classes, or none.  Images come best first, equal
    scores together; the average is over 11 points, of the best precision at a recall of at least 0, 0.1, … 1 (Everingham
    et al. 2010, section 4.2).
    """
    scores, labels = torch.as_tensor(scores).cpu(), torch.as_tensor(labels).cpu().bool()
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise MinclipError(f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)}: both must be (N, C)")
    if not labels.any():
        raise MinclipError("no image has a label: there is nothing to find")
    values = [_average_precision(x, y) for x, y in zip(scores.T, labels.T) if y.any()]
    return sum(values) / len(values)


def roc_auc(scores: Array, labels: Array) -> float:
    """How often a row of class 1 is more like class 1 than a row of class 0 is: the area under the ROC curve.

    `scores` (N, 2) float, of which the difference decides, as in a softmax; `labels` (N,) of 0 and 1, both there.
    """
    scores, labels = _of_classes(scores, labels)
    if scores.shape[1] != 2 or len(labels.unique()) != 2:
        raise MinclipError(
            f"ROC AUC compares two classes that both occur: there are {scores.shape[1]} columns of scores, and labels {labels.unique().tolist()[:5]}"
        )
    margin = scores[:, 1].double() - scores[:, 0].double()
    positive, negative = margin[labels == 1], margin[labels == 0]
    pairs = len(positive) * len(negative)
    positive, negative = (x[~x.isnan()].sort().values for x in (positive, negative))
    below = torch.searchsorted(negative, positive) + torch.searchsorted(negative, positive, right=True)
    return float(below.sum()) / 2 / pairs


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "mean(top1, top5)": mean_of_top_1_and_5,
    "mean per class": mean_per_class,
    "11-point mAP": mean_average_precision,
    "ROC AUC": roc_auc,
}


def _of_classes(scores: Array, labels: Array) -> tuple[Tensor, Tensor]:
    """Both on the CPU, since not every GPU has float64; a MinclipError where a row has no right class."""
    scores, labels = torch.as_tensor(scores).cpu(), torch.as_tensor(labels).cpu()
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or len(labels) == 0:
        raise MinclipError(
            f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)}: they must be (N, C) and (N,), N at least 1"
        )
    if labels.is_floating_point() or int(labels.min()) < 0 or int(labels.max()) >= scores.shape[1]:
        raise MinclipError(
            f"labels from {labels.min().item()} to {labels.max().item()}: they must be whole numbers from 0 to {scores.shape[1] - 1}, one for each column of the scores"
        )
    return scores, labels.long()


def _right(scores: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """(N,) float64: the chance of each row's right class to be among the k best when ties are broken by a coin."""
    if k < 1:
        raise MinclipError(f"the {k} best classes are none: k must be at least 1")
    parts = []
    for x, y in zip(scores.split(1024), labels.split(1024)):  # a sum of booleans takes 8 bytes for each of them
        right = x.gather(1, y[:, None])
        below, tied = (x < right).sum(dim=1), (x == right).sum(dim=1)  # itself ties, unless it is not a number
        above = x.shape[1] - below - tied
        parts.append(((k - above).double() / tied.clamp(min=1)).clamp(0, 1) * (tied > 0))
    return torch.cat(parts)


def _average_precision(scores: Tensor, labels: Tensor) -> float:
    """Of one class: `scores` and `labels` (N,), at least one of them True."""
    known = ~(labels & scores.isnan())  # a right one without a number is never found, a wrong one comes first
    order = scores[known].nan_to_num(torch.inf, torch.inf, -torch.inf).sort(descending=True)
    last = torch.ones_like(order.values, dtype=torch.bool)  # of those with one score
    last[:-1] = order.values[1:] != order.values[:-1]
    found = labels[known][order.indices].cumsum(0)[last]
    precision = found / (1 + last.nonzero()[:, 0])
    # whole numbers: 0.3 is not 3 / 10 for a computer
    points = [precision[10 * found >= tenths * labels.sum()] for tenths in range(11)]
    return sum(float(p.max()) for p in points if len(p)) / 11

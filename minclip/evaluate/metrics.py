"""The metrics of the paper's table 9: functions of scores and labels that return a fraction from 0 to 1.

Ties count as if broken at random: a model with equal scores for all gets chance level.  NaN never raises a metric.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..config import need
from ..zeroshot import accuracy, hits

Array = Tensor | np.ndarray


def mean_per_class(scores: Array, labels: Array) -> float:
    """Accuracy within each class, averaged over the classes that occur; scores (N, C) float, labels (N,) int64."""
    right = hits(scores, labels)
    labels = torch.as_tensor(labels).cpu().long()
    count = labels.bincount()
    return float((labels.bincount(right) / count)[count > 0].mean())


def mean_average_precision(scores: Array, labels: Array) -> float:
    """11-point average precision of each class, averaged over the classes that occur.

    `scores` (N, C) float, `labels` (N, C) bool: an image may show several classes, or none.  The average is over the
    best precision at a recall of at least 0, 0.1, … 1 (Everingham et al. 2010, section 4.2); equal scores tie.
    """
    scores, labels = torch.as_tensor(scores).cpu(), torch.as_tensor(labels).cpu().bool()
    shapes = f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)}"
    need(scores.ndim == 2 and scores.shape == labels.shape, f"{shapes} must be (N, C)")
    need(labels.any(), "mean average precision needs at least one image with a label")
    values = [_average_precision(x, y) for x, y in zip(scores.T, labels.T) if y.any()]
    return sum(values) / len(values)


def _average_precision(scores: Tensor, labels: Tensor) -> float:
    """Of one class: `scores` and `labels` (N,), at least one of them True."""
    known = ~(labels & scores.isnan())  # a positive with NaN is never found, a negative with NaN ranks first
    order = scores[known].nan_to_num(torch.inf, torch.inf, -torch.inf).sort(descending=True)
    last = torch.ones_like(order.values, dtype=torch.bool)  # True at the last of equal scores
    last[:-1] = order.values[1:] != order.values[:-1]
    found = labels[known][order.indices].cumsum(0)[last]
    precision = found / (1 + last.nonzero()[:, 0])
    # compared as integers: in floating point, 3 * 0.1 > 0.3
    points = [precision[10 * found >= tenths * labels.sum()] for tenths in range(11)]
    return sum(float(p.max()) for p in points if len(p)) / 11


def roc_auc(scores: Array, labels: Array) -> float:
    """The area under the ROC curve: how often an example of class 1 gets a higher score than one of class 0.

    `scores` (N, 2) float, as logits: an example's score is column 1 - column 0; `labels` (N,) of 0 and 1, both present.
    """
    scores, labels = torch.as_tensor(scores).cpu().double(), torch.as_tensor(labels).cpu()
    fits = scores.shape == (*labels.shape, 2) and not labels.is_floating_point() and labels.unique().tolist() == [0, 1]
    got = f"{tuple(scores.shape)}, {tuple(labels.shape)} with {labels.unique().tolist()[:5]}"
    need(fits, f"ROC AUC needs scores (N, 2) and integer labels (N,) of both 0 and 1, got {got}")
    margin = scores[:, 1] - scores[:, 0]
    groups = margin[labels == 1], margin[labels == 0]
    positive, negative = (x[~x.isnan()].sort().values for x in groups)
    below = torch.searchsorted(negative, positive) + torch.searchsorted(negative, positive, right=True)
    return float(below.sum()) / 2 / (len(groups[0]) * len(groups[1]))  # ties count half


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "mean(top1, top5)": lambda scores, labels: (accuracy(scores, labels) + accuracy(scores, labels, 5)) / 2,
    "mean per class": mean_per_class,
    "11-point mAP": mean_average_precision,
    "ROC AUC": roc_auc,
}

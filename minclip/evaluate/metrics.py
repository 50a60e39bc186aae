"""The metrics of the paper's table 9: functions of scores and labels that return a fraction from 0 to 1.

Ties count as if broken at random: a model with equal scores for all gets chance level.  NaN never raises a metric.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import comb

import numpy as np
import torch
from torch import Tensor

from ..config import need

Array = Tensor | np.ndarray


def accuracy(scores: Array, labels: Array, k: int = 1) -> float:
    """Top-k accuracy, from 0 to 1, of scores (N, C) and labels (N,), tensors or arrays; the mean of `hits`."""
    return float(hits(scores, labels, k).mean())


def hits(scores: Array, labels: Array, k: int = 1) -> Tensor:
    """(N,) float64: 1 where the right class is among the k best of scores (N, C) float; labels (N,) are 0 to C - 1.

    Ties count as if broken at random: a model that maps everything to one point gets k / C, not 0 or 100 %.  A NaN
    score never counts as right.  MinclipError: shapes that don't match, a label without a column, k below 1.
    """
    scores, labels = torch.as_tensor(scores).cpu(), torch.as_tensor(labels).cpu()  # not every GPU has float64
    seen = labels.unique().tolist() or [-1]  # sorted
    fits = scores.ndim == 2 and labels.shape == scores.shape[:1] and not labels.is_floating_point()
    got = f"{tuple(scores.shape)}, {tuple(labels.shape)} from {seen[0]} to {seen[-1]}, k = {k}"
    what = f"scores must be (N, C), labels (N,) whole numbers from 0 to C - 1, k at least 1: got {got}"
    need(fits and seen[0] >= 0 and seen[-1] < scores.shape[1] and k >= 1, what)
    parts = []
    for x, y in zip(scores.split(1024), labels.long().split(1024)):  # in parts: booleans are summed in 8 bytes each
        right = x.gather(1, y[:, None])  # (n, 1)
        tied = (x == right).sum(dim=1)  # with itself at least, unless the right score is NaN
        above = x.shape[1] - tied - (x < right).sum(dim=1)  # all scores that are neither below nor tied, NaN included
        parts.append(((k - above).double() / tied.clamp(min=1)).clamp(0, 1) * (tied > 0))
    return torch.cat(parts)


def mean_per_class(scores: Array, labels: Array) -> float:
    """Accuracy within each class, averaged over the classes that occur; scores (N, C) float, labels (N,) int64."""
    right, labels = hits(scores, labels), torch.as_tensor(labels).cpu()
    return float(torch.stack([right[labels == i].mean() for i in labels.unique()]).mean())


def mean_average_precision(scores: Array, labels: Array) -> float:
    """11-point average precision of each class, averaged over the classes that occur.

    `scores` (N, C) float, `labels` (N, C) bool: an image may show several classes, or none.  The average is over the
    best precision at a recall of at least 0, 0.1, … 1 (Everingham et al. 2010, section 4.2); equal scores tie.
    """
    scores, labels = torch.as_tensor(scores).cpu(), torch.as_tensor(labels).cpu().bool()
    shapes = f"scores {tuple(scores.shape)} and labels {tuple(labels.shape)}"
    need(scores.ndim == 2 and scores.shape == labels.shape, f"{shapes} must be (N, C)")
    need(labels.any(), "mean average precision needs at least one image with a label")
    points = []  # 11 for each class that occurs
    for x, y in ((x, y) for x, y in zip(scores.T, labels.T) if y.any()):
        known = ~(y & x.isnan())  # a positive with NaN is never found, a negative with NaN ranks first
        order = x[known].nan_to_num(torch.inf, torch.inf, -torch.inf).sort(descending=True)
        last = torch.ones_like(order.values, dtype=torch.bool)  # True at the last of equal scores
        last[:-1] = order.values[1:] != order.values[:-1]
        found = y[known][order.indices].cumsum(0)[last]
        precision = found / (1 + last.nonzero()[:, 0])
        # compared as integers: in floating point, 3 * 0.1 > 0.3
        reached = (precision[10 * found >= tenths * y.sum()] for tenths in range(11))
        points += [float(p.max()) if len(p) else 0.0 for p in reached]
    return sum(points) / len(points)


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


def retrieval_chance(text_to_image: Array, images: int, *, ks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
    """The recalls of `retrieval` for random ranks of M texts and N = `images` images, by the same names.

    text -> image: k / N.  image -> text: the mean of 1 - C(M - c, k) / C(M, k) for an image with c texts, C binomial.
    """
    m, owned = len(text_to_image), Counter(Counter(torch.as_tensor(text_to_image).tolist()).values())  # c -> images
    found = {k: sum(n * (1 - comb(m - c, min(k, m)) / comb(m, min(k, m))) for c, n in owned.items()) for k in ks}
    chance = {f"text_to_image_r@{k}": min(k / images, 1.0) for k in ks}
    return chance | {f"image_to_text_r@{k}": found[k] / owned.total() for k in ks}


METRICS: dict[str, Callable[[Array, Array], float]] = {
    "accuracy": accuracy,
    "mean(top1, top5)": lambda scores, labels: (accuracy(scores, labels) + accuracy(scores, labels, 5)) / 2,
    "mean per class": mean_per_class,
    "11-point mAP": mean_average_precision,
    "ROC AUC": roc_auc,
}

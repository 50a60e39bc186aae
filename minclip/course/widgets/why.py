"""The widget of notebook 09: the answers of each objective in the course of its training."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from .. import plots
from ..experiments import LIVE
from .playgrounds import redrawn

Scores = Mapping[str, Mapping[int, Tensor]]


def answers_figure(
    images: np.ndarray, labels: Sequence[int], scores: Scores, *, names: Sequence[str], image: int, after: int
) -> Figure:
    """The three best classes of images[image], (3, S, S) uint8, for each objective after `after` images processed.

    `scores[objective][after]` are log-scores (N, C) of all images, drawn as their softmax over the C `names`.
    """
    answers = {}
    for objective, moments in scores.items():
        values, best = moments[after][image].softmax(dim=0).topk(3)
        answers[objective] = [(names[i], value) for i, value in zip(best.tolist(), values.tolist())]
    truth = names[int(labels[image])]
    right = sum(best[0][0] == truth for best in answers.values())
    title = f"image {image} after {after:,} images: {right} of {len(answers)} objectives answer {truth}"
    return plots.top_answers(images[image], truth, answers, title=title, note=LIVE)


def answers_playground(
    images: np.ndarray, labels: Sequence[int], scores: Scores, *, names: Sequence[str]
) -> ipywidgets.VBox:
    """Choose a test image and how many images each objective has processed, and compare their answers."""
    moments = [*next(iter(scores.values()))]
    return redrawn(
        lambda image, after: answers_figure(images, labels, scores, names=names, image=image, after=after),
        image=ipywidgets.IntSlider(0, 0, len(images) - 1, description="image"),
        after=ipywidgets.SelectionSlider(options=moments, value=moments[-1], description="after"),
    )


def log_scores(stages: Mapping[int, Any], images: Tensor, score: Callable) -> dict[int, Tensor]:
    """`score(stage, images)`, (N, C), for each moment of a training run, computed once so that the slider is fast."""
    with torch.no_grad():
        return {moment: score(stage, images) for moment, stage in stages.items()}

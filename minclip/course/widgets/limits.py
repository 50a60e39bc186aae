"""The widget of notebook 13: how models that were trained on different captions count."""

from collections.abc import Mapping, Sequence

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from .. import plots
from ..experiments import LIVE
from .playgrounds import redrawn


def counts_figure(
    images: np.ndarray,
    texts: Sequence[Sequence[str]],
    scores: Mapping[str, Tensor],
    *,
    counts: Sequence[int],
    count: int,
    number: int,
) -> Figure:
    """The answers of each model to image `number` of those with `count` objects.

    `images` (N, 3, S, S) uint8 have `counts` (N,) objects; `texts` (N, 4) are captions of each image that
    name 1 to 4 objects, and `scores` map a model's name to its scaled cosines (N, 4), drawn as their softmax.
    """
    image = int(np.flatnonzero(np.asarray(counts) == count)[number])
    answers = {}
    for name, values in scores.items():
        p, best = values[image].softmax(dim=0).sort(descending=True)
        answers[name] = [(texts[image][i], value) for i, value in zip(best.tolist(), p.tolist())]
    truth = texts[image][count - 1]
    right = sum(best[0][0] == truth for best in answers.values())
    title = f"{right} of {len(answers)} models answer {truth}"
    return plots.top_answers(images[image], truth, answers, title=title, note=LIVE)


def counts_playground(
    images: np.ndarray, texts: Sequence[Sequence[str]], scores: Mapping[str, Tensor], *, counts: Sequence[int]
) -> ipywidgets.VBox:
    """Sliders for the number of objects and the image above `counts_figure` of the same arguments."""
    fewest = min(int((np.asarray(counts) == count).sum()) for count in (1, 2, 3, 4))
    return redrawn(
        lambda **chosen: counts_figure(images, texts, scores, counts=counts, **chosen),
        count=ipywidgets.IntSlider(3, 1, 4, description="objects"),
        number=ipywidgets.IntSlider(0, 0, min(fewest, 50) - 1, description="image"),
    )

"""The widget of notebook 11: probes on k labeled images per class, compared with zero-shot."""

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from ...evaluate import probe
from ...evaluate.metrics import accuracy
from .. import plots
from .playgrounds import redrawn

Sets = Mapping[str, Any]


def few_labels_figure(tasks: Mapping[str, Sets], *, task: str, k: int, sample: int) -> Figure:
    """Up to 8 images of each class, as drawn, and the accuracies of probes on k of them and on 1.

    `tasks` maps a task to "train" and "test", each features (N, D) and labels (N,), "images" (N, 3, S, S) uint8 of
    "train", "names" of the classes, and "zero_shot", an accuracy (fraction of 1).  `sample` is the seed of the draw.
    """
    sets = tasks[task]
    (x, y), (test_x, test_y), names = sets["train"], sets["test"], sets["names"]
    generator = torch.Generator().manual_seed(sample)
    rows = [(y == c).nonzero()[:, 0] for c in range(len(names))]
    rows = [of_class[torch.randperm(len(of_class), generator=generator)[:k]] for of_class in rows]
    bars = {}
    for count in dict.fromkeys((1, k)):
        chosen = torch.cat([of_class[:count] for of_class in rows])
        weights = probe.fit(x[chosen].double(), y[chosen], 0.1)
        bars[f"k = {count}"] = accuracy(probe.predict(test_x.double(), weights), test_y)
    images = np.stack([sets["images"][of_class[:8].numpy()] for of_class in rows])
    gap = bars[f"k = {k}"] - sets["zero_shot"]
    worth = "as good as" if abs(gap) < 0.005 else f"{100 * abs(gap):.0f} points {'above' if gap > 0 else 'below'}"
    shown = f"{k} labeled images per class are" if k > 1 else "1 labeled image per class is"
    title = f"{task}, draw {sample}: {shown} {worth} the sentences"
    return plots.shot_cards(images, names, bars=bars, line=sets["zero_shot"], title=title)


def few_labels(tasks: Mapping[str, Sets], ks: Sequence[int] = (1, 2, 4, 8, 16, 32)) -> ipywidgets.VBox:
    """Choose the task, k and the draw, and compare the labeled images with the sentences."""
    return redrawn(
        lambda **chosen: few_labels_figure(tasks, **chosen),
        task=ipywidgets.Dropdown(options=[*tasks], description="task"),
        k=ipywidgets.SelectionSlider(options=[*ks], value=1, description="k"),
        sample=ipywidgets.IntSlider(min=0, max=9, description="draw"),
    )

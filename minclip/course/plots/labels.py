"""The plot of `minclip classify`: each image beside its cosines, and the threshold for "none of these"."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, new_figure, show_image, wrap


def classified(
    pictures: Sequence[Any],
    answers: Sequence[str],
    cosines: Sequence[dict[str, float]],
    *,
    probabilities: Sequence[dict[str, float]],
    below: float | None = None,
    most: int = 6,
) -> Figure:
    """A row for each PIL image: left the image, right its `most` nearest labels, as bars of their cosines.

    The probabilities are beside the bars.  Bars below the threshold `below` are gray; a dashed line marks it.
    """
    cosines = [sorted(of_image.items(), key=lambda item: -item[1])[:most] for of_image in cosines]
    figure = new_figure(7.5, 2.3 * len(pictures))
    axes = axes_grid(figure, len(pictures), 2, width_ratios=[1, 2.2])
    least = min(0, *(cosine for rows in cosines for _, cosine in rows))
    for (left, right), picture, answer, rows, of_label in zip(axes, pictures, answers, cosines, probabilities):
        show_image(left, np.asarray(picture).transpose(2, 0, 1))
        names, values = zip(*rows)
        colors = [PALETTE[0] if below is None or value >= below else "0.7" for value in values]
        right.barh(range(len(rows)), values, color=colors)
        for place, (name, value) in enumerate(rows):
            numbers = f"{value:.2f}  ({of_label[name]:.0%})"
            right.text(1.02, place, numbers, transform=right.get_yaxis_transform(), va="center", fontsize=9)
        if below is not None:
            right.axvline(below, color=PALETTE[5], linestyle="--", linewidth=1.5)
        right.set_yticks(range(len(rows)), [wrap(name, 26) for name in names], fontsize=9)
        right.invert_yaxis()
        right.set_xlim(least, 1)
        right.set_title(wrap(answer, 52), loc="left")
    line = "" if below is None else "; left of the dashed line: none of these"
    axes[-1][1].set_xlabel(f"cosine (probability among these labels){line}", fontsize=9)
    return figure

"""Plots of notebook 10 on copies of test images: image pairs by threshold, confidence intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..setup import PALETTE
from .base import axes_grid, new_figure, show_image
from .experiments import MARKS


def image_pairs(above: np.ndarray, below: np.ndarray, names: Sequence[str], *, title: str = "") -> Figure:
    """n images (n, 3, S, S) uint8 above n others, with a name below each pair."""
    figure = new_figure(1.15 * len(names), 2.9)
    axes = axes_grid(figure, 2, len(names))
    for upper, lower, one, other, name in zip(*axes, above, below, names):
        show_image(upper, one)
        show_image(lower, other, name, width=14)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def threshold_pairs(
    cosines: Sequence[float],
    known: Sequence[bool],
    pairs: tuple[np.ndarray, np.ndarray],
    *,
    threshold: float,
    shown: int = 4,
    title: str = "",
) -> Figure:
    """Cosines (N,) of images with their nearest neighbors, by whether these are copies; the pairs next to `threshold`.

    `pairs` are the images and their neighbors, (N, 3, S, S) uint8 each: `shown` below and `shown` above the threshold.
    """
    cosines, known = np.asarray(cosines), np.asarray(known, dtype=bool)
    figure = new_figure(9, 4.6)
    top, bottom = figure.subfigures(2, 1, height_ratios=[1, 1.35])
    axis = axes_grid(top)[0, 0]
    bins = np.linspace(cosines.min(), 1, 41)
    for kind, name, color, dash in ((~known, "other scenes", PALETTE[0], "-"), (known, "copies", PALETTE[5], "--")):
        counts, _ = np.histogram(cosines[kind], bins)
        axis.stairs(counts, bins, label=name, color=color, linestyle=dash, linewidth=2)
    axis.axvline(threshold, color="black", linewidth=1.5, linestyle=":", label=f"threshold {threshold:.2f}")
    axis.set(xlabel="cosine with the nearest training image", ylabel="test images", yscale="symlog", ylim=(0, None))
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    order = np.argsort(cosines, kind="stable")
    first = int((cosines < threshold).sum())
    rows = order[max(0, first - shown) : first + shown]
    axes = axes_grid(bottom, 2, 2 * shown)
    for axis in axes.flat:
        axis.set_axis_off()
    for place, row in enumerate(rows, start=shown - min(first, shown)):
        texts = ("", f"{cosines[row]:.3f} {'copy' if known[row] else 'other'}")
        for axis, images, text in zip(axes[:, place], pairs, texts):
            axis.set_axis_on()
            show_image(axis, images[row], text, width=10)
    bottom.suptitle("left: just below the threshold · right: just above · test image over its neighbor", fontsize=9)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def intervals(rows: Mapping[str, tuple[float, float, float]], *, line: float, title: str = "") -> Figure:
    """For each row (accuracy, low and high end of its confidence interval), fractions of 1; `line` is that on clean."""
    figure = new_figure(7.5, 0.42 * len(rows) + 1.3)
    axis = axes_grid(figure)[0, 0]
    for place, (middle, low, high) in enumerate(100 * np.array([*rows.values()])):
        axis.plot([low, high], [place, place], color=PALETTE[0], linewidth=3, solid_capstyle="butt", alpha=0.5)
        axis.plot(middle, place, MARKS[place % len(MARKS)], color=PALETTE[0], markersize=8)
        text = f"{middle:.1f} ({low:.1f} to {high:.1f})"
        axis.annotate(text, (high, place), (6, 0), textcoords="offset points", va="center", fontsize=8)
    axis.axvline(100 * line, color=PALETTE[5], linestyle="--", linewidth=1.5, label=f"clean, {100 * line:.1f}")
    axis.set_yticks(range(len(rows)), [*rows], fontsize=9)
    axis.set(xlabel="accuracy, %", title=title, ylim=(len(rows) - 0.4, -0.6))
    axis.margins(x=0.25)
    axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return figure

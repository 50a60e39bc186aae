"""Plots of notebook 07: captions, splits, singular values, bands over seeds, search results."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..setup import PALETTE
from .base import axes_grid, new_figure, show_image, wrap

SPLIT_COLORS = {"train": PALETTE[4], "val": PALETTE[1], "test": PALETTE[6]}


def with_texts(
    images: np.ndarray,
    texts: Sequence[Sequence[str]],
    title: str = "",
    *,
    right: Sequence[Sequence[bool]] | None = None,
) -> Figure:
    """Images (n, 3, S, S) uint8, each beside its lines of text; those that are `right` have a tick and a color."""
    figure = new_figure(8.4, 1.6 * len(images) + 0.4)
    for row, (image_axis, text_axis) in enumerate(axes_grid(figure, len(images), 2, width_ratios=[1, 4.6])):
        show_image(image_axis, images[row])
        text_axis.set_axis_off()
        for line, text in enumerate(texts[row]):
            good = right is not None and right[row][line]
            mark = "" if right is None else "✓  " if good else "–  "
            text_axis.text(
                0,
                0.92 - 0.21 * line,
                mark + wrap(text, 92).replace("\n", " … ")[:100],
                color=PALETTE[0] if good else "black",
                weight="bold" if good else "normal",
                va="center",
                fontsize=9,
            )
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def lengths_and_words(lengths: Sequence[int], counts: Sequence[tuple[str, int]], title: str = "") -> Figure:
    """Left: a histogram of the captions' lengths in words.  Right: how often the words of `counts` occur."""
    figure = new_figure(8.4, 3.4)
    left, right = axes_grid(figure, 1, 2, width_ratios=[1, 1.3])[0]
    left.hist(lengths, bins=np.arange(min(lengths), max(lengths) + 2) - 0.5, color=PALETTE[0], rwidth=0.9)
    left.set(xlabel="words in a caption", ylabel="captions")
    words, numbers = zip(*counts)
    right.bar(range(len(words)), numbers, color=PALETTE[0])
    right.set_xticks(range(len(words)), words, rotation=60, ha="right")
    right.set(ylabel="occurrences")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def split_strips(strips: dict[str, Sequence[str]], title: str = "") -> Figure:
    """A strip for each of `strips`: one cell per image in the color of its split ("" for none)."""
    figure = new_figure(8.4, 0.55 * len(strips) + 1)
    axis = axes_grid(figure)[0, 0]
    for row, splits in enumerate(strips.values()):
        for split, color in SPLIT_COLORS.items():
            bars = [(i - 0.5, 1) for i, s in enumerate(splits) if s == split]
            axis.broken_barh(bars, (row - 0.36, 0.72), color=color, label=split if row == 0 else None, linewidth=0)
    axis.set_yticks(range(len(strips)), list(strips))
    axis.invert_yaxis()
    axis.set(xlabel="images, ordered by name", title=title)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def five_each(scores: Tensor, right: Tensor, title: str = "") -> Figure:
    """Scores (n, m) of images and captions; `right` (n, m) ones have a frame, the best of them in a row a thick one."""
    scores, right = np.asarray(scores), np.asarray(right)
    figure = new_figure(8.4, 0.42 * len(scores) + 1)
    axis = axes_grid(figure)[0, 0]
    axis.imshow(scores, vmin=0, vmax=1.5 * float(scores.max()), aspect="auto")
    best = np.where(right, scores, -np.inf).argmax(axis=1)
    for row, column in np.ndindex(*scores.shape):
        axis.text(column, row, f"{scores[row, column]:.2f}", ha="center", va="center", fontsize=8, color="white")
        if right[row, column]:
            width = 4 if column == best[row] else 1
            axis.add_patch(
                Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, color=PALETTE[1], linewidth=width)
            )
    axis.set_xticks(range(scores.shape[1]))
    axis.set_yticks(range(len(scores)), [f"image {row}" for row in range(len(scores))])
    axis.set(xlabel="caption", title=title)
    return figure


def singular_values(before: Sequence[float] | Tensor, after: Sequence[float] | Tensor, title: str = "") -> Figure:
    """Bars of a matrix's singular values, before and after Muon's orthogonalization, divided by the largest."""
    figure = new_figure(8.4, 2.8)
    for axis, values, name in zip(
        axes_grid(figure, 1, 2, sharey=True)[0], (before, after), ("gradient", "Muon's step")
    ):
        values = np.asarray(values, dtype=float) / float(max(values))
        axis.bar(range(1, len(values) + 1), values, width=1, color=PALETTE[0])
        axis.set(xlabel="singular value, largest first", title=name)
    figure.axes[0].set_ylabel("fraction of the largest")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def band(
    x: Sequence[float], ys: dict[str, np.ndarray], title: str = "", *, chance: float | None = None, **labels: str
) -> Figure:
    """For each of `ys` (seeds, points), fractions of 1, the mean over seeds with a band of ± one standard deviation."""
    figure = new_figure(6.4, 3.2)
    axis = axes_grid(figure)[0, 0]
    for i, (name, values) in enumerate(ys.items()):
        mean, spread = 100 * np.mean(values, axis=0), 100 * np.std(values, axis=0, ddof=1)
        axis.plot(x, mean, ["-o", "--s", ":^"][i % 3], color=PALETTE[i], markersize=4, label=name)
        axis.fill_between(x, mean - spread, mean + spread, color=PALETTE[i], alpha=0.25, linewidth=0)
    if chance is not None:
        axis.axhline(100 * chance, color="black", linestyle="--", linewidth=1)
        end = {"xy": (1, 100 * chance), "xycoords": ("axes fraction", "data"), "ha": "right", "va": "bottom"}
        axis.annotate("chance", **end, fontsize=9)
    axis.set_ylim(bottom=0)
    axis.legend(loc="upper left")
    axis.set(title=title, **labels)
    return figure


def retrieved(
    queries: Sequence[str],
    images: Sequence[Sequence[np.ndarray]],
    title: str = "",
    *,
    right: Sequence[Sequence[bool]] | None = None,
) -> Figure:
    """A row for each text: the images (3, S, S) uint8 found, best first; with `right`, its own image has a frame."""
    columns = len(images[0])
    figure = new_figure(1.3 * columns + 2.2, 1.5 * len(queries) + 0.4)
    axes = axes_grid(figure, len(queries), columns + 1, width_ratios=[1.7] + [1] * columns)
    for row, (query, found) in enumerate(zip(queries, images)):
        axes[row, 0].set_axis_off()
        axes[row, 0].text(0, 0.5, wrap(query, 25), va="center", fontsize=9)
        for column, image in enumerate(found):
            axis, own = axes[row, column + 1], right is not None and right[row][column]
            show_image(axis, image, "its image" if own else "")
            if own:
                for spine in axis.spines.values():
                    spine.set(visible=True, color=PALETTE[5], linewidth=4)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure

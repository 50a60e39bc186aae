"""Plots of the towers: patches, attention, features."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ..setup import PALETTE
from .base import axes_grid, new_figure, show_image, wrap


def token_attention(
    maps: Tensor | np.ndarray, tokens: Sequence[str], names: Sequence[str], *, title: str = "", top: float = 1.0
) -> Figure:
    """Causal attention maps (n, L, L) side by side, from 0 to `top`: rows are queries, columns keys, the future gray.

    Up to four tokens: with their values; more: with a color bar.
    """
    maps, length = np.asarray(maps), len(tokens)
    later = np.triu(np.ones((length, length), dtype=bool), k=1)
    numbers = length <= 4
    figure = new_figure((2.3 if numbers else 2.5) * len(maps) + 0.9, 3.0 if numbers else 3.3)
    axes = axes_grid(figure, 1, len(maps), sharey=True)[0]
    for axis, values, name in zip(axes, maps, names):
        cells = np.ma.masked_where(later & (values == 0), values)
        shown = axis.imshow(cells, vmin=0, vmax=top, cmap="cividis")
        axis.set_facecolor("#d8d8d8")
        axis.set_title(name, fontsize=9)
        axis.set_xticks(range(length), tokens, fontsize=8, rotation=0 if numbers else 90)
        axis.set_yticks(range(length), tokens, fontsize=8)
        axis.tick_params(length=0)
        for (row, column), value in np.ndenumerate(values if numbers else np.empty((0, 0))):
            dark = value < 0.5 and not np.ma.getmaskarray(cells)[row, column]
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", color="white" if dark else "black")
    if not numbers:
        figure.colorbar(shown, ax=axes, shrink=0.7, extend="neither" if top == 1 else "max", label="weight")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def token_counts(counts: dict[str, int], title: str = "") -> Figure:
    """A bar with the number of tokens for each way to compute the same result."""
    figure = new_figure(7.5, 0.45 * len(counts) + 0.8)
    axis = axes_grid(figure)[0, 0]
    axis.barh(range(len(counts)), list(counts.values()), color=PALETTE[: len(counts)])
    axis.set_yticks(range(len(counts)), list(counts))
    axis.invert_yaxis()
    axis.set_xlim(0, 1.18 * max(counts.values()))
    axis.xaxis.set_visible(False)
    axis.spines["bottom"].set_visible(False)
    for i, count in enumerate(counts.values()):
        axis.text(count, i, f" {count:,}", va="center")
    axis.set_title(title)
    return figure


def accuracy_curves(steps: Sequence[int], runs: dict[str, Sequence[Sequence[float]]], title: str = "") -> Figure:
    """Accuracy (fraction of 1) by step: a color for each model, a line for each run; the first model's are thick."""
    figure = new_figure(6.5, 3.2)
    axis = axes_grid(figure)[0, 0]
    for i, (name, lines) in enumerate(runs.items()):
        style = {"color": PALETTE[i], "linestyle": ["-", "--", "-"][i % 3], "linewidth": 1.5 if i else 7}
        axis.plot(steps, 100 * np.array(lines).T, label=[name, *[None] * (len(lines) - 1)], **style)
    axis.set(xlabel="step", ylabel="accuracy, %", ylim=(0, 104), title=title)
    axis.legend(loc="lower right")
    return figure


def moved_cosines(
    captions: Sequence[str], before: Sequence[float], after: Sequence[float], *, names: tuple[str, str], title: str = ""
) -> Figure:
    """The cosine of each caption with a vector, before (circle) and after (diamond) the vector moved."""
    figure = new_figure(7.5, 0.34 * len(captions) + 1.5)
    axis = axes_grid(figure)[0, 0]
    rows = range(len(captions))
    axis.hlines(rows, before, after, color="#999999", linewidth=2, zorder=1)
    axis.scatter(before, rows, s=70, facecolor="white", edgecolor=PALETTE[0], linewidth=2, label=names[0])
    axis.scatter(after, rows, s=40, color=PALETTE[5], marker="D", label=names[1])
    axis.set_yticks(rows, [wrap(caption, 46) for caption in captions], fontsize=9)
    axis.set(xlim=(-1.05, 1.05), ylim=(len(captions) - 0.5, -0.5), xlabel="cosine similarity")
    axis.set_title(title)
    axis.grid(axis="x", color="#e5e5e5")
    axis.set_axisbelow(True)
    figure.legend(loc="outside lower left", ncols=2, fontsize=9)
    return figure


def patch_grid(image: np.ndarray | Tensor, patch_size: int, title: str = "") -> Figure:
    """A (3, S, S) uint8 image, and beside it its patches, cut apart and numbered in the order of the sequence."""
    pixels, gap = np.asarray(image).transpose(1, 2, 0), max(1, patch_size // 8)
    side, step = len(pixels) // patch_size, patch_size + gap
    cut = np.full((side * step - gap, side * step - gap, 3), 255, dtype=np.uint8)
    figure = new_figure(8, 4.2)
    left, right = axes_grid(figure, 1, 2)[0]
    for i in range(side * side):
        row, column = divmod(i, side)
        y, x = row * patch_size, column * patch_size
        cut[row * step :, column * step :][:patch_size, :patch_size] = pixels[y : y + patch_size, x : x + patch_size]
        label = {"boxstyle": "square,pad=0.15", "facecolor": "white", "alpha": 0.75, "linewidth": 0}
        right.text(column * step + 1, row * step + 1, i, fontsize=6, ha="left", va="top", bbox=label)
    show_image(left, pixels.transpose(2, 0, 1))
    show_image(right, cut.transpose(2, 0, 1))
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def heat_maps(
    maps: Sequence[np.ndarray | Tensor],
    names: Sequence[str],
    title: str = "",
    *,
    limits: tuple[float, float] = (0.0, 1.0),
    marks: Sequence[tuple[int, int]] = (),
    columns: int = 4,
    cmap: str = "cividis",
) -> Figure:
    """Maps (h, w) in rows, all with the color range `limits`; a cross marks `marks[i]`, (row, column), in map i."""
    rows, columns = math.ceil(len(maps) / columns), min(columns, len(maps))
    figure = new_figure(1.9 * columns + 0.9, 2.1 * rows + 0.4)
    axes = axes_grid(figure, rows, columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, (axis, values, name) in enumerate(zip(axes.flat, maps, names)):
        shown = axis.imshow(np.asarray(values), vmin=limits[0], vmax=limits[1], cmap=cmap, interpolation="nearest")
        axis.set_title(name, fontsize=9, loc="left")
        if marks:
            axis.plot(*reversed(marks[i]), marker="x", color="black", markersize=7, markeredgewidth=2)
    figure.colorbar(shown, ax=axes, shrink=0.7)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def looked_at(images: np.ndarray, maps: Tensor | np.ndarray, names: Sequence[str], *, title: str = "") -> Figure:
    """Images (n, 3, S, S) uint8, and below each one its attention map (G, G), with its own color range.

    A single image has its map beside it, in percent.
    """
    n, maps = len(images), 100 * np.asarray(maps)
    figure = new_figure(*((5.2, 2.8) if n == 1 else (1.75 * n, 4.1)))
    axes = axes_grid(figure, *((1, 2) if n == 1 else (2, n)))
    for image, values, name, (above, below) in zip(images, maps, names, axes.reshape(2, n).T):
        show_image(above, image)
        above.set_title(name, fontsize=9, loc="left")
        shown = below.imshow(values, vmin=0, cmap="cividis")
        below.set_axis_off()
    if n == 1:
        figure.colorbar(shown, ax=axes[-1], shrink=0.9, label="% of the attention")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure

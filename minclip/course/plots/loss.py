"""Plots of the loss: its two softmaxes, its gradient, memory, batch size and temperature."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ..setup import PALETTE
from .base import axes_grid, new_figure


def numbered(
    matrices: Sequence[Tensor | np.ndarray],
    names: Sequence[str],
    title: str = "",
    *,
    limits: Sequence[tuple[float, float]] = ((0.0, 1.0),),
    cmap: str = "cividis",
    digits: int = 2,
) -> Figure:
    """Small (B, B) matrices side by side with their values; the diagonal, the right pairs, is framed.

    `limits`, one for all or one for each, are the values at the two ends of the color map.
    """
    figure = new_figure(2.7 * len(matrices) + 0.4, 3.2)
    frame = PALETTE[5] if cmap == "cividis" else "black"
    limits = list(limits) * (len(matrices) if len(limits) == 1 else 1)
    for axis, matrix, name, (low, high) in zip(axes_grid(figure, 1, len(matrices))[0], matrices, names, limits):
        matrix = np.asarray(matrix)
        shown = axis.imshow(matrix, vmin=low, vmax=high, cmap=cmap)
        for (row, column), value in np.ndenumerate(matrix):
            r, g, b, _ = shown.cmap(shown.norm(value))
            ink = "black" if 0.3 * r + 0.59 * g + 0.11 * b > 0.5 else "white"
            number = round(float(value), digits) + 0.0  # no sign before a 0
            axis.text(column, row, f"{number:.{digits}f}", ha="center", va="center", fontsize=9, color=ink)
            if row == column:
                axis.add_patch(Rectangle((row - 0.46, row - 0.46), 0.92, 0.92, fill=False, color=frame, lw=2))
        axis.set_title(name, fontsize=9)
        axis.set_xticks(range(len(matrix)), [f"text {i}" for i in range(len(matrix))], fontsize=8)
        axis.set_yticks(range(len(matrix)), [f"image {i}" for i in range(len(matrix))], fontsize=8)
        axis.tick_params(length=0)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def on_circle(
    images: Sequence[Tensor],
    texts: Sequence[Tensor],
    arrows: Sequence[Tensor],
    *,
    names: Sequence[str],
    title: str = "",
) -> Figure:
    """Unit vectors (B, 2) of images and texts, a panel for each moment, a color for each pair.

    Images are discs on an inner circle, texts squares on an outer one, so that both are visible if they coincide.
    `arrows` (2, B, 2) are the moves of images and texts, drawn to scale; tiny ones are left out.
    """
    figure = new_figure(3.1 * len(images), 3.7)
    for axis, *points, moves, name in zip(axes_grid(figure, 1, len(images))[0], images, texts, arrows, names):
        turn = np.linspace(0, 2 * math.pi, 100)
        for vectors, move, radius, marker in zip(points, moves, (0.8, 1.12), "os"):
            axis.plot(radius * np.cos(turn), radius * np.sin(turn), color="#cccccc", linewidth=1, zorder=0)
            for i, ((x, y), (dx, dy)) in enumerate(zip((radius * vectors).tolist(), move.tolist())):
                axis.plot(x, y, marker, color=PALETTE[i], markersize=13, markeredgecolor="black")
                axis.text(x, y, i, ha="center", va="center", fontsize=8, color="white", weight="bold")
                if math.hypot(dx, dy) > 0.1:
                    style = {"arrowstyle": "-|>", "color": PALETTE[i], "linewidth": 2, "shrinkA": 7, "shrinkB": 0}
                    axis.annotate("", (x + dx, y + dy), (x, y), arrowprops=style)
        axis.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), aspect="equal")
        axis.set_title(name, fontsize=9)
        axis.set_axis_off()
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def memory(sizes: Sequence[int], needed: dict[str, Sequence[float]], title: str = "") -> Figure:
    """Bytes by batch size, a line for each of `needed`; both axes are logarithmic, base 2."""
    figure = new_figure(6.5, 3.6)
    axis = axes_grid(figure)[0, 0]
    for i, (name, values) in enumerate(needed.items()):
        axis.plot(sizes, values, marker="os^"[i % 3], label=name, linewidth=2)
    ticks = {2**20: "1 MiB", 2**25: "32 MiB", 2**30: "1 GiB", 2**35: "32 GiB"}
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize=8)
    axis.set_yticks(list(ticks), list(ticks.values()))
    axis.grid(axis="y", color="#e5e5e5")
    axis.minorticks_off()
    axis.legend()
    axis.set(xlabel="batch size B", title=title)
    return figure


def batch_and_scale(
    right: Tensor, *, scale: float, loss: float, scales: Sequence[float], losses: Sequence[float], title: str = ""
) -> Figure:
    """Left: the `losses` by `scales`, a dot at `scale`.  Right: a histogram of the right texts' probabilities.

    `right` (B,) holds these probabilities.
    """
    batch = len(right)
    figure = new_figure(8.6, 3.1)
    left_axis, right_axis = axes_grid(figure, 1, 2)[0]
    left_axis.plot(scales, losses, linewidth=2)
    left_axis.plot(scale, loss, "o", color=PALETTE[5], markersize=10)
    left_axis.axhline(math.log(batch), color="black", linestyle="--", linewidth=1)
    left_axis.text(100, math.log(batch) + 0.1, f"ln {batch}", va="bottom", ha="right", fontsize=9)
    left_axis.set_xscale("log")
    left_axis.set_xticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
    left_axis.minorticks_off()
    left_axis.set(xlabel="scale (1 / temperature)", ylim=(0, 8), title=f"loss {loss:.2f}")
    _histogram(right_axis, right)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def _histogram(axis: Any, probabilities: Tensor) -> None:
    percent = np.full(len(probabilities), 100 / len(probabilities))
    axis.hist(probabilities.numpy(), bins=np.linspace(0, 1, 11), weights=percent, color=PALETTE[4], edgecolor="white")
    mean = probabilities.mean().item()
    axis.axvline(mean, color=PALETTE[5], linewidth=2)
    axis.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axis.set(xlabel="probability of the right text", ylabel="images, %", ylim=(0, 105), title=f"on average {mean:.0%}")

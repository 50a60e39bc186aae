"""Plots of notebook 08: prompts and their answers, ensembles and their spread, confusion, two scores for rejection."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ..setup import PALETTE
from .base import axes_grid, new_figure, show_image, wrap


def prompt_table(
    image: np.ndarray, labels: Sequence[str], names: Sequence[str], *, values: np.ndarray | Tensor, title: str = ""
) -> Figure:
    """One (3, S, S) uint8 image beside a table (T, C) of probabilities, one row per name, the largest framed."""
    values = np.asarray(values)
    figure = new_figure(max(7.5, 3.6 + 0.75 * len(labels)), 0.34 * len(names) + 1.7)
    left, right = axes_grid(figure, 1, 2, width_ratios=[1, 3.2])[0]
    show_image(left, image)
    _numbered(right, 100 * values, names, labels, {"vmin": 0, "vmax": 100})
    for row, column in enumerate(values.argmax(axis=1)):
        corner = (column - 0.47, row - 0.44)
        right.add_patch(mpl.patches.Rectangle(corner, 0.94, 0.88, fill=False, edgecolor=PALETTE[5], linewidth=3))
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def confusion(
    counts: np.ndarray | Tensor, rows: Sequence[str], columns: Sequence[str], *, title: str = "", xlabel: str = "answer"
) -> Figure:
    """Each row of `counts` (R, C) in percent of its sum: how often each class (row) got each answer (column)."""
    counts = np.asarray(counts, dtype=float)
    figure = new_figure(0.72 * len(columns) + 3.0, 0.4 * len(rows) + 1.6)
    axis = axes_grid(figure)[0, 0]
    _numbered(axis, 100 * counts / counts.sum(axis=1, keepdims=True), rows, columns, {"vmin": 0, "vmax": 100})
    axis.set(xlabel=xlabel, title=title)
    return figure


def _numbered(
    axis: mpl.axes.Axes, percent: np.ndarray, rows: Sequence[str], columns: Sequence[str], limits: dict[str, float]
) -> None:
    axis.imshow(percent, aspect="auto", **limits)
    for (row, column), value in np.ndenumerate(percent):
        color = "black" if value > 50 else "white"
        axis.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=9, color=color)
    axis.set_xticks(range(len(columns)), [wrap(name, 12) for name in columns], fontsize=8)
    axis.set_yticks(range(len(rows)), [wrap(name, 36) for name in rows], fontsize=9)


def row_dots(names: Sequence[str], series: dict[str, Sequence[float]], title: str = "", *, xlabel: str = "") -> Figure:
    """A row for each of `names` with a mark for each of `series`, and a line between the outermost."""
    values = np.array(list(series.values()), dtype=float)
    figure = new_figure(7.5, 0.3 * len(names) + 1.4)
    axis = axes_grid(figure)[0, 0]
    rows = range(len(names))
    axis.hlines(rows, values.min(axis=0), values.max(axis=0), color="#bbbbbb", linewidth=2, zorder=1)
    for i, (name, row) in enumerate(zip(series, values)):
        style = {"marker": "oD^"[i % 3], "color": PALETTE[(0, 5, 2)[i % 3]], "s": 45, "label": name}
        axis.scatter(row, rows, **style)
    axis.set_yticks(rows, names, fontsize=9)
    axis.invert_yaxis()
    axis.set(xlabel=xlabel)
    axis.set_title(title)
    axis.grid(axis="x", color="#e5e5e5")
    axis.set_axisbelow(True)
    figure.legend(loc="outside lower left", ncols=3, fontsize=9)
    return figure


def ensemble_spread(sizes: Sequence[int], panels: dict[str, Sequence[Sequence[float]]], title: str = "") -> Figure:
    """For each panel and size the accuracies (fractions of 1) of several ensembles, their mean and spread."""
    figure = new_figure(4.2 * len(panels), 3.4)
    for axis, (name, of_size) in zip(axes_grid(figure, 1, len(panels))[0], panels.items()):
        for place, accuracies in enumerate(of_size):
            percent = 100 * np.asarray(accuracies)
            axis.plot(np.full(len(percent), place - 0.1), percent, "o", color=PALETTE[4], markersize=4, alpha=0.4)
            axis.errorbar(place + 0.15, percent.mean(), percent.std(), fmt="D", color=PALETTE[0], capsize=4)
        axis.set_xticks(range(len(sizes)), sizes)
        axis.set(xlabel="prompts in the ensemble", ylabel="accuracy, %")
        axis.set_title(name, fontsize=9)
        axis.grid(axis="y", color="#e5e5e5")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def two_kinds(panels: dict[str, dict[str, np.ndarray | Tensor]], title: str = "") -> Figure:
    """For each panel (its name is the score) the histograms of several kinds of images, each scaled to its maximum."""
    figure = new_figure(4.2 * len(panels), 3.2)
    for axis, (name, kinds) in zip(axes_grid(figure, 1, len(panels))[0], panels.items()):
        everything = np.concatenate([np.asarray(values) for values in kinds.values()])
        bins = np.linspace(everything.min(), everything.max(), 31)
        for i, (kind, values) in enumerate(kinds.items()):
            counts, _ = np.histogram(np.asarray(values), bins)
            style = {"color": PALETTE[(0, 5, 6)[i % 3]], "linestyle": ["-", "--", ":"][i % 3], "linewidth": 2}
            axis.stairs(counts / counts.max(), bins, label=kind, **style)
        axis.set(xlabel=name, yticks=[], ylim=(0, 1.1))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=9)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def trade_off(
    curves: dict[str, tuple[Sequence[float], Sequence[float]]],
    chosen: dict[str, tuple[float, float]],
    title: str = "",
) -> Figure:
    """Precision by recall (fractions of 1) for each score; large marks at the `chosen` (recall, precision)."""
    figure = new_figure(6.4, 3.6)
    axis = axes_grid(figure)[0, 0]
    for i, (name, (recall, precision)) in enumerate(curves.items()):
        axis.plot(
            100 * np.asarray(recall),
            100 * np.asarray(precision),
            ["-", "--"][i % 2],
            color=PALETTE[(0, 5)[i % 2]],
            linewidth=2,
            label=name,
        )
    for i, (name, (recall, precision)) in enumerate(chosen.items()):
        style = {"marker": "D*"[i % 2], "color": PALETTE[(6, 0)[i % 2]], "markersize": (8, 15)[i % 2], "linestyle": ""}
        axis.plot(100 * recall, 100 * precision, label=name, **style)
    axis.set(xlabel="recall, % of the images with a right label", ylabel="precision, % of the answers", title=title)
    axis.set(xlim=(0, 103), ylim=(None, 102))
    axis.legend(loc="lower left", fontsize=9)
    return figure

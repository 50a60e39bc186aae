"""Notebook 15: batch size, negatives and steps; what a batch needs in memory; a last epoch at a higher resolution."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, new_figure
from .experiments import curve_style, noted

Curve = tuple[Sequence[int], Sequence[float], Sequence[float]]  # sizes, mean and std as fractions of 1


def batch_curves(panels: Mapping[str, tuple[str, Mapping[str, Curve]]], title: str, *, note: str) -> Figure:
    """Accuracy in % over sizes that are powers of two; a panel for each (label of its axis, curves by name)."""
    figure = new_figure(10, 3.9)
    for axis, (name, (xlabel, curves)) in zip(axes_grid(figure, 1, len(panels), sharey=True)[0], panels.items()):
        above = max(range(len(curves)), key=lambda i: [*curves.values()][i][1][0])  # the labels of this curve: above it
        for i, (label, (sizes, mean, spread)) in enumerate(curves.items()):
            left = (mean[-1] > mean[0]) == (i == above)  # where a label doesn't touch its curve
            mean, spread = 100 * np.asarray(mean), 100 * np.asarray(spread)
            axis.errorbar(sizes, mean, yerr=spread, label=label, capsize=3, **curve_style(i))
            for size, value in zip(sizes, mean):
                axis.annotate(
                    f"{value:.1f}",
                    (size, value),
                    (-5 if left else 5, 5 if i == above else -12),
                    textcoords="offset points",
                    ha="right" if left else "left",
                    fontsize=8,
                )
        ticks = sorted({size for sizes, _, _ in curves.values() for size in sizes})
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.minorticks_off()
        axis.margins(x=0.15)
        axis.set(xlabel=xlabel, ylabel="zero-shot accuracy, %", ylim=(0, None))
        axis.set_title(name, fontsize=10)
        axis.legend(fontsize=8, loc="lower right" if mean[-1] > mean[0] else "upper right")  # where no curve is
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return noted(figure, note)


def amount(size: float) -> str:
    """Bytes as a reader says them: 4294967296 -> "4.3 GB"."""
    for name, unit in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if size >= unit:
            return f"{size / unit:.1f} {name}" if size < 100 * unit else f"{size / unit:.0f} {name}"
    return f"{size / 1e3:.0f} kB"


def memory_panels(settings: Mapping[str, Mapping[str, float]], title: str) -> Figure:
    """For each setting its pieces of memory in bytes, as bars on one logarithmic axis, with the sum in its title."""
    figure = new_figure(3.4 * len(settings) + 1.2, 3.1)
    for i, (axis, (name, pieces)) in enumerate(zip(axes_grid(figure, 1, len(settings))[0], settings.items())):
        rows = np.arange(len(pieces))
        axis.barh(rows, [*pieces.values()], color=PALETTE[: len(pieces)], height=0.7, left=1e6)
        for row, size in zip(rows, pieces.values()):
            axis.annotate(
                amount(size), (max(size, 1e6), row), (4, 0), textcoords="offset points", va="center", fontsize=8
            )
        axis.set_xscale("log")
        axis.set_xlim(1e6, 1e15)
        axis.set_xticks([1e6, 1e9, 1e12], ["1 MB", "1 GB", "1 TB"])
        axis.minorticks_off()
        axis.set_yticks(rows, [*pieces] if i == 0 else [""] * len(pieces))
        axis.invert_yaxis()
        axis.set_xlabel("logarithmic: each bar begins at 1 MB", fontsize=8)
        axis.set_title(f"{name}\n{amount(sum(pieces.values()))} in all", fontsize=9)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def over_pixels(pixels: Sequence[int], accuracy: Sequence[float], *, trained: int, title: str, note: str) -> Figure:
    """Accuracy (fractions of 1) of one model on images of several sides; the one it was trained at is marked."""
    figure = new_figure(6.2, 3.1)
    axis = axes_grid(figure)[0, 0]
    values = 100 * np.asarray(accuracy)
    axis.plot(pixels, values, **curve_style(0))
    for side, value in zip(pixels, values):
        away = (7, 4) if side >= trained else (6, -12)
        axis.annotate(f"{value:.0f}", (side, value), away, textcoords="offset points", fontsize=9)
    axis.axvline(trained, color="black", linestyle="--", linewidth=1)
    axis.margins(x=0.09)
    axis.annotate("trained at", (trained, 4), (4, 0), textcoords="offset points", fontsize=8)
    axis.set_xticks(pixels)
    axis.set(xlabel="side of the image, pixels", ylabel="zero-shot accuracy, %", ylim=(0, 105), title=title)
    return noted(figure, note)


def ways(found: Mapping[str, Sequence[float]], title: str, *, note: str) -> Figure:
    """A row for each way to train: the accuracy of each seed (fractions of 1) as dots, their mean and std as a line."""
    figure = new_figure(8, 0.5 * len(found) + 1.2)
    axis = axes_grid(figure)[0, 0]
    for row, values in enumerate(found.values()):
        values = 100 * np.asarray(values)
        style = {"color": PALETTE[0], "marker": "D", "capsize": 4, "markersize": 7}
        axis.errorbar(values.mean(), row, xerr=values.std(ddof=1), **style)
        axis.plot(values, np.full(len(values), row + 0.22), "o", color=PALETTE[5], markersize=4)
        text = f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"
        axis.annotate(text, (values.mean(), row), (0, 8), textcoords="offset points", ha="center", fontsize=8)
    axis.set_yticks(range(len(found)), [*found])
    axis.set_ylim(len(found) - 0.4, -0.7)
    axis.set(title=title, xlabel="zero-shot accuracy, % (diamond: mean ± std; dots: the seeds)")
    axis.grid(axis="x", color="#dddddd", linewidth=0.7)
    return noted(figure, note)

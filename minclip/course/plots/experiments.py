"""Results of experiments: curves with their spread over seeds, and a note on where the numbers come from."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, new_figure

DASHES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1)))
MARKS = "osD^vPX*"


def noted(figure: Figure, note: str) -> Figure:
    """The figure with `note`, "live: …" or "stored: …", in small type at its lower right."""
    figure.text(0.99, -0.01, note, ha="right", va="top", fontsize=8, color="#555555")
    return figure


def curve_style(number: int, markersize: float = 5) -> dict[str, Any]:
    """Color, dashes and marks of a figure's curve `number`, from 0."""
    i, dash, mark = number % len(PALETTE), number % len(DASHES), number % len(MARKS)
    return {"color": PALETTE[i], "linestyle": DASHES[dash], "marker": MARKS[mark], "markersize": markersize}


def growth(
    x: Sequence[float],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str = "",
    *,
    note: str,
    ticks: Sequence[str] = (),
    xlabel: str = "images processed",
    ylabel: str = "zero-shot accuracy, %",
) -> Figure:
    """Fractions of 1 over `x`, on a logarithmic axis: for each of `curves` its (mean, std) as a line with a band.

    A curve may be shorter than `x`.  `ticks` are the labels of `x`; `note` says "live: …" or "stored: …".
    """
    figure = new_figure(7.5, 4)
    axis = axes_grid(figure)[0, 0]
    for i, (name, (mean, spread)) in enumerate(curves.items()):
        mean, spread = 100 * np.asarray(mean), 100 * np.asarray(spread)
        style = curve_style(i)
        axis.fill_between(x[: len(mean)], mean - spread, mean + spread, color=style["color"], alpha=0.2, linewidth=0)
        axis.plot(x[: len(mean)], mean, label=name, **style)
    axis.set_xscale("log", base=2)
    axis.set_xticks(x, ticks or [f"{value:g}" for value in x])
    axis.minorticks_off()
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return noted(figure, note)

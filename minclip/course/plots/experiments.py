"""Results of the paper's experiments in miniature: curves over seeds, and a note on where the figures come from."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, new_figure

DASHES = ("-", "--", "-.", ":")
MARKS = "osD^vPX*"


def noted(figure: Figure, note: str) -> Figure:
    """The figure with `note`, "live: …" or "stored: …", in small type at its lower right."""
    figure.text(0.99, -0.01, note, ha="right", va="top", fontsize=8, color="#555555")
    return figure


def growth(
    x: Sequence[float],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str = "",
    *,
    note: str,
    ticks: Sequence[str] = (),
    reach: float | None = None,
    chance: float | None = None,
    xlabel: str = "images processed",
    ylabel: str = "zero-shot accuracy, %",
) -> Figure:
    """Fractions of 1 over `x`, on a logarithmic axis: for each of `curves` its (mean, std) as a line with a band.

    `ticks` are the labels of `x`; `reach` and `chance` are horizontal lines; `note` says "live: …" or "stored: …".
    """
    figure = new_figure(7.5, 4)
    axis = axes_grid(figure)[0, 0]
    for i, (name, (mean, spread)) in enumerate(curves.items()):
        mean, spread = 100 * np.asarray(mean), 100 * np.asarray(spread)
        color = PALETTE[i % len(PALETTE)]
        axis.fill_between(x[: len(mean)], mean - spread, mean + spread, color=color, alpha=0.2, linewidth=0)
        style = {"linestyle": DASHES[i % len(DASHES)], "marker": MARKS[i % len(MARKS)], "markersize": 5}
        axis.plot(x[: len(mean)], mean, color=color, label=name, **style)
    for level, name in ((reach, "the accuracy to reach"), (chance, "chance")):
        if level is not None:
            axis.axhline(100 * level, color="black", linestyle=":" if name == "chance" else "--", linewidth=1)
            axis.annotate(
                f"{name}, {100 * level:.3g} %",
                (0.01, 100 * level),
                xycoords=("axes fraction", "data"),
                va="bottom",
                fontsize=8,
            )
    axis.set_xscale("log", base=2)
    axis.set_xticks(x, ticks or [f"{value:g}" for value in x])
    axis.minorticks_off()
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return noted(figure, note)

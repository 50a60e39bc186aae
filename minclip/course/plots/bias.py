"""The plot of notebook 10 for results over seeds: a row for each case, several groups in it."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, new_figure, wrap


def row_spread(
    names: Sequence[str],
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str = "",
    xlabel: str = "",
    digits: int = 0,
    percent: bool = True,
) -> Figure:
    """A row for each name, and in it for each of `series`, (mean, std), a mark with its number and a whisker of ± std.

    With `percent`, the values are fractions of 1.
    """
    unit = 100 if percent else 1
    figure = new_figure(7.5, (0.16 * len(series) + 0.2) * len(names) + 1.2)
    axis = axes_grid(figure)[0, 0]
    for i, (name, (mean, spread)) in enumerate(series.items()):
        places = np.arange(len(names)) + 0.24 * (i - (len(series) - 1) / 2)
        mean, spread = unit * np.asarray(mean, dtype=float), unit * np.asarray(spread, dtype=float)
        style = {"fmt": "oD^s"[i % 4], "color": PALETTE[(5, 0, 2, 3)[i % 4]], "markersize": 6, "capsize": 3}
        axis.errorbar(mean, places, xerr=spread if spread.any() else None, label=name, **style)
        for x, end, y in zip(mean, mean + spread, places):
            axis.annotate(f"{x:.{digits}f}", (end, y), (7, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(range(len(names)), [wrap(name, 30) for name in names], fontsize=9)
    axis.set_ylim(len(names) - 0.5, -0.5)
    for edge in range(1, len(names)):
        axis.axhline(edge - 0.5, color="#e5e5e5", linewidth=1)
    axis.margins(x=0.12)
    axis.set(xlabel=xlabel, title=title)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return figure

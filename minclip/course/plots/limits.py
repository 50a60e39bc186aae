"""Limits and what moves them: accuracies beside chance, before and after one thing was changed."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, new_figure
from .experiments import MARKS, noted


def beside_chance(
    rows: Mapping[str, Mapping[str, tuple[float, float]]],
    chance: Mapping[str, float],
    title: str = "",
    *,
    note: str,
    xlabel: str = "accuracy, %",
) -> Figure:
    """A row for each test: the (mean, std) of each variant, fractions of 1, as a mark with its number; chance in gray.

    `rows` maps a test to its variants, all tests to variants of the same names; `chance` maps a test to a fraction.
    """
    variants = list(next(iter(rows.values())))
    figure = new_figure(7.5, (0.3 * len(variants) + 0.25) * len(rows) + 1.3)
    axis = axes_grid(figure)[0, 0]
    for row, (test, found) in enumerate(rows.items()):
        low, high = row - 0.42, row + 0.42
        axis.plot(
            [100 * chance[test]] * 2, [low, high], color="#888888", linewidth=3, label="chance" if not row else None
        )
        for i, (variant, (mean, spread)) in enumerate(found.items()):
            place = low + 0.84 * (i + 0.5) / len(found)
            style = {"color": PALETTE[i % 7], "marker": MARKS[i], "markersize": 7, "linestyle": "none", "capsize": 3}
            axis.errorbar(100 * mean, place, xerr=100 * spread, label=variant if not row else None, **style)
            number = f"{100 * mean:.0f}"
            left = 100 * (mean + spread) > 92  # no room to the right of the mark
            at = (100 * (mean - spread), -8) if left else (100 * (mean + spread), 8)
            axis.annotate(number, (at[0], place), (at[1], 0), textcoords="offset points", va="center",
                          ha="right" if left else "left", fontsize=9)  # fmt: skip
    axis.set_yticks(range(len(rows)), [*rows], fontsize=10)
    axis.set(xlim=(0, 102), ylim=(len(rows) - 0.4, -0.6), xlabel=xlabel, title=title)
    axis.grid(axis="x", color="#eeeeee")
    axis.set_axisbelow(True)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return noted(figure, note)

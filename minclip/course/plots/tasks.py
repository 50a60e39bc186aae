"""The plot of `minclip eval --tasks`: zero-shot scores beside chance."""

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, new_figure


def task_bars(results: Mapping[str, Any], title: str = "") -> Figure:
    """A bar for each task's `score`, farthest above chance first, a mark at its `chance`; both are fractions of 1.

    Bars more than two standard errors of guessing above chance (exact for accuracy only) are filled, the others
    hatched: no color is needed.  The title counts them.
    """
    names = sorted(results, key=lambda name: results[name].score - results[name].chance)
    chances = {name: results[name].chance for name in names}
    error = {name: (p * (1 - p) / results[name].images) ** 0.5 for name, p in chances.items()}
    above = {name for name in names if results[name].score > chances[name] + 2 * error[name]}
    figure = new_figure(7, 0.32 * len(names) + 1.3)
    axis = axes_grid(figure)[0, 0]
    for row, name in enumerate(names):
        score, chance = 100 * results[name].score, 100 * chances[name]
        fill = {"color": PALETTE[0]} if name in above else {"color": "white", "hatch": "///"}
        axis.barh(row, score, 0.7, **fill, edgecolor=PALETTE[0])
        for color, width in (("white", 5), ("black", 2)):  # the white edge separates the mark from the bar
            axis.plot([chance, chance], [row - 0.4, row + 0.4], color=color, linewidth=width)
        axis.text(max(score, chance) + 1, row, f"{score:.1f}", va="center", fontsize=9)
    metrics = [results[name].metric for name in names]
    short = ["…" * (len(name) > 40) + name[-40:] for name in names]  # a path may be long
    labels = [name if metric == "accuracy" else f"{name} ({metric})" for name, metric in zip(short, metrics)]
    axis.set_yticks(range(len(names)), labels, fontsize=9)
    axis.tick_params(axis="y", length=0)
    axis.set(
        xlim=(0, 110),
        ylim=(-0.7, len(names) - 0.3),
        xlabel="accuracy, or the metric in parentheses, %; black mark: chance",
        xticks=range(0, 101, 20),
    )
    axis.xaxis.grid(color="#e5e5e5")
    axis.set_axisbelow(True)
    figure.suptitle(
        title or f"Zero-shot: {len(above)} of {len(names)} tasks clearly above chance", fontsize=11, x=0.01, ha="left"
    )
    return figure

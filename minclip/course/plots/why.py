"""Notebook 09: what each objective predicts, and how many images it needs."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, faint, new_figure, show_image
from .experiments import DASHES, MARKS, curve_style, noted

Spread = tuple[Sequence[float], Sequence[float]]
ROLES = {"given": "#e8e8e8", "predicted": faint(PALETTE[1]), "chosen": faint(PALETTE[2]), "other": "#ffffff"}


def what_each_predicts(image: np.ndarray, rows: Sequence[tuple[str, Sequence[tuple[str, str]]]], title: str) -> Figure:
    """One (3, S, S) uint8 image, and for each method a row of boxes: pairs of text and role.

    Roles: "given" to the model (gray), "predicted" (orange), "chosen" among the candidates (green) or "other".
    """
    figure = new_figure(9.5, 0.5 * len(rows) + 1)
    picture, axis = axes_grid(figure, 1, 2, width_ratios=[1, 6])[0]
    show_image(picture, image, "for all of them")
    axis.set(xlim=(0, 100), ylim=(len(rows) - 0.4, -0.9))
    axis.set_axis_off()
    for y, (method, boxes) in enumerate(rows):
        axis.text(0, y, method, va="center", fontsize=9)
        x = 33.0
        for text, role in boxes:
            wide = 2.8 + 0.97 * len(text)
            box = {"facecolor": ROLES[role], "edgecolor": "#555555", "boxstyle": "round,pad=0.25", "linewidth": 0.8}
            axis.text(x + wide / 2 - 0.6, y, text, va="center", ha="center", fontsize=9, bbox=box)
            x += wide + 0.6
    x = 33.0
    meanings = {"given": "given, too", "predicted": "to predict", "chosen": "to choose", "other": "other choices"}
    for role, name in meanings.items():
        axis.text(x, -0.75, name, fontsize=8, va="center", bbox={"facecolor": ROLES[role], "edgecolor": "#555555"})
        x += 16
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def reach(names: Sequence[str], levels: Mapping[str, Spread], title: str, *, note: str) -> Figure:
    """A row for each of `names`: for each of `levels` a mark (images) with a whisker (std), on a logarithmic axis.

    Each of `levels` has (means, stds), one for each name; NaN for a level that is not reached.
    """
    figure = new_figure(8, 0.42 * len(names) + 1.3)
    axis = axes_grid(figure)[0, 0]
    rows = np.arange(len(names))
    for i, (name, (mean, spread)) in enumerate(levels.items()):
        y = rows + 0.24 * (i - (len(levels) - 1) / 2)
        style = {"marker": MARKS[i], "color": PALETTE[i], "linestyle": "none", "capsize": 3}
        axis.errorbar(mean, y, xerr=spread, label=name, **style)
        for value, place in zip(mean, y):
            if np.isfinite(value):
                axis.annotate(f"{value / 1000:.1f}k", (value, place), (7, 4), textcoords="offset points", fontsize=8)
    axis.set_yticks(rows, names)
    axis.invert_yaxis()
    axis.set_xscale("log", base=2)
    ticks = [2.0**k for k in range(11, 18)]
    axis.set_xticks(ticks, [f"{int(tick) // 1024}k" for tick in ticks])
    axis.minorticks_off()
    axis.grid(axis="x", color="#dddddd", linewidth=0.7)
    axis.set(title=title, xlabel="images processed")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return noted(figure, note)


def over_cost(curves: Mapping[str, tuple[Sequence[float], Sequence[float]]], title: str, *, note: str) -> Figure:
    """Accuracy (fractions of 1) over CPU seconds, on a logarithmic axis: for each of `curves` (seconds, accuracy)."""
    figure = new_figure(7.5, 3.6)
    axis = axes_grid(figure)[0, 0]
    for i, (name, (seconds, accuracy)) in enumerate(curves.items()):
        axis.plot(seconds, 100 * np.asarray(accuracy), label=name, **curve_style(i))
    axis.set_xscale("log", base=2)
    ticks = [2.0**k for k in range(-1, 7)]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.minorticks_off()
    axis.set(title=title, xlabel="seconds of CPU", ylabel="zero-shot accuracy, %")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return noted(figure, note)


def factors(places: Sequence[str], lines: Mapping[str, Spread], title: str, *, note: str, ylabel: str) -> Figure:
    """Factors relative to contrast for each of `places`, (mean, std) for each of `lines`; 1 is a dashed line."""
    figure = new_figure(8, 3.8)
    axis = axes_grid(figure)[0, 0]
    x, beside = np.arange(len(places)), [(-20, 3), (6, -9)] * len(lines)  # so that labels of close marks stay apart
    for i, (name, (mean, spread)) in enumerate(lines.items()):
        color, shift = PALETTE[i + 1], 0.06 * (2 * i - len(lines) + 1)
        style = {"linestyle": DASHES[i], "marker": MARKS[i + 1], "capsize": 3}
        axis.errorbar(x + shift, mean, yerr=spread, color=color, label=name, **style)
        for place, value in zip(x, mean):
            axis.annotate(f"{value:.1f}", (place + shift, value), beside[i], textcoords="offset points", fontsize=8)
    axis.axhline(1, color="black", linestyle="--", linewidth=1)
    axis.annotate("as fast as contrast", (0.01, 1), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    axis.set_xticks(x, places, fontsize=8)
    axis.set(title=title, ylabel=ylabel, ylim=(0, None), xlim=(-0.4, len(places) - 0.5))
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return noted(figure, note)


def top_answers(
    image: np.ndarray, truth: str, answers: Mapping[str, Sequence[tuple[str, float]]], *, title: str, note: str
) -> Figure:
    """One (3, S, S) uint8 image, and for each objective its best classes as (name, probability); `truth` in green."""
    figure = new_figure(3 * len(answers) + 2.2, 2.7)
    picture, *axes = axes_grid(figure, 1, len(answers) + 1)[0]
    show_image(picture, image, truth)
    for axis, (name, best) in zip(axes, answers.items()):
        rows, values = np.arange(len(best)), [100 * value for _, value in best]
        colors = [PALETTE[2] if label == truth else "#bbbbbb" for label, _ in best]
        axis.barh(rows, values, color=colors, height=0.85)
        for row, (label, value) in enumerate(best):
            mark = " ✓" if label == truth else ""
            axis.text(2, row, f"{label}{mark}, {100 * value:.0f} %", va="center", fontsize=8)
        axis.set(xlim=(0, 100), yticks=[], xlabel="probability, %")
        axis.set_title(name, fontsize=9)
        axis.invert_yaxis()
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return noted(figure, note)

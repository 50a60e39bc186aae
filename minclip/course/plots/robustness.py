"""Robustness: images under shifts, the logit scale, accuracy in distribution against accuracy under shift, mixtures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..setup import PALETTE
from .base import axes_grid, new_figure, show_image
from .experiments import MARKS, noted

TICKS = (1, 2, 5, 10, 20, 30, 50, 70, 80, 90, 95, 98, 99, 99.5)  # percent


def _logit(p: Any) -> Any:
    p = np.asarray(p, dtype=float)
    return np.log(p / (1 - p))


def image_columns(columns: Mapping[str, np.ndarray], title: str = "", *, note: str = "") -> Figure:
    """A column of images (n, 3, S, S) uint8 for each name, which stands above it."""
    rows = len(next(iter(columns.values())))
    figure = new_figure(1.25 * len(columns), 1.25 * rows + 0.8)
    axes = axes_grid(figure, rows, len(columns))
    for of_column, (name, images) in zip(axes.T, columns.items()):
        for axis, image in zip(of_column, images):
            show_image(axis, image)
        of_column[0].set_title(name, fontsize=9, loc="center")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return noted(figure, note)


def two_scales(steps: Sequence[tuple[float, float]], title: str = "") -> Figure:
    """Steps between two accuracies (fractions of 1) as arrows: above on a plain axis, below on the logit axis."""
    figure = new_figure(8, 2.9)
    for axis, name, scale in zip(axes_grid(figure, 2, 1)[:, 0], ("points", "logits"), (lambda p: 100 * p, _logit)):
        for i, (a, b) in enumerate(steps):
            x, y = float(scale(np.float64(a))), float(scale(np.float64(b)))
            arrow = {"arrowstyle": "-|>", "color": PALETTE[(0, 5, 2)[i % 3]], "linewidth": 2}
            axis.annotate("", (y, 0.15), (x, 0.15), arrowprops={**arrow, "shrinkA": 0, "shrinkB": 0})
            size = f"{y - x:+.1f} {name}" if name == "points" else f"{y - x:+.2f} {name}"
            axis.text((x + y) / 2, 0.3 + 0.17 * (i % 2), size, ha="center", fontsize=9)  # two heights: no overlap
        ticks = [p for p in TICKS if 20 <= p <= 95]
        axis.set_xticks([float(scale(np.float64(p / 100))) for p in ticks], [f"{p:g} %" for p in ticks], fontsize=8)
        axis.set_xlim(float(scale(np.float64(0.2))), float(scale(np.float64(0.99))))
        axis.set(ylim=(0, 0.7), yticks=[], xlabel=f"accuracy, axis in {name}")
        axis.spines["left"].set_visible(False)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def robustness_plane(
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    title: str = "",
    *,
    line: tuple[float, float] | None = None,
    note: str,
    paths: Sequence[str] = (),
    xlabel: str = "accuracy on ordinary test images",
    ylabel: str = "mean accuracy under the six shifts",
) -> Figure:
    """Accuracy in distribution and under shift (fractions of 1) on logit axes; `line` is slope and intercept in logits.

    Each of `groups` maps a label beside the point, blank for none, to (x, y) or (x, y, std of x, std of y).  A label
    that begins with "<" stands left of its point.  The points of the groups in `paths` are joined.
    """
    figure = new_figure(8, 5)
    axis = axes_grid(figure)[0, 0]
    for i, (name, points) in enumerate(groups.items()):
        color, values = PALETTE[(6, 5, 0, 2, 3, 1)[i % 6]], np.array([p[:2] for p in points.values()])
        style = {"marker": MARKS[i % len(MARKS)], "color": color, "markersize": 8, "zorder": 3 + i}
        axis.plot(*_logit(values).T, linestyle="--" if name in paths else "none", linewidth=1.2, label=name, **style)
        for label, point in points.items():
            x, y = point[:2]
            if len(point) == 4:
                low, high = (
                    [np.clip(v + sign * e, 0.005, 0.998) for v, e in zip(point[:2], point[2:])] for sign in (-1, 1)
                )
                axis.plot(_logit([low[0], high[0]]), _logit([y, y]), color=color, linewidth=1)
                axis.plot(_logit([x, x]), _logit([low[1], high[1]]), color=color, linewidth=1)
            left = label.startswith("<")
            place = {"xytext": (-9, 5) if left else (8, -13), "ha": "right" if left else "left"}
            place |= {"path_effects": [withStroke(linewidth=3, foreground="white")], "zorder": 9}  # readable on lines
            axis.annotate(
                label.lstrip("<").strip(), _logit((x, y)), textcoords="offset points", fontsize=9, color=color, **place
            )
    axis.margins(0.12)
    limits = axis.get_xlim(), axis.get_ylim()
    ends = np.array([-6.0, 6.0])
    axis.plot(ends, ends, color="#999999", linestyle=":", linewidth=1.2, label="no loss under shift")
    if line:
        axis.plot(ends, line[0] * ends + line[1], color=PALETTE[6], linewidth=1.5, label="fit to the supervised")
    axis.set(xlim=limits[0], ylim=limits[1], xlabel=f"{xlabel}, %", ylabel=f"{ylabel}, %", title=title)
    for which in (axis.xaxis, axis.yaxis):
        low, high = which.get_view_interval()
        shown = [p for p in TICKS if low <= _logit(p / 100) <= high]
        which.set_ticks(_logit(np.array(shown) / 100), [f"{p:g}" for p in shown])
    axis.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return noted(figure, note)


def dots_by_name(
    rows: Mapping[str, Mapping[str, float]], title: str = "", *, note: str = "", xlabel: str = "accuracy, %"
) -> Figure:
    """A row for each name, in it a dot for each series (fractions of 1), joined by a gray line.

    The second series has smaller dots: where it coincides with the first, both are seen.
    """
    figure = new_figure(7.5, 0.42 * len(rows) + 1.6)
    axis = axes_grid(figure)[0, 0]
    series = [*next(iter(rows.values()))]
    for y, values in enumerate(rows.values()):
        axis.plot(
            [100 * min(values.values()), 100 * max(values.values())], [y, y], color="#bbbbbb", linewidth=2, zorder=1
        )
    for i, name in enumerate(series):
        color, mark = PALETTE[(6, 1, 5, 0, 2)[i % 5]], MARKS[i % len(MARKS)]
        x = [100 * values[name] for values in rows.values()]
        axis.scatter(
            x, range(len(rows)), color=color, marker=mark, s=(150, 55, 100, 40)[i % 4], label=name, zorder=2 + i
        )
    axis.set_yticks(range(len(rows)), [*rows])
    axis.invert_yaxis()
    axis.set(xlim=(0, 103), xlabel=xlabel, title=title)
    axis.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return noted(figure, note)


def mixtures(
    alphas: Sequence[float],
    curves: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str = "",
    *,
    marked: float | None = None,
    ylim: tuple[float, float] | None = None,
    note: str,
) -> Figure:
    """Accuracy (mean, std; fractions of 1) over the mixture's alpha, and a line at `marked`, the one that was chosen.

    `ylim`, in percent, gives figures that are compared the same axis.
    """
    figure = new_figure(7.5, 3.7)
    axis = axes_grid(figure)[0, 0]
    for i, (name, (mean, spread)) in enumerate(curves.items()):
        mean, spread = 100 * np.asarray(mean), 100 * np.asarray(spread)
        style = {"color": PALETTE[(0, 5, 2, 1)[i % 4]], "marker": MARKS[i], "linestyle": ("-", "--", "-.", ":")[i % 4]}
        axis.fill_between(alphas, mean - spread, mean + spread, color=style["color"], alpha=0.15, linewidth=0)
        axis.plot(alphas, mean, label=name, markersize=5, **style)
    if marked is not None:
        axis.axvline(marked, color="black", linewidth=1, linestyle=":")
        axis.text(marked, 1.01, f"α = {marked:.2f}", transform=axis.get_xaxis_transform(), ha="center", fontsize=9)
    axis.set(xlabel="α: 0 is zero-shot, 1 is adapted", ylabel="accuracy, %", ylim=ylim)
    axis.set_title(title, pad=18)
    axis.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return noted(figure, note)


def mixture_cards(cards: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """For each card, of one "alpha": (accuracy, answers gained, answers lost) of each of its test sets, as bars.

    Gained and lost, in images of 1,000, are counted against alpha = 0.
    """
    figure = new_figure(3.3 * len(cards) + 0.6, 3.4)
    for axis, card in zip(axes_grid(figure, 1, len(cards), sharey=True)[0], cards):
        sets = [name for name in card if name != "alpha"]
        for i, name in enumerate(sets):
            accuracy, gained, lost = card[name]
            axis.bar(
                i, 100 * accuracy, color=PALETTE[(0, 5)[i % 2]], hatch=("", "//")[i % 2], edgecolor="white", width=0.6
            )
            text = f"{100 * accuracy:.1f} %\n+{gained:.0f} −{lost:.0f}"
            axis.annotate(text, (i, 100 * accuracy), ha="center", va="bottom", fontsize=9)
        axis.set_xticks(range(len(sets)), sets, fontsize=9)
        axis.set(ylim=(0, 124), yticks=range(0, 101, 20), xlim=(-0.7, len(sets) - 0.3))
        axis.set_title(f"α = {card['alpha']:.2f}", fontsize=10)
    figure.axes[0].set_ylabel("accuracy, %")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure

"""Notebook 13, what lies outside of the training data: curves over counts, neighbors, portraits with descriptions."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, new_figure, show_image, wrap
from .experiments import curve_style, noted

Curve = tuple[Sequence[float], Sequence[float]]


def by_count(
    counts: Sequence[int],
    curves: Mapping[str, Curve],
    title: str = "",
    *,
    note: str,
    levels: Mapping[str, float] | None = None,
    xlabel: str = "",
    ylabel: str = "accuracy, %",
) -> Figure:
    """Fractions of 1, (mean, std) for each of `counts`, which are evenly spaced; a shorter curve ends at the right.

    `levels` are dashed lines with a name.
    """
    figure = new_figure(7.5, 3.8)
    axis, points = axes_grid(figure)[0, 0], {}
    for i, (name, (mean, spread)) in enumerate(curves.items()):
        mean, spread, style = 100 * np.asarray(mean), 100 * np.asarray(spread), curve_style(i)
        x = np.arange(len(counts))[len(counts) - len(mean) :]
        axis.fill_between(x, mean - spread, mean + spread, color=style["color"], alpha=0.2, linewidth=0)
        axis.plot(x, mean, label=name, **style)
        for place, value in zip(x, mean):
            points.setdefault(int(place), []).append((float(value), style["color"]))
    lines = [100 * level for level in (levels or {}).values()]
    for place, values in points.items():
        _number(axis, place, values, lines)
    for name, level in (levels or {}).items():
        axis.axhline(100 * level, color="#555555", linestyle="--", linewidth=1)
        axis.annotate(name, (1.0, 100 * level), xycoords=("axes fraction", "data"), fontsize=8, va="center", ha="left")
    axis.set_xticks(range(len(counts)), [f"{count:,}" for count in counts])
    axis.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, 108), title=title)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=9, ncols=2)
    return noted(figure, note)


def _number(axis: Axes, place: int, values: Sequence[tuple[float, str]], lines: Sequence[float]) -> None:
    """Writes the numbers at the points (place, value) above, below or beside them, where they hide least."""
    taken = []
    for value, color in sorted(values, key=lambda of: -of[0]):
        where = ((0, 6.0), (0, -6.0), (12, 0.0), (-12, 0.0))  # in percent, and to the side in points

        def hidden(at: tuple[int, float], value: float = value) -> int:
            aside, y = at[0], value + at[1]
            found = sum(abs(y - other) < 5 for other, _ in values if other != value and not aside) + (y < 0 or y > 104)
            found += 2 * sum(aside == a and abs(y - b) < 6 for a, b in taken)
            return found + sum(abs(y - line) < 4 for line in lines)

        aside, up = min(where, key=hidden)  # the first of the best
        taken.append((aside, value + up))
        style = {"ha": "center", "va": "center", "fontsize": 8, "color": color, "zorder": 5}
        axis.annotate(f"{value:.0f}", (place, value + up), (aside, 0), textcoords="offset points", **style)


def neighbor_rows(kinds: Mapping[str, np.ndarray], title: str = "", *, note: str, xlabel: str) -> Figure:
    """A row for each of `kinds`: its values as dots, the median as a line with its number."""
    figure = new_figure(7.5, 0.5 * len(kinds) + 1.2)
    axis = axes_grid(figure)[0, 0]
    for row, values in enumerate(kinds.values()):
        values = np.sort(np.asarray(values, dtype=float))
        up = (np.arange(len(values)) * 0.618) % 1 - 0.5  # spread evenly, the same on each machine
        color = PALETTE[(0, 2, 1, 3, 5)[row % 5]]
        axis.scatter(values, row + 0.5 * up, s=5, color=color, alpha=0.5, linewidths=0)
        middle = float(np.median(values))
        axis.plot([middle, middle], [row - 0.36, row + 0.36], color="black", linewidth=2)
        axis.annotate(f"{middle:.2f}", (middle, row - 0.36), ha="center", va="bottom", fontsize=8)
    axis.set_yticks(range(len(kinds)), [*kinds], fontsize=9)
    axis.set_ylim(len(kinds) - 0.4, -0.75)
    axis.set(xlabel=xlabel, title=title)
    return noted(figure, note)


def nearest_rows(
    images: np.ndarray, near: Sequence[int], who: Sequence[int], *, title: str = "", note: str, columns: int = 8
) -> Figure:
    """n images (n, 3, S, S) uint8, each above image number `near[i]`; below each pair, whether both show one person."""
    count, rows = len(images), -(-len(images) // columns)
    figure = new_figure(1.15 * columns, 2.75 * rows)
    axes = axes_grid(figure, 2 * rows, columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for i in range(count):
        row, column = divmod(i, columns)
        same = who[i] == who[near[i]]
        for axis, picture, text in (
            (axes[2 * row, column], images[i], ""),
            (axes[2 * row + 1, column], images[near[i]], "same" if same else "another"),
        ):
            axis.set_axis_on()
            show_image(axis, picture, text, width=14)
            if text == "another":
                axis.xaxis.label.set(color=PALETTE[5], fontweight="bold")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return noted(figure, note)


def face_and_texts(
    image: np.ndarray, texts: Sequence[str], cosines: Sequence[float], *, title: str = "", most: int = 6
) -> Figure:
    """One (3, S, S) uint8 image, and its `most` nearest texts as bars of their cosines."""
    order = np.argsort(-np.asarray(cosines), kind="stable")[:most]
    figure = new_figure(9, 2.6)
    left, right = axes_grid(figure, 1, 2, width_ratios=[1, 2])[0]
    show_image(left, image)
    values = np.asarray(cosines)[order]
    right.barh(range(len(order)), values, color=[PALETTE[0], *["#bbbbbb"] * (len(order) - 1)])
    for place, value in enumerate(values):
        right.text(max(value, 0) + 0.01, place, f"{value:.2f}", va="center", fontsize=9)
    right.set_yticks(range(len(order)), [wrap(texts[i], 50) for i in order], fontsize=8)
    right.invert_yaxis()
    right.set(xlim=(min(0, float(values.min())), 1.12), xlabel="cosine")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure

"""Plots of notebook 16: the paper's 27 data sets, templates, occlusion, signs on pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..setup import PALETTE
from .base import axes_grid, faint, new_figure, show_image, wrap
from .experiments import noted

HATCHES = ("", "//", "..", "", "xx", "\\\\", "")


def pixels(image: Any) -> np.ndarray:
    """A PIL image as (3, H, W) uint8."""
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def minus(text: str) -> str:
    """The text with a minus sign in place of each hyphen."""
    return text.replace("-", "−")


def data_sets(rows: Sequence[Any], kinds: Sequence[str], *, title: str, note: str) -> Figure:
    """A bar for each row (name, points, kind, asks), the largest on top: color and hatch by kind, `asks` beside it."""
    figure = new_figure(10, 0.29 * len(rows) + 2.1)
    axis = axes_grid(figure)[0, 0]
    order = sorted(rows, key=lambda row: -row.points)
    styles = {k: (PALETTE[i % 7], HATCHES[i % 7]) for i, k in enumerate(kinds)}
    for y, row in enumerate(order):
        color, hatch = styles[row.kind]
        axis.barh(y, row.points, 0.74, color=color, hatch=hatch, edgecolor="white", linewidth=0.5)
        side = 1 if row.points > 0 else -1
        ends = {"va": "center", "fontsize": 9}
        axis.text(row.points + 0.5 * side, y, minus(f"{row.points:+.1f}"), ha="left" if side > 0 else "right", **ends)
        axis.text(-0.7 * side, y, row.asks, ha="right" if side > 0 else "left", color="#555555", **ends)
    axis.set_yticks(range(len(order)), [row.name for row in order], fontsize=9)
    axis.tick_params(axis="y", length=0)
    axis.axvline(0, color="black", linewidth=1)
    wins = sum(row.points > 0 for row in order)
    axis.axhline(wins - 0.5, color="#999999", linestyle=":", linewidth=1)
    axis.set(xlim=(-44, 36), ylim=(len(order) - 0.4, -0.6), title=title)
    axis.set_xlabel("zero-shot CLIP minus a supervised probe on ResNet-50 features, percentage points", fontsize=9)
    handles = [Patch(facecolor=c, hatch=h, edgecolor="white", label=k) for k, (c, h) in styles.items()]
    figure.legend(handles=handles, loc="outside lower left", ncols=4, fontsize=9, handlelength=2.2)
    return noted(figure, note)


def by_kind(groups: Mapping[str, Sequence[float]], kinds: Sequence[str], *, title: str, note: str) -> Figure:
    """A row for each of `groups`, in the colors of `data_sets`: a dot for each difference, a mark at their mean."""
    figure = new_figure(7.5, 0.42 * len(groups) + 1.3)
    axis = axes_grid(figure)[0, 0]
    for y, (kind, points) in enumerate(groups.items()):
        color = PALETTE[kinds.index(kind) % 7]
        level, last = 0, -np.inf
        for x in sorted(points):  # dots side by side would hide each other: up and down
            level, last = (level + 1) % 4 if x - last < 2 else 0, x
            axis.plot(
                x, y + (0, -0.2, 0.2, 0.4)[level], "o", color=color, markersize=6, markeredgecolor="white", zorder=3
            )
        mean = float(np.mean(points))
        axis.plot([mean, mean], [y - 0.48, y + 0.48], color="black", linewidth=2)
        axis.text(37, y, minus(f"mean {mean:+.1f}"), va="center", fontsize=9)
    axis.set_yticks(range(len(groups)), [f"{kind} ({len(points)})" for kind, points in groups.items()], fontsize=9)
    axis.axvline(0, color="black", linewidth=1)
    axis.set(xlim=(-40, 36), ylim=(len(groups) - 0.5, -0.5))
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    axis.set_xlabel("difference, percentage points; black mark: mean; near dots are drawn above each other", fontsize=9)
    return noted(figure, note)


def template_dots(scores: Mapping[str, float], together: float, *, chance: float, title: str, note: str) -> Figure:
    """A mark for each template's score (fraction of 1), best on top, and lines for all together and for chance."""
    figure = new_figure(7.5, 0.3 * len(scores) + 1.6)
    axis = axes_grid(figure)[0, 0]
    names = sorted(scores, key=scores.get)
    values = [100 * scores[name] for name in names]
    axis.plot(values, range(len(names)), "o", color=PALETTE[0], markersize=7, label="one template")
    for y, value in enumerate(values):
        offset = {"textcoords": "offset points", "xytext": (-7, 0), "ha": "right", "va": "center"}
        axis.annotate(f"{value:.1f}", (value, y), fontsize=9, **offset)
    axis.axvline(100 * together, color=PALETTE[5], linewidth=2, label=f"all together: {100 * together:.1f}")
    axis.axvline(100 * chance, color="black", linestyle=":", linewidth=1.5, label=f"chance: {100 * chance:.1f}")
    axis.set_yticks(range(len(names)), [wrap(name, 44) for name in names], fontsize=9)
    axis.set(xlim=(0, 104), ylim=(-0.6, len(names) - 0.4), xlabel="%", title=title)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower left", ncols=4, fontsize=9)
    return noted(figure, note)


def attention_and_cover(image: Any, attention: np.ndarray, drop: np.ndarray, *, title: str, note: str) -> Figure:
    """A PIL image, its rollout (G, G), shares, and the drop of the cosine (K, K) when each part is covered."""
    figure = new_figure(9, 3.5)
    left, middle, right = axes_grid(figure, 1, 3)[0]
    show_image(left, pixels(image), "the picture")
    most = float(np.abs(drop).max()) or 1.0
    for axis, values, name, style in (
        (middle, 100 * np.asarray(attention), "rollout: % of the attention", {"vmin": 0, "cmap": "cividis"}),
        (right, np.asarray(drop), "covered: cosine lost", {"vmin": -most, "vmax": most, "cmap": "PuOr_r"}),
    ):
        shown = axis.imshow(values, **style)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_xlabel(name, fontsize=9)
        figure.colorbar(shown, ax=axis, shrink=0.75)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return noted(figure, note)


def signs(
    pictures: Sequence[Any], words: Sequence[str], labels: Sequence[str], *, values: np.ndarray, title: str
) -> Figure:
    """A row for each PIL image with its sign and its labels' probabilities, `values` (R, C); black: the largest."""
    figure = new_figure(7.5, 1.75 * len(pictures) + 0.4)
    axes = axes_grid(figure, len(pictures), 2, width_ratios=[1, 3.4])
    for (left, right), picture, word, row in zip(axes, pictures, words, np.asarray(values)):
        show_image(left, pixels(picture))
        best = int(row.argmax())
        colors = ["black" if i == best else "#bbbbbb" for i in range(len(labels))]  # no hue: labels may be colors
        right.bar(range(len(labels)), 100 * row, color=colors, edgecolor="black", linewidth=0.5)
        for i, value in enumerate(row):
            shown = "<1%" if 0.001 <= value < 0.005 else f"{value:.0%}"
            right.text(i, 100 * value + 3, shown, ha="center", fontsize=8)
        right.set_xticks(range(len(labels)), [wrap(label, 12) for label in labels], fontsize=8)
        right.set(ylim=(0, 125), yticks=(0, 50, 100), ylabel="%")
        right.set_title(wrap(f"{word}: the answer is {labels[best]}", 84), fontsize=9, loc="left")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def sign_rates(rates: Mapping[str, Mapping[str, float]], *, title: str, note: str) -> Figure:
    """A group of bars for each word: how often it is the answer (fraction of 1) by what is written."""
    series = [*next(iter(rates.values()))]
    figure = new_figure(8, 3.6)
    axis = axes_grid(figure)[0, 0]
    width = 0.84 / len(series)
    for i, name in enumerate(series):
        heights = [100 * of[name] for of in rates.values()]
        x = np.arange(len(rates)) + (i - (len(series) - 1) / 2) * width
        style = {
            "color": ("#bbbbbb", faint(PALETTE[4]), PALETTE[1], PALETTE[5])[i % 4],
            "hatch": ("", "//", "..", "")[i % 4],
        }
        axis.bar(x, heights, 0.92 * width, label=name, edgecolor="white", **style)
        for at, height in zip(x, heights):
            axis.text(at, height + 2, f"{height:.0f}", ha="center", fontsize=9)
    axis.set_xticks(range(len(rates)), [wrap(word, 22) for word in rates], fontsize=9)
    axis.set(ylim=(0, 112), ylabel="answers that are this word, %", title=title)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower left", ncols=4, fontsize=9)
    return noted(figure, note)

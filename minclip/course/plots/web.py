"""Plots of notebook 10 on the search: sizes of data sets, pairs of words, pairs of each kind before and after a cap."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ..setup import PALETTE
from .base import axes_grid, new_figure
from .experiments import curve_style, noted

HATCHES = ("", "///", "xx", "..")
WHITE = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.9}
GROUPS = {"head": (0, 8), "middle": (8, 32), "tail": (32, 64)}  # ranks [first, last) of the 64 kinds


def data_sizes(sizes: Mapping[str, tuple[float, str]], title: str = "", *, note: str, marked: str = "") -> Figure:
    """A bar for each data set on a logarithmic axis; `sizes` are name -> (number of images, the number in words)."""
    figure = new_figure(7.5, 0.42 * len(sizes) + 1.1)
    axis = axes_grid(figure)[0, 0]
    for row, (name, (number, words)) in enumerate(sizes.items()):
        axis.barh(row, number, 0.65, color=PALETTE[1] if name == marked else PALETTE[0])
        axis.text(number * 1.15, row, words, va="center", fontsize=9)
    axis.set_yticks(range(len(sizes)), [*sizes])
    axis.invert_yaxis()
    axis.set(xscale="log", xlim=(2e4, 1e11), xlabel="images with text, logarithmic", title=title)
    return noted(figure, note)


def word_pairs(
    counts: Sequence[float], pmi: Sequence[float], names: Mapping[int, str], *, title: str = "", threshold: float
) -> Figure:
    """A dot for each pair of neighboring words: its count and its PMI in bits; `names` are index -> label."""
    figure = new_figure(7.5, 4.2)
    axis = axes_grid(figure)[0, 0]
    counts, pmi = np.asarray(counts), np.asarray(pmi)
    for above, color, mark in ((False, "#999999", "o"), (True, PALETTE[0], "D")):
        rows = (pmi >= threshold) == above
        axis.scatter(counts[rows], pmi[rows], s=18, color=color, marker=mark, label="kept" if above else "not kept")
    axis.axhline(threshold, color="black", linestyle="--", linewidth=1)
    for index, name in names.items():
        style = {"textcoords": "offset points", "va": "center", "fontsize": 8.5, "bbox": WHITE}
        axis.annotate(f"“{name}”", (counts[index], pmi[index]), (6, 0), **style)
    axis.set(xscale="log", xlabel="how often the pair occurs", ylabel="PMI, bits", title=title)
    axis.legend(loc="lower right", fontsize=9)
    return figure


def _counts_by_rank(axis: Any, curves: Mapping[str, Sequence[float]]) -> None:
    for i, (name, counts) in enumerate(curves.items()):
        ranks = np.arange(len(counts))
        axis.plot(1 + ranks, np.maximum(counts, 0.7), label=name, **curve_style(i, markersize=3.5))
    shown = [rank for rank in (0, 1, 3, 7, 15, 31, 63) if rank < len(counts)]
    axis.set(xscale="log", yscale="log", xlabel="kind, by its frequency on the web (0 is the most frequent)")
    axis.set_xticks([1 + rank for rank in shown], [str(rank) for rank in shown])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_ylabel("pairs")


def counts_by_rank(curves: Mapping[str, Sequence[float]], title: str = "") -> Figure:
    """The number of pairs of each kind, the most frequent first: a line for each of `curves`, on two log axes."""
    figure = new_figure(7.5, 4)
    axis = axes_grid(figure)[0, 0]
    _counts_by_rank(axis, curves)
    axis.set_title(title)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return figure


def before_and_after(before: Sequence[float], after: Sequence[float], title: str = "") -> Figure:
    """Numbers of pairs (64,) of each kind before and after the cap, and the shares of head, middle and tail."""
    figure = new_figure(9.5, 3.6)
    axis, shares = axes_grid(figure, 1, 2, gridspec_kw={"width_ratios": [3, 2]})[0]
    curves = {"on the web": np.asarray(before), "found": np.asarray(after)}
    _counts_by_rank(axis, curves)
    axis.legend(fontsize=9, loc="upper right")
    for row, counts in enumerate(curves.values()):
        left = 0.0
        for i, (group, (first, last)) in enumerate(GROUPS.items()):
            share = 100 * counts[first:last].sum() / max(1, counts.sum())
            color, edge = PALETTE[(1, 4, 2)[i]], {"edgecolor": "white", "hatch": HATCHES[i]}
            shares.barh(row, share, 0.6, left=left, color=color, label=group if row == 0 else None, **edge)
            if share >= 6:
                shares.text(left + share / 2, row, f"{share:.0f}", ha="center", va="center", fontsize=9, bbox=WHITE)
            left += share
    shares.set_yticks(range(len(curves)), [f"{name}\n{counts.sum():,.0f}" for name, counts in curves.items()])
    shares.invert_yaxis()
    shares.set(xlim=(0, 100), xlabel="share of the pairs, %")
    shares.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=9)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def grouped_bars(
    groups: Sequence[str],
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    title: str = "",
    *,
    note: str,
    ylabel: str = "zero-shot accuracy, %",
) -> Figure:
    """For each group a bar for each of `series`, (mean, std) as fractions of 1; whiskers of ± std if one is not 0."""
    figure = new_figure(7.5, 3.6)
    axis = axes_grid(figure)[0, 0]
    width = 0.8 / len(series)
    for i, (name, (mean, spread)) in enumerate(series.items()):
        x = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
        mean, spread = 100 * np.asarray(mean), 100 * np.asarray(spread)
        look = {"color": PALETTE[(0, 1, 2, 4)[i % 4]], "hatch": HATCHES[i % 4], "edgecolor": "white"}
        axis.bar(x, mean, 0.92 * width, label=name, yerr=spread if spread.any() else None, capsize=3, **look)
        for place, value, over in zip(x, mean, spread):
            axis.text(place, value + over + 1, f"{value:.0f}", ha="center", fontsize=9)
    axis.set_xticks(range(len(groups)), groups)
    axis.set(ylim=(0, 108), ylabel=ylabel, title=title)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return noted(figure, note)

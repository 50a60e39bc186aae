"""Notebook 15: what models cost, and how error falls with compute."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, new_figure
from .experiments import DASHES, MARKS, noted

Spread = tuple[Sequence[float], Sequence[float]]


def cost_bars(names: Sequence[str], gflops: Sequence[float], title: str = "", *, against: float) -> Figure:
    """A bar for each model on a logarithmic axis, with its GFLOPs and how many times `against` they are."""
    figure = new_figure(8, 0.36 * len(names) + 1.1)
    axis = axes_grid(figure)[0, 0]
    for row, (name, cost) in enumerate(zip(names, gflops)):
        vit = name.startswith("ViT")
        axis.barh(row, cost, color=PALETTE[int(vit)], hatch="" if vit else "//", edgecolor="white")
        axis.annotate(
            f"{cost:.1f}  ({cost / against:.2f} ×)",
            (cost, row),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set(title=title, xlabel="GFLOPs for one image, forward", xlim=(4, 2.5 * max(gflops)))
    return figure


def days_bars(days: Mapping[str, float], title: str = "", *, most: float | None = None) -> Figure:
    """A bar for each training run, with its days; the axis has room for `most` days, by default for the longest run."""
    figure = new_figure(7, 0.5 * len(days) + 1)
    axis = axes_grid(figure)[0, 0]
    most = most or max(days.values())
    for row, value in enumerate(days.values()):
        axis.barh(row, value, color=PALETTE[row], hatch=("//", "")[row % 2], edgecolor="white")
        axis.annotate(f"{value:.1f} days", (value, row), (5, 0), textcoords="offset points", va="center", fontsize=9)
    axis.set_yticks(range(len(days)), [*days])
    axis.invert_yaxis()
    axis.set_title(title, fontsize=10)
    axis.set(xlim=(0, 1.2 * most), xlabel="days of training")
    return figure


def error_over_compute(
    compute: Mapping[tuple[str, str], Sequence[float]],
    curves: Mapping[tuple[str, str], Spread],
    title: str = "",
    *,
    note: str,
    fits: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
) -> Figure:
    """Error (fractions of 1) over FLOPs on two logarithmic axes, for each (kind, size): (mean, std) with whiskers.

    A kind has a color, a size has a marker and dashes.  `fits` are pale lines: a name -> (x, y), in order of kinds.
    """
    figure = new_figure(8, 4.6)
    axis = axes_grid(figure)[0, 0]
    kinds, sizes = ([*dict.fromkeys(place[i] for place in compute)] for i in (0, 1))
    for (kind, size), x in compute.items():
        mean, spread = (100 * np.asarray(values) for values in curves[kind, size])
        color, i = PALETTE[(1, 0, 2, 3)[kinds.index(kind) % 4]], sizes.index(size)
        axis.errorbar(
            x, mean, yerr=spread, color=color, marker=MARKS[i], linestyle=DASHES[i], capsize=2, label=f"{kind}, {size}"
        )
    for i, (name, (x, y)) in enumerate((fits or {}).items()):
        axis.plot(x, 100 * np.asarray(y), color=PALETTE[(1, 0, 2, 3)[i % 4]], linewidth=7, alpha=0.3, label=name)
    axis.set_xscale("log")
    axis.set_yscale("log")
    ticks = [tick for tick in (5, 10, 15, 20, 30, 40, 50, 60, 80, 100) if tick >= 0.8 * axis.get_ylim()[0]]
    axis.set_yticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()
    axis.grid(color="#dddddd", linewidth=0.6)
    axis.set(
        title=title,
        xlabel="FLOPs of the training (image tower, forward and backward)",
        ylabel="mean zero-shot error, %",
    )
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return noted(figure, note)


def paired_errors(
    names: Sequence[str], errors: Mapping[str, Spread], title: str = "", *, note: str, first: int = 0
) -> Figure:
    """Groups of bars: at each of `names` a bar with a whisker for each of `errors`, (mean, std) in fractions of 1.

    NaN leaves a bar out ("not trained"); `first` is the number of the first color; 0 and 1 are ViT's and ResNet's.
    """
    figure = new_figure(8, 3.4)
    axis = axes_grid(figure)[0, 0]
    places, wide = np.arange(len(names)), 0.8 / len(errors)
    for i, (name, (mean, spread)) in enumerate(errors.items()):
        x = places + wide * (i - (len(errors) - 1) / 2)
        color, mean, spread = PALETTE[(1, 0, 2, 4)[(i + first) % 4]], 100 * np.asarray(mean), 100 * np.asarray(spread)
        hatch = ("", "//", "..", "xx")[i % 4]
        axis.bar(x, mean, wide, yerr=spread, color=color, hatch=hatch, edgecolor="white", label=name, capsize=2)
        for place, value, over in zip(x, mean, spread):
            if np.isfinite(value):
                top, style = (place, value + over), {"textcoords": "offset points", "ha": "center", "fontsize": 8}
                axis.annotate(f"{value:.0f}", top, (0, 4), **style)
            else:
                axis.text(place, 1, "not trained", ha="center", va="bottom", rotation=90, fontsize=9, color="#555555")
    axis.set_xticks(places, names)
    axis.set_xlim(-0.5, len(names) - 0.5)
    axis.margins(y=0.1)
    axis.set(title=title, ylabel="zero-shot error, %")
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return noted(figure, note)


def probe_over_flops(gflops: Mapping[str, float], accuracy: Mapping[str, float], title: str = "") -> Figure:
    """Accuracy (%) over GFLOPs on a logarithmic axis: one line for names that begin with "ViT", one for the others."""
    figure = new_figure(8, 4.2)
    axis = axes_grid(figure)[0, 0]
    for i, (kind, vit) in enumerate((("ResNet", False), ("ViT", True))):
        names = [name for name in accuracy if name.startswith("ViT") == vit]
        x, y = ([values[name] for name in names] for values in (gflops, accuracy))
        axis.plot(x, y, color=PALETTE[i], marker=MARKS[i], linestyle=DASHES[i], label=kind)
        for name, *place in zip(names, x, y):
            away, side = ((-6, 6), "right") if vit else ((6, -12), "left")
            axis.annotate(name, place, away, textcoords="offset points", ha=side, fontsize=9)
    axis.set_xscale("log")
    axis.set(title=title, xlabel="GFLOPs for one image, forward", ylabel="mean over 27 data sets, %")
    axis.set_xlim(4, 1200)
    axis.set_ylim(min(accuracy.values()) - 1.5, max(accuracy.values()) + 1.5)
    axis.legend(frameon=False, loc="lower right")
    return figure

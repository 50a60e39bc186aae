"""Plots of notebook 14: found pages, the quarters of two losses, what features keep, and occlusion maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from torch import Tensor

from ..drawings import COMPANIES, Pages
from ..setup import PALETTE
from .base import axes_grid, faint, new_figure, show_image
from .experiments import MARKS, noted

# what a page shares with the query -> color and line of its frame
FRAMES = {"the same part": (PALETTE[0], "-"), "the same company": (PALETTE[5], "--"), "neither": ("#999999", ":")}


def found_pages(
    pages: Pages,
    asked: Sequence[int] | Tensor,
    found: Sequence[Sequence[int]] | Tensor,
    *,
    title: str = "",
    labels: Sequence[str] = (),
) -> Figure:
    """A row for each query: page number `asked[i]`, then the pages `found[i]`, nearest first.

    A frame says whether a page shows the query's part, or else has its company; `labels` name the rows.
    """
    asked, found = np.asarray(asked), np.asarray(found)
    figure = new_figure(1.35 * (1 + found.shape[1]) + 0.4, 1.62 * len(asked) + 0.75)
    for row, axes in enumerate(axes_grid(figure, len(asked), 1 + found.shape[1])):
        query = int(asked[row])
        for column, (axis, page) in enumerate(zip(axes, (query, *found[row].tolist()))):
            name = f"query: {COMPANIES[pages.company[page]]}" if not column else COMPANIES[pages.company[page]]
            show_image(axis, pages.images[page], name)
            if column:
                part = pages.part[page] == pages.part[query] >= 0
                same = pages.company[page] == pages.company[query]
                color, line = [*FRAMES.values()][0 if part else 1 if same else 2]
                frame = {"transform": axis.transAxes, "fill": False, "clip_on": False}
                axis.add_patch(Rectangle((0, 0), 1, 1, edgecolor=color, linestyle=line, linewidth=3, **frame))
        if labels:
            axes[0].set_ylabel(labels[row], fontsize=9)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    keys = [Patch(fill=False, edgecolor=c, linestyle=line, linewidth=2) for c, line in FRAMES.values()]
    figure.legend(keys, [*FRAMES], loc="outside lower left", ncols=3, fontsize=9, handlelength=3)
    return figure


def two_losses(logits: Tensor, title: str = "") -> Figure:
    """The (2N, 2N) logits of 2N views: first views against second ones in color, within the views gray."""
    size, n = len(logits), len(logits) // 2
    names = [f"${view}_{i}$" for view in "ab" for i in range(n)]
    figure = new_figure(6, 4.2)
    axis = axes_grid(figure)[0, 0]
    axis.set_aspect("equal")
    colors = {"across": faint(PALETTE[1]), "within": "#dddddd", "itself": "white"}
    for row, column in np.ndindex(size, size):
        kind = "itself" if row == column else "across" if (row < n) != (column < n) else "within"
        hatch = "///" if kind == "within" else None
        style = {"facecolor": colors[kind], "edgecolor": "white", "linewidth": 2, "hatch": hatch}
        axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style))
        right = column == (row + n) % size
        text = "–" if row == column else f"{logits[row, column]:.1f}"
        axis.text(column, row, text, ha="center", va="center", fontsize=11, weight="bold" if right else "normal")
        if right:
            outline = {"fill": False, "edgecolor": PALETTE[0], "linewidth": 2.5, "zorder": 3}
            axis.add_patch(Rectangle((column - 0.45, row - 0.45), 0.9, 0.9, **outline))
    axis.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), title=title)
    axis.set_xticks(range(size), [name.strip("$").replace("_", "") for name in names])
    axis.set_yticks(range(size), [name.strip("$").replace("_", "") for name in names])
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    keys = [
        Patch(facecolor=colors["across"]),
        Patch(facecolor=colors["within"], hatch="///", edgecolor="white"),
        Patch(fill=False, edgecolor=PALETTE[0], linewidth=2),
    ]
    names = ["across the views: in both losses", "within one view: in NT-Xent only", "partner"]
    axis.legend(keys, names, loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return figure


def kept_dots(
    panels: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]],
    *,
    chance: Mapping[str, float],
    title: str,
    note: str,
) -> Figure:
    """A panel for each measure: a row for each feature, with a mark (mean, std) for each way the pages are shown.

    `panels` maps measure -> way ("as drawn", "block masked") -> feature -> (mean, std), fractions of 1; `chance` maps
    a measure to its dashed line.  The means stand beside the marks of the first way.
    """
    features = [*next(iter(next(iter(panels.values())).values()))]
    figure = new_figure(3.0 * len(panels) + 1.8, 0.5 * len(features) + 1.5)
    axes = axes_grid(figure, 1, len(panels))[0]
    for axis, (measure, ways) in zip(axes, panels.items()):
        axis.set_yticks(range(len(features)), features if axis is axes[0] else [""] * len(features), fontsize=9)
        axis.set_ylim(len(features) - 0.5, -0.5)
        for i, (way, values) in enumerate(ways.items()):
            for row, feature in enumerate(features):
                mean, std = (100 * value for value in values[feature])
                y, color = row + 0.22 * (2 * i - 1), PALETTE[(5, 0)[i]]
                style = {"fmt": MARKS[i], "color": color, "capsize": 2, "markersize": 6}
                axis.errorbar(mean, y, xerr=std, label=way if not row else None, **style)
                end = {"textcoords": "offset points", "xytext": (8, 0), "va": "center", "fontsize": 8, "color": color}
                end["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # over the line of chance
                axis.annotate(f"{mean:.1f}", (mean + std, y), **end)
        axis.axvline(100 * chance[measure], color="black", linestyle="--", linewidth=1, label="chance")
        axis.set_title(measure, fontsize=10)
        longest = max(mean + std for values in ways.values() for mean, std in values.values())
        axis.set_xlim(0, 120 * max(longest, chance[measure]))  # in percent, with room for the numbers
        axis.grid(axis="y", color="#eeeeee")
        axis.set_xlabel("%", fontsize=9)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", ncols=3, fontsize=9)
    return noted(figure, note)


def block_or_part(moves: Mapping[str, Mapping[str, tuple[float, float]]], *, title: str, note: str) -> Figure:
    """Two bars per feature: how far its vector moves (1 - cosine; mean, std) without the block, without the part."""
    figure = new_figure(7.5, 0.55 * len(moves) + 1.3)
    axis = axes_grid(figure)[0, 0]
    styles = {"block": {"color": PALETTE[5]}, "part": {"color": PALETTE[0], "hatch": "//"}}
    for row, of_feature in enumerate(moves.values()):
        for i, (name, style) in enumerate(styles.items()):
            mean, std = of_feature[name]
            y, label = row + 0.2 * (2 * i - 1), f"{name} painted over" if not row else None
            axis.barh(y, mean, 0.38, xerr=std, label=label, edgecolor="white", ecolor="black", capsize=2, **style)
            place = {"textcoords": "offset points", "xytext": (5, 0), "va": "center", "fontsize": 9}
            axis.annotate(f"{mean:.2f}", (mean + std, y), **place)
    axis.set_yticks(range(len(moves)), [*moves], fontsize=9)
    axis.invert_yaxis()
    axis.margins(x=0.1)
    axis.set(xlabel="1 − cosine between the page and the changed page", title=title)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return noted(figure, note)


def occlusion_maps(
    pages: Pages, query: int, maps: Mapping[str, tuple[int, Any]], *, title: str = "", note: str = ""
) -> Figure:
    """The query page; then for each of `maps`, name -> (nearest page, drops (n, n)), that page and the map.

    A cell of a map is the drop of the cosine if a gray patch lies there; the number is the largest drop.  All maps
    have the color scale of the bar at the right.
    """
    figure = new_figure(2.1 * (1 + 2 * len(maps)) + 0.7, 3.0)
    first, *rest = axes_grid(figure, 1, 1 + 2 * len(maps))[0]
    top = max(1e-6, *(float(np.max(np.asarray(drops))) for _, drops in maps.values()))
    show_image(first, pages.images[query], f"query: {COMPANIES[pages.company[query]]}")
    for number, (name, (nearest, drops)) in enumerate(maps.items()):
        found, axis = rest[2 * number : 2 * number + 2]
        show_image(found, pages.images[nearest], f"nearest: {COMPANIES[pages.company[nearest]]}")
        found.set_title(name, fontsize=9)
        drops = np.asarray(drops)
        axis.imshow(pages.images[query, 0], cmap="gray", extent=(0, 64, 64, 0))
        shown = axis.imshow(drops, extent=(0, 64, 64, 0), alpha=0.75, vmin=0, vmax=top)
        axis.set_xticks([])
        axis.set_yticks([])
        axis.set_xlabel(f"largest drop {float(drops.max()):.2f}", fontsize=9)
    bar = figure.colorbar(shown, ax=[first, *rest], shrink=0.7, pad=0.01)
    bar.set_label("drop of the cosine", fontsize=9)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return noted(figure, note) if note else figure

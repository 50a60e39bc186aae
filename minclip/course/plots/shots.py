"""Labels against sentences: the choice of C, margins and crossings over tasks, k-shot panels, narrow labels."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, new_figure, show_image
from .experiments import DASHES, MARKS, noted


def c_curve(validated: Mapping[float, float], chosen: float, title: str = "") -> Figure:
    """Validation accuracies (fractions of 1) by C, on a logarithmic axis, and the C that was chosen."""
    figure = new_figure(7, 3.4)
    axis = axes_grid(figure)[0, 0]
    cs = sorted(validated)
    axis.semilogx(cs, [100 * validated[c] for c in cs], "-o", color=PALETTE[0], markersize=5, label="validation")
    best = {"marker": "D", "color": PALETTE[5], "markersize": 9, "linestyle": "none"}
    axis.semilogx(chosen, 100 * validated[chosen], label=f"chosen: C = {chosen:.3g}", zorder=3, **best)
    axis.set(xlabel="C: how much the labels count against the size of the weights", ylabel="accuracy, %", title=title)
    axis.legend(fontsize=9)
    return figure


def margins(names: Sequence[str], mean: Sequence[float], spread: Sequence[float], *, title: str, note: str) -> Figure:
    """A bar for each name, the largest on top: differences in accuracy (fractions of 1), in points, with their std."""
    figure = new_figure(7.5, 0.33 * len(names) + 1.3)
    axis = axes_grid(figure)[0, 0]
    order = np.argsort(mean)
    for row, i in enumerate(order):
        value, error = 100 * mean[i], 100 * spread[i]
        style = {"color": PALETTE[0]} if value > 0 else {"color": PALETTE[1], "hatch": "//"}
        axis.barh(row, value, xerr=error, edgecolor="white", ecolor="black", capsize=3, **style)
        side = {"ha": "left", "xytext": (6, 0)} if value > 0 else {"ha": "right", "xytext": (-6, 0)}
        end = value + (error if value > 0 else -error)
        axis.annotate(f"{value:+.1f}", (end, row), textcoords="offset points", va="center", fontsize=9, **side)
    axis.set_yticks(range(len(names)), [names[i] for i in order], fontsize=9)
    axis.axvline(0, color="black", linewidth=1)
    axis.margins(x=0.12)
    axis.set(xlabel="zero-shot minus probe on the supervised tower, percentage points", title=title)
    return noted(figure, note)


def crossings(values: Mapping[str, float | None], *, most: Mapping[str, float], title: str, note: str) -> Figure:
    """Labeled images per class that match zero-shot, by task, on a logarithmic axis.

    None, drawn hatched with ">", means that the probe doesn't reach zero-shot with up to `most[task]` images per class.
    """
    figure = new_figure(7.5, 0.33 * len(values) + 1.3)
    axis = axes_grid(figure)[0, 0]
    order = sorted(values, key=lambda name: (values[name] or 1.01 * most[name], name), reverse=True)
    for row, name in enumerate(order):
        value = values[name]
        style = {"color": PALETTE[0]} if value else {"color": PALETTE[4], "hatch": "//", "edgecolor": "white"}
        axis.barh(row, np.log2(value or most[name]) + 1, left=-1, **style)
        text = f"> {most[name]:g}" if not value else "≤ 1" if value == 1 else f"{value:.1f}"
        place = (np.log2(value or most[name]), row)
        axis.annotate(text, place, textcoords="offset points", xytext=(5, 0), va="center", fontsize=9)
    axis.set_yticks(range(len(order)), order, fontsize=9)
    axis.set_xticks(range(7), [str(2**i) for i in range(7)])
    axis.set_xlim(-1, 6.8)
    axis.set(xlabel="labeled images per class, k", title=title)
    return noted(figure, note)


def shot_panels(
    curves: Mapping[str, tuple[Sequence[int], Sequence[float], Sequence[float]]],
    zero_shot: Mapping[str, float],
    *,
    title: str,
    note: str,
    columns: int = 4,
) -> Figure:
    """A panel for each task: (ks, mean, std) of its probes as a line with a band, zero-shot as a dashed line."""
    rows = -(-len(curves) // columns)
    figure = new_figure(2.4 * columns, 1.9 * rows + 0.5)
    axes = [*axes_grid(figure, rows, columns, sharey=True).flat]
    for number, (axis, (name, (ks, mean, spread))) in enumerate(zip(axes, curves.items())):
        x, mean, spread = np.log2(ks), 100 * np.asarray(mean), 100 * np.asarray(spread)
        axis.fill_between(x, mean - spread, mean + spread, color=PALETTE[0], alpha=0.25, linewidth=0)
        axis.plot(x, mean, "-o", color=PALETTE[0], markersize=4, label="k labeled images per class")
        axis.axhline(100 * zero_shot[name], color=PALETTE[5], linestyle="--", linewidth=1.5, label="zero-shot")
        axis.set_title(name, fontsize=9)
        lowest = number + columns >= len(curves)
        axis.set_xticks(range(0, 7, 2), ["1", "4", "16", "64"] if lowest else [""] * 4)
        axis.set(xlim=(-0.3, 6.3), ylim=(0, 103))
    for axis in axes[len(curves) :]:
        axis.set_axis_off()
    figure.supxlabel("labeled images per class, k", fontsize=9)
    figure.supylabel("accuracy, %", fontsize=9)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower left", fontsize=9, ncols=2)
    return noted(figure, note)


def narrow_panels(
    ks: Sequence[int],
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]],
    *,
    title: str,
    note: str,
) -> Figure:
    """A panel for each test set, and in it for each way to learn (mean, std) by k, fractions of 1, as a line."""
    figure = new_figure(3.1 * len(panels), 3.9)
    axes = axes_grid(figure, 1, len(panels), sharey=True)[0]
    for axis, (test, curves) in zip(axes, panels.items()):
        for i, (name, (mean, spread)) in enumerate(curves.items()):
            style = {"color": PALETTE[(6, 1, 3, 5, 4, 0)[i % 6]], "linestyle": DASHES[i % 4], "marker": MARKS[i]}
            axis.errorbar(np.log2(ks), 100 * np.asarray(mean), 100 * np.asarray(spread), label=name, capsize=2, **style)
        axis.set_xticks(np.log2(ks), [str(k) for k in ks])
        axis.set_title(test, fontsize=10)
        axis.grid(axis="y", color="#e5e5e5")
        axis.set_xlabel("labeled images per class, k", fontsize=9)
    axes[0].set_ylabel("accuracy, %")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    return noted(figure, note)


def shot_cards(
    images: np.ndarray, names: Sequence[str], *, bars: Mapping[str, float], line: float, title: str
) -> Figure:
    """Labeled images (classes, k, 3, S, S) in rows; right, `bars` of accuracy (fractions) and zero-shot's as a line."""
    classes, shown = images.shape[:2]
    figure = new_figure(4.4 + 0.62 * shown, 0.62 * classes + 1.2)
    grid = figure.add_gridspec(classes, shown + 2, width_ratios=[*([1] * shown), 0.3, 4])  # a gap before the bars
    for row in range(classes):
        for column in range(shown):
            axis = figure.add_subplot(grid[row, column])
            show_image(axis, images[row, column])
            if column == 0:
                axis.set_ylabel(names[row], rotation=0, ha="right", va="center", fontsize=9)
    axis = figure.add_subplot(grid[:, -1])
    axis.bar(range(len(bars)), [100 * value for value in bars.values()], color=PALETTE[0], width=0.5)
    axis.set_xlim(-0.8, len(bars) - 0.2)
    for place, value in enumerate(bars.values()):
        axis.annotate(f"{100 * value:.0f}", (place, 100 * value), ha="center", va="bottom", fontsize=9)
    axis.axhline(100 * line, color=PALETTE[5], linestyle="--", label=f"zero-shot, {100 * line:.0f}")
    axis.set_xticks(range(len(bars)), [*bars], fontsize=9)
    axis.set(ylim=(0, 112), ylabel="accuracy, %")
    axis.legend(fontsize=9, loc="upper right")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure

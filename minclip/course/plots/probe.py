"""Zero-shot beside classifiers trained on k labeled images per class (the paper's figure 6)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..setup import PALETTE
from .base import axes_grid, new_figure


def few_shot_curve(
    curve: dict[int, Sequence[float]],
    zero_shot: float,
    title: str = "",
    *,
    chance: float | None = None,
    crossing: float | None = None,
    probe: float | None = None,
) -> Figure:
    """Mean accuracy by k, with a band of ± one standard deviation over the repeats; zero-shot is a star at k = 0.

    All are fractions of 1, shown in percent.  `crossing` is the k at which the curve reaches zero-shot, `probe` the
    accuracy with all training images.
    """
    figure = new_figure(7, 3.8)
    axis = axes_grid(figure)[0, 0]
    ks = sorted(curve)
    x, left = np.log2(ks), np.log2(ks[0]) - 1  # log 0 doesn't exist: draw k = 0 one doubling before the smallest k
    mean = np.array([100 * np.mean(curve[k]) for k in ks])
    spread = np.array([100 * np.std(curve[k], ddof=1) if len(curve[k]) > 1 else 0 for k in ks])
    axis.fill_between(x, mean - spread, mean + spread, color=PALETTE[0], alpha=0.25, linewidth=0)
    axis.plot(x, mean, "-o", color=PALETTE[0], markersize=5, label="k labeled images per class")
    axis.axhline(100 * zero_shot, color=PALETTE[5], linestyle="--", linewidth=1)
    axis.plot(left, 100 * zero_shot, "*", color=PALETTE[5], markersize=16, label="zero-shot", clip_on=False)
    if probe is not None:
        axis.axhline(100 * probe, color=PALETTE[2], linestyle="-.", linewidth=1.5, label="all training images")
    if chance is not None:
        axis.axhline(100 * chance, color="black", linestyle=":", linewidth=1, label="chance")
    if crossing is not None:
        place = np.log2(crossing)
        axis.plot([place, place], [0, 100 * zero_shot], color=PALETTE[6], linewidth=1)
        axis.plot(place, 100 * zero_shot, "D", color=PALETTE[6], markersize=7, label=f"crossing, k = {crossing:.1f}")
    axis.set_xticks([left, *x], ["0", *map(str, ks)])
    axis.set_ylim(0, 102)
    axis.set(xlabel="labeled training images per class, k", ylabel="accuracy, %", title=title)
    axis.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    return figure

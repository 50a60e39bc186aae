"""The widget of notebook 10: a search with a cap in a web whose kinds follow Zipf's law."""

from collections.abc import Callable

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from .. import plots
from .playgrounds import redrawn

Counts = Callable[[int, float], tuple[np.ndarray, np.ndarray]]  # (cap, exponent) -> pairs of each kind before and after


def cap_figure(counts: Counts, *, cap: int, exponent: float) -> Figure:
    """Numbers of pairs of each of 64 kinds, by rank, on the web and among those that the search with `cap` finds."""
    before, after = counts(cap, exponent)
    ratios = [f"{c[:8].mean() / max(1, c[32:].mean()):.1f}" for c in (before, after)]
    times = f"a head kind has {ratios[0]} times the pairs of a tail kind, then {ratios[1]}"
    title = f"cap {cap:,}, exponent {exponent:.2f}: {times}"
    return plots.before_and_after(before, after, title)


def cap_playground(counts: Counts) -> ipywidgets.VBox:
    """Choose the cap and the exponent of Zipf's law, and watch counts and shares."""
    wide = {"layout": ipywidgets.Layout(width="70%"), "continuous_update": False}
    caps = [10, 20, 30, 50, 100, 200, 300, 500, 1000, 2000, 5000, 20_000]
    return redrawn(
        lambda cap, exponent: cap_figure(counts, cap=cap, exponent=exponent),
        cap=ipywidgets.SelectionSlider(options=caps, value=100, description="cap", **wide),
        exponent=ipywidgets.FloatSlider(1.1, min=0, max=1.6, step=0.1, description="exponent", **wide),
    )

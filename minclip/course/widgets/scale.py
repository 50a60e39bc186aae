"""The first widget of notebook 15: how many days a training run takes, by GPUs, their speed and utilization."""

from collections.abc import Mapping

import ipywidgets
from matplotlib.figure import Figure

from .. import plots
from .playgrounds import redrawn


def days_figure(
    flops: Mapping[str, float], *, gpus: int, peak: float, utilization: float, most: float | None = None
) -> Figure:
    """Bars of days: `flops` operations of each run on `gpus` GPUs at `utilization` (0 to 1) of `peak` TFLOP/s.

    The axis ends at `most` days; None: at the longest run.
    """
    days = {name: count / (gpus * peak * 1e12 * utilization) / 86_400 for name, count in flops.items()}
    title = f"{gpus} GPUs of {peak:g} TFLOP/s at {utilization:.0%}: {', '.join(f'{d:.0f}' for d in days.values())} days"
    return plots.days_bars(days, title, most=most)


def days_slider(flops: Mapping[str, float]) -> ipywidgets.VBox:
    """Controls for the GPUs, their peak in TFLOP/s and the utilization, above `days_figure`."""
    return redrawn(
        lambda **chosen: days_figure(flops, **chosen),
        gpus=ipywidgets.SelectionSlider(options=[2**k for k in range(11)], value=8, description="GPUs"),
        peak=ipywidgets.FloatText(value=989.0, description="TFLOP/s"),
        utilization=ipywidgets.FloatSlider(min=0.02, max=0.8, step=0.02, value=0.4, description="used"),
    )

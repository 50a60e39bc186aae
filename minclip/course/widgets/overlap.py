"""The widget of notebook 10: the threshold of a detector of copies."""

from collections.abc import Sequence

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from .. import plots
from .playgrounds import redrawn


def threshold_figure(
    cosines: Sequence[float], known: Sequence[bool], pairs: tuple[np.ndarray, np.ndarray], *, threshold: float
) -> Figure:
    """What a threshold finds, by `cosines` (N,) of images with their nearest neighbors; `known` (N,) marks copies.

    `pairs` are the images and their neighbors, (N, 3, S, S) uint8 each.
    """
    found, known = np.asarray(cosines) >= threshold, np.asarray(known, dtype=bool)
    right = int((found & known).sum())
    of_found = f", {right / found.sum():.0%} of them copies" if found.any() else ""
    title = f"threshold {threshold:.2f}: {found.sum()} images found{of_found}; {right} of {known.sum()} copies"
    return plots.threshold_pairs(cosines, known, pairs, threshold=threshold, title=title)


def threshold_slider(
    cosines: Sequence[float], known: Sequence[bool], pairs: tuple[np.ndarray, np.ndarray], *, threshold: float
) -> ipywidgets.VBox:
    """Move the threshold, and see the pairs next to it, precision and recall."""
    return redrawn(
        lambda threshold: threshold_figure(cosines, known, pairs, threshold=threshold),
        threshold=ipywidgets.FloatSlider(
            value=round(threshold, 2), min=0.7, max=1, step=0.005, readout_format=".3f", description="threshold"
        ),
    )

"""The plot of `minclip search`: its results as a contact sheet."""

import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .base import axes_grid, new_figure, show_image, wrap


def contact_sheet(
    pictures: Sequence[Any], paths: Sequence[str], cosines: Sequence[float], *, title: str = "", columns: int = 4
) -> Figure:
    """PIL images of any size in rows, best first, each above its rank, cosine and file name."""
    columns = max(1, min(columns, len(pictures)))
    rows = max(1, math.ceil(len(pictures) / columns))
    figure = new_figure(max(4.4, 2.2 * columns), 2.3 * rows + 0.5)
    for axis in axes_grid(figure, rows, columns).flat:
        axis.set_axis_off()
    for rank, (axis, picture, path, cosine) in enumerate(zip(figure.axes, pictures, paths, cosines), 1):
        axis.set_axis_on()
        show_image(axis, np.asarray(picture).transpose(2, 0, 1))
        name = PurePosixPath(path).name
        name = name if len(name) <= 32 else f"…{name[-31:]}"
        axis.set_xlabel(f"{rank} · cosine {cosine:.3f}\n{name}", fontsize=8)
    figure.suptitle(wrap(title, 24 * columns), fontsize=11, x=0.01, ha="left")
    return figure

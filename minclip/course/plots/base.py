"""Figures: made, shown and saved, and the small parts that all plots share."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from ...cli import shown
from ..setup import STYLE


def new_figure(width: float, height: float) -> Figure:
    """A figure in the course's style; not one of pyplot's, which would have to be closed."""
    with mpl.rc_context(STYLE):
        return Figure(figsize=(width, height))


def make_drawable(figure: Figure) -> None:
    """Every text of the figure is escaped by `shown`, and none is read as mathematics: a caption may hold a $.

    Only numbers that matplotlib writes beside an axis stay as they are: powers of ten are mathematics.
    """
    axes = [axis for of_figure in figure.axes for axis in (of_figure.xaxis, of_figure.yaxis)]
    for axis in axes:
        if isinstance(axis.get_major_formatter(), FuncFormatter):  # what set_xticks(places, labels) leaves behind
            axis.set_ticklabels([shown(label.get_text()) for label in axis.get_ticklabels()], parse_math=False)
    of_ticks = {
        label
        for axis in axes
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in tick.get_children()
    }
    for text in figure.findobj(Text):
        if text not in of_ticks:
            text.set(text=shown(text.get_text()), parse_math=False)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes, for files and for image widgets."""
    make_drawable(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    return buffer.getvalue()


def show(figure: Figure) -> None:
    """Displays the figure in a notebook, as a PNG: the same in JupyterLab, in Colab and on a web page."""
    from IPython.display import Image, display  # only notebooks have it

    display(Image(data=png(figure)))


def save(figure: Figure, path: Path) -> None:
    """Writes the figure to a PNG file, completely or not at all."""
    from ...weights.folder import atomic_write

    atomic_write(path, png(figure))


def axes_grid(figure: Figure, rows: int = 1, columns: int = 1, **keywords: Any) -> np.ndarray:
    with mpl.rc_context(STYLE):
        return figure.subplots(rows, columns, squeeze=False, **keywords)


def wrap(text: str, width: int) -> str:
    """Breaks a caption into lines of at most `width` characters, between words."""
    lines = [""]
    for word in text.split():
        lines = [*lines[:-1], f"{lines[-1]} {word}".strip()] if len(lines[-1]) + len(word) < width else [*lines, word]
    return "\n".join(lines)


def show_image(axis: Any, image: np.ndarray | Tensor, caption: str = "", *, width: int = 24) -> None:
    """One (3, S, S) uint8 image with its caption below."""
    axis.imshow(np.asarray(image).transpose(1, 2, 0))
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_xlabel(wrap(caption, width), fontsize=8)
    for spine in axis.spines.values():
        spine.set_visible(False)


def image_grid(images: np.ndarray, captions: Sequence[str], *, columns: int = 5, title: str = "") -> Figure:
    """Images (n, 3, S, S) uint8 in rows, each above its caption."""
    rows = math.ceil(len(images) / columns)
    figure = new_figure(1.75 * columns, 2.3 * rows + 0.3)
    axes = list(axes_grid(figure, rows, columns).flat)
    for axis in axes:
        axis.set_axis_off()
    for axis, image, caption in zip(axes, images, captions):
        axis.set_axis_on()
        show_image(axis, image, caption)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def faint(color: str) -> str:
    """A color mixed with white: a background on which black text can be read."""
    return mpl.colors.to_hex(0.35 * np.array(mpl.colors.to_rgb(color)) + 0.65)


def lines(
    x: Sequence[float], ys: dict[str, Sequence[float]], title: str = "", *, log: bool = False, **labels: str
) -> Figure:
    """A line for each of `ys` over `x` (with `log`, in powers of two), each in its own line style."""
    figure = new_figure(6, 3)
    axis = axes_grid(figure)[0, 0]
    for i, (name, values) in enumerate(ys.items()):
        axis.plot(x, values, label=name, linestyle=["-", "--", ":"][i % 3], linewidth=2, marker="o" if log else None)
    if log:
        axis.set_xscale("log", base=2)
        axis.set_xticks(x, [str(value) for value in x])
        axis.minorticks_off()
    axis.legend()
    axis.set(title=title, **labels)
    return figure

"""Makes, shows and saves figures, and draws the parts that plots share."""

import io
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import regex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from ...cli import shown
from ..setup import STYLE
from .fonts import add_fonts


def new_figure(width: float, height: float) -> Figure:
    """A figure in the course's style, `width` × `height` inches; not one of pyplot's, which would have to be closed."""
    with mpl.rc_context(STYLE):
        return Figure(figsize=(width, height))


def make_drawable(figure: Figure) -> None:
    """Escapes the figure's texts with `shown`, finds fonts, and turns off mathematical text: a caption may hold a $.

    Only the numbers that matplotlib writes beside an axis are left: powers of ten are mathematical text.
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
    texts = figure.findobj(Text)
    for text in texts:
        if text not in of_ticks:
            text.set(text=shown(text.get_text()), parse_math=False)
    add_fonts(texts)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes, for files and for image widgets."""
    make_drawable(figure)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # `add_fonts` reports them, once
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
    """(rows, columns) array of axes in the course's style; `keywords` as for `figure.subplots`."""
    with mpl.rc_context(STYLE):
        return figure.subplots(rows, columns, squeeze=False, **keywords)


def wrap(text: str, width: int) -> str:
    """Breaks a caption into lines of at most `width` characters: between words, and within words that are longer."""
    lines = [""]
    for word in text.split():
        characters = regex.findall(r"\X", word)  # a letter and its marks stay together
        for piece in ("".join(characters[i : i + width]) for i in range(0, len(characters), width)):
            fits = len(lines[-1]) + len(piece) < width or not lines[-1]
            lines = [*lines[:-1], f"{lines[-1]} {piece}".strip()] if fits else [*lines, piece]
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


def mark_ln_batch(axis: Any, batch_size: int, *, note: str = "", va: str = "bottom") -> None:
    """A dashed line at ln(B), the loss of a model that knows nothing, with its name and `note` at the right end."""
    loss = math.log(batch_size)
    axis.axhline(loss, color="black", linestyle="--", linewidth=1)
    name = f"ln {batch_size}{note}"
    axis.annotate(name, (1, loss), xycoords=("axes fraction", "data"), ha="right", va=va, fontsize=9)


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

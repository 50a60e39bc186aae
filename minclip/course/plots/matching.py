"""Plots of matching and training: similarity matrix, probabilities, curves of a run."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ...training.run import Run
from ..setup import PALETTE, STYLE
from .base import axes_grid, mark_ln_batch, new_figure, show_image, wrap


def similarity_matrix(
    matrix: Tensor | np.ndarray, images: np.ndarray, captions: Sequence[str], *, title: str = ""
) -> Figure:
    """A similarity matrix (n, n) with its values: rows are `captions`, columns are `images`, (n, 3, S, S) uint8."""
    matrix, n = np.asarray(matrix), len(captions)
    figure = new_figure(3.2 + 0.85 * n, 0.85 * n + 1.4)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    with mpl.rc_context(STYLE):
        grid = figure.add_gridspec(2, n, height_ratios=[1, n])
        axis = figure.add_subplot(grid[1, :])
        for i, image in enumerate(images):
            show_image(figure.add_subplot(grid[0, i]), image)
    axis.imshow(matrix, cmap="cividis", aspect="auto")
    axis.set_xticks([])
    axis.set_yticks(range(n), [wrap(caption, 34) for caption in captions], fontsize=8)
    middle = (matrix.max() + matrix.min()) / 2
    for (row, column), value in np.ndenumerate(matrix):
        color = "black" if value > middle else "white"
        axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
    return figure


def probabilities(image: np.ndarray, labels: Sequence[str], values: Sequence[float], *, title: str = "") -> Figure:
    """One (3, S, S) uint8 image, and beside it a bar for the probability of each label."""
    figure = new_figure(7, max(2.0, 0.35 * len(labels) + 0.9))
    left, right = axes_grid(figure, 1, 2, width_ratios=[1, 2.2])[0]
    show_image(left, image)
    best = int(np.argmax(values))
    rows = range(len(labels))
    right.barh(rows, values, color=[PALETTE[1] if row == best else PALETTE[0] for row in rows])
    right.set_yticks(rows, labels)
    right.invert_yaxis()
    right.set_xlim(0, 1.12)
    right.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    for i, value in enumerate(values):
        right.text(value + 0.01, i, f"{value:.0%}", va="center")
    right.set_title(title)
    return figure


def loss_curve(losses: Sequence[float], batch_size: int, title: str = "") -> Figure:
    """Loss by step, with the line ln(B) of a model that knows nothing."""
    figure = new_figure(6, 3)
    axis = axes_grid(figure)[0, 0]
    axis.plot(range(1, len(losses) + 1), losses)
    mark_ln_batch(axis, batch_size, note=": knows nothing")
    axis.set(xlabel="step", ylabel="loss", title=title, ylim=(0, None))
    return figure


def curves(run: Run) -> Figure:
    """A run's loss, temperature, gradient norm and validation recall by step: what `curves.png` shows."""
    steps = run.steps
    validations = [line for line in run.metrics if "val" in line]
    figure = new_figure(9, 5.5)
    (loss, recall), (scale, norm) = axes_grid(figure, 2, 2, sharex=True)
    x = [line["step"] for line in steps]
    loss.plot(x, [line["loss"] for line in steps])
    mark_ln_batch(loss, run.config.train.batch_size, note=": knows nothing")
    loss.set(title="training loss", ylim=(0, None))
    for direction, label in (("text_to_image_r@5", "text→image"), ("image_to_text_r@5", "image→text")):
        percent = [100 * line["val"][direction] for line in validations]
        recall.plot([line["step"] for line in validations], percent, marker="o", markersize=4, label=label)
    recall.set(title="validation recall@5, %", ylim=(0, 100))
    recall.legend()
    scale.plot(x, [line["scale"] for line in steps])
    scale.set(title="scale (1 / temperature)", xlabel="step")
    norm.plot(x, [line["grad_norm"] for line in steps])
    norm.axhline(run.config.train.grad_clip, color="black", linestyle="--", linewidth=1)
    norm.set(title="gradient norm, clipped at the dashed line", xlabel="step", yscale="log")
    return figure

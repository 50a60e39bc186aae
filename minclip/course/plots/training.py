"""Plots of training: the matrix by step, norms of several runs, what each option saves."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ..setup import PALETTE
from .base import axes_grid, mark_ln_batch, new_figure


def matrix_and_loss(
    matrix: Tensor | np.ndarray, losses: Sequence[float], *, step: int, batch_size: int, title: str = ""
) -> Figure:
    """Left: the cosines (n, n) of images and texts after `step` steps.  Right: the loss, with a dot at `step`."""
    figure = new_figure(8.4, 3.4)
    left, right = axes_grid(figure, 1, 2, width_ratios=[1, 1.4])[0]
    shown = left.imshow(np.asarray(matrix), vmin=-0.4, vmax=1)
    figure.colorbar(shown, ax=left, shrink=0.8)
    left.set(xlabel="text", ylabel="image", xticks=[], yticks=[])
    right.plot(range(1, len(losses) + 1), losses, linewidth=1)
    right.plot(max(step, 1), losses[max(step, 1) - 1], "o", color=PALETTE[5], markersize=9)
    mark_ln_batch(right, batch_size)
    right.set(xlabel="step", ylabel="loss", ylim=(0, 1.15 * max(losses)))
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def run_norms(runs: dict[str, Sequence[dict[str, float]]], batch_size: int, title: str = "") -> Figure:
    """A column for each run's log: loss, gradient norm, and update norm / parameter norm."""
    figure = new_figure(2.3 * len(runs) + 0.6, 5.6)
    axes = axes_grid(figure, 3, len(runs), sharex=True, sharey="row")
    for column, (name, lines) in zip(axes.T, runs.items()):
        x = [line["step"] for line in lines]
        ratio = [line["update_norm"] / line["param_norm"] for line in lines]
        losses, norms = [line["loss"] for line in lines], [line["grad_norm"] for line in lines]
        for axis, values in zip(column, (losses, norms, ratio)):
            axis.plot(x, values, linewidth=1.5)
            axis.grid(axis="y", color="#e5e5e5")
        mark_ln_batch(column[0], batch_size, va="top")
        column[0].set_title(name, fontsize=9)
        column[1].axhline(1, color="black", linestyle="--", linewidth=1)
        column[2].axhspan(3e-4, 1e-2, color=PALETTE[2], alpha=0.2, linewidth=0)
        column[2].set_xlabel("step")
    for axis, name in zip(axes[:, 0], ("loss", "gradient norm", "update / parameters")):
        axis.set_ylabel(name)
    axes[1, 0].set_yscale("log")
    axes[2, 0].set_yscale("log")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def waterfall(panels: dict[str, dict[str, float]], title: str = "", *, digits: int = 0) -> Figure:
    """For each panel, named after its unit, a bar per amount; each has one more option on than the bar above.

    The part that an option saves is hatched.
    """
    figure = new_figure(7.4, sum(0.42 * len(amounts) + 0.75 for amounts in panels.values()) + 0.4)
    heights = [len(amounts) + 1 for amounts in panels.values()]
    for axis, (unit, amounts) in zip(axes_grid(figure, len(panels), 1, height_ratios=heights)[:, 0], panels.items()):
        names, values = list(amounts), list(amounts.values())
        axis.barh(range(len(names)), values, color=PALETTE[0])
        axis.set_yticks(range(len(names)), names)
        for row, (before, now) in enumerate(zip(values, values[1:]), 1):
            if now < before:
                axis.barh(row, before - now, left=now, color="white", edgecolor=PALETTE[1], hatch="////")
        for row, value in enumerate(values):
            end = max(value, values[row - 1] if row else 0)
            axis.text(end + 0.01 * max(values), row, f"{value:.{digits}f}", va="center", fontsize=9)
        axis.invert_yaxis()
        axis.set(xlabel=unit, xlim=(0, 1.1 * max(values)))
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure

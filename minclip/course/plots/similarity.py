"""Plots of the similarity matrix: lengths, temperature, the gap between images and texts, hubs."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from torch import Tensor

from ...losses import clip_loss
from ..setup import PALETTE
from .base import axes_grid, new_figure, show_image


def arrows(panels: dict[str, tuple[Tensor, Tensor]], title: str = "") -> Figure:
    """For each panel image and text vectors (n, 2) as numbered arrows from the origin, and the unit circle."""
    figure = new_figure(4.2 * len(panels), 3.0)
    for axis, (name, kinds) in zip(axes_grid(figure, 1, len(panels))[0], panels.items()):
        reach = 1.4 * max(vectors.norm(dim=1).max().item() for vectors in kinds)
        axis.add_patch(Circle((0, 0), 1, fill=False, color="#999999", linestyle="--"))
        for vectors, kind, color, width in zip(kinds, ("image", "text"), (PALETTE[0], PALETTE[5]), (4, 1.8)):
            style = {"arrowstyle": "-|>", "color": color, "linewidth": width, "shrinkA": 0, "shrinkB": 0}
            for i, vector in enumerate(vectors):
                axis.annotate("", vector.tolist(), (0, 0), arrowprops=style)
                x, y = (vector / vector.norm()).tolist()
                # an upright arrow has its label on the left for images, on the right for texts
                side = x if abs(x) > 0.1 else {"image": -0.5, "text": 0.5}[kind]
                place = {"xytext": (10 * side, 12 * y), "textcoords": "offset points", "va": "center"}
                axis.annotate(f"{kind} {i}", vector.tolist(), color=color, ha="left" if side > 0 else "right", **place)
        axis.set(xlim=(-1.15 * reach, 1.15 * reach), ylim=(-0.2 * reach, 0.95 * reach), aspect="equal")
        axis.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def temperature(matrix: Tensor, scale: float, images: np.ndarray, *, title: str = "") -> Figure:
    """Cosines (n, n), images as rows, and at one `scale` the softmax of each row, the gradient and the loss.

    The gradient is that of `clip_loss` with respect to each cosine; if it is negative, a step pulls the pair together.
    """
    n, eye = len(matrix), torch.eye(len(matrix))
    cosines = matrix.detach().clone().requires_grad_()
    clip_loss(cosines, eye, scale).backward()  # the dot products with the rows of eye are the cosines themselves
    figure = new_figure(11.5, 2.9)
    strip, *squares, curve = axes_grid(figure, 1, 5, width_ratios=[1 / n, 1, 1, 1, 1.1])[0]
    show_image(strip, np.concatenate(list(images), axis=1))
    reach = max(cosines.grad.abs().max().item(), 0.05)  # so that tiny gradients stay pale
    kinds = [
        ("cosines", cosines.detach(), "cividis", (-1, 1)),
        ("softmax of each row", (scale * matrix.detach()).softmax(dim=1), "cividis", (0, 1)),
        ("gradient: blue pulls, red pushes", cosines.grad, "RdBu_r", (-reach, reach)),
    ]
    for axis, (name, values, cmap, (low, high)) in zip(squares, kinds):
        values = values.numpy()
        axis.imshow(values, cmap=cmap, vmin=low, vmax=high)
        axis.set_title(name, fontsize=9)
        axis.set_xticks(range(n), range(n), fontsize=8)
        axis.set_yticks([])
        axis.set_xlabel("caption", fontsize=8)
        for (row, column), value in np.ndenumerate(values):
            place = (value - low) / (high - low)
            white = abs(2 * place - 1) > 0.7 if cmap == "RdBu_r" else place < 0.5
            style = {"ha": "center", "va": "center", "fontsize": 8, "color": "white" if white else "black"}
            axis.text(column, row, f"{value:.2f}".replace("-0.00", "0.00"), **style)
    scales = np.geomspace(0.1, 1000, 60)
    curve.plot(scales, [clip_loss(matrix.detach(), eye, float(s)).item() for s in scales])
    curve.plot([scale], [clip_loss(matrix.detach(), eye, scale).item()], "o", color=PALETTE[5], markersize=8)
    curve.axhline(np.log(n), color="black", linestyle="--", linewidth=1)
    curve.text(1000, np.log(n), f"ln {n}", ha="right", va="bottom", fontsize=8)
    curve.axvline(100, color="#999999", linestyle=":")
    curve.set(xscale="log", ylim=(0, 1.6 * np.log(n)))
    curve.set_xlabel("scale (dotted: 100)", fontsize=8)
    curve.set_title("loss", fontsize=9)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def gradient_norms(scales: Sequence[float], norms: Tensor | np.ndarray, title: str = "") -> Figure:
    """Gradient norms (scales, n) of n images by scale: median, maximum, and the middle 50 and 90 percent."""
    norms = np.maximum(np.asarray(norms), 1e-6)  # an axis of powers of ten has no 0
    figure = new_figure(6.8, 3.4)
    axis = axes_grid(figure)[0, 0]
    for middle, color in ((90, "#d5e7f3"), (50, "#9cc7e3")):
        low, high = np.percentile(norms, [50 - middle / 2, 50 + middle / 2], axis=1)
        axis.fill_between(scales, low, high, color=color, label=f"{middle} % of the images", linewidth=0)
    axis.plot(scales, np.median(norms, axis=1), color=PALETTE[0], linewidth=2, label="median")
    axis.plot(scales, norms.max(axis=1), color=PALETTE[5], linestyle="--", linewidth=2, label="largest")
    axis.axvline(100, color="black", linestyle=":")
    axis.text(105, 2e-6, "100", fontsize=9)
    axis.set(xscale="log", yscale="log", ylim=(1e-6, None), xlabel="scale", ylabel="gradient norm")
    axis.set_title(title)
    figure.legend(loc="outside right center", fontsize=9)
    return figure


def cosine_histograms(panels: dict[str, dict[str, Tensor]], title: str = "") -> Figure:
    """For each panel, histograms of several kinds of cosines, with their means in the legend."""
    figure = new_figure(3.9 * len(panels), 3.3)
    axes = axes_grid(figure, 1, len(panels), sharex=True)[0]
    for axis, (name, kinds) in zip(axes, panels.items()):
        for i, (kind, cosines) in enumerate(kinds.items()):
            style = {"color": PALETTE[(0, 1, 6, 2)[i % 4]], "linestyle": ["-", "--", ":", "-"][i % 4], "linewidth": 2}
            counts, edges = np.histogram(np.asarray(cosines), bins=np.linspace(-1, 1.0001, 67), density=True)
            axis.stairs(counts / counts.max(), edges, label=f"{kind}: {float(cosines.mean()):.2f}", **style)
        axis.set(xlim=(-1.02, 1.02), ylim=(0, 1.75), yticks=[], xlabel="cosine")
        axis.set_title(name, fontsize=9)
        axis.legend(loc="upper left", fontsize=8, title="means", title_fontsize=8, alignment="left")
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def two_clouds(panels: dict[str, tuple[Tensor, Tensor]], title: str = "") -> Figure:
    """For each panel, unit vectors (n, D) of images and (m, D) of texts as points.

    The x axis is the line through their two means, the y axis the perpendicular direction of the largest variance.
    """
    figure = new_figure(3.4 * len(panels), 3.4)
    for axis, (name, clouds) in zip(axes_grid(figure, 1, len(panels), sharex=True, sharey=True)[0], panels.items()):
        line = torch.nn.functional.normalize(clouds[0].mean(dim=0) - clouds[1].mean(dim=0), dim=0)
        both = torch.cat(clouds)
        rest = both - both.mean(dim=0)
        rest = rest - (rest @ line)[:, None] * line
        up = torch.linalg.eigh(rest.T @ rest).eigenvectors[:, -1]
        up = up * torch.sign(up[up.abs().argmax()])  # an eigenvector's sign is arbitrary: fix it
        for vectors, kind, color, marker in zip(clouds, ("images", "texts"), (PALETTE[0], PALETTE[1]), "o^"):
            x, y = (vectors @ line).numpy(), (vectors @ up).numpy()
            axis.scatter(x, y, s=7, color=color, marker=marker, alpha=0.5, label=kind)
            axis.plot(x.mean(), y.mean(), "x", color="black", markersize=9, zorder=3)
        axis.set(xlim=(-1.05, 1.05), ylim=(-1.05, 1.05), aspect="equal", xlabel="mean text → mean image")
        axis.set_title(name, fontsize=9)
    axis.legend(loc="upper left", fontsize=8)
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    return figure


def occurrences(counts: dict[str, Tensor], title: str = "") -> Figure:
    """For each name, how often each of its m captions was chosen (m,), sorted, on a logarithmic axis."""
    figure = new_figure(6.8, 3.3)
    axis = axes_grid(figure)[0, 0]
    for i, (name, values) in enumerate(counts.items()):
        ordered = values.sort().values.numpy()
        axis.plot(np.linspace(0, 100, len(ordered)), ordered, ["-", "--", ":"][i % 3], linewidth=2.5, label=name)
    axis.set_yscale("symlog", linthresh=1)
    axis.set_yticks([0, 1, 10, 100, 1000], ["never", "1", "10", "100", "1000"])
    axis.set(xlabel="captions, from least to most chosen, %", ylabel="number of lists", title=title)
    axis.set_ylim(-0.15, 1500)
    axis.legend(loc="upper left", fontsize=9)
    return figure

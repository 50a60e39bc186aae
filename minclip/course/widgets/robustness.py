"""The widget of notebook 12: interpolates the heads of two classifiers, and counts gained and lost answers."""

from collections.abc import Mapping, Sequence

import ipywidgets
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ...evaluate import probe
from .. import plots
from .playgrounds import redrawn

Sets = Mapping[str, tuple[Tensor, Tensor]]


def mixture_figure(heads: tuple[Tensor, Tensor], sets: Sets, *, alphas: Sequence[float]) -> Figure:
    """Cards side by side, one for each of `alphas` (0 to 1): accuracy, gained and lost answers on each of `sets`.

    A set is features (N, D) float and labels (N,) int64.  `heads` are the weights (D + 1, C), bias last, of the
    zero-shot and of the adapted classifier on these features; alpha is the weight of the adapted one.
    """
    cards = []
    for alpha in alphas:
        card: dict[str, object] = {"alpha": alpha}
        for name, (x, y) in sets.items():
            before, after = (
                probe.predict(x, torch.lerp(*heads, weight)).argmax(dim=1) == y for weight in (0.0, float(alpha))
            )
            gained, lost = (1000 * rows.float().mean().item() for rows in (after & ~before, before & ~after))
            card[name] = (after.float().mean().item(), gained, lost)
        cards.append(card)
    return plots.mixture_cards(cards, "Accuracy, and answers gained and lost of 1,000, against zero-shot (α = 0)")


def mixture_slider(heads: tuple[Tensor, Tensor], sets: Sets, *, alpha: float = 0.5) -> ipywidgets.VBox:
    """A slider for alpha above `mixture_figure` of the same `heads` and `sets`."""
    return redrawn(
        lambda alpha: mixture_figure(heads, sets, alphas=(alpha,)),
        alpha=ipywidgets.FloatSlider(value=alpha, min=0, max=1, step=0.05, description="alpha"),
    )

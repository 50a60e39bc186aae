"""The widget of notebook 12: two classifiers' heads, mixed, and what each mixture gains and loses."""

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
    """Accuracy on each of `sets`, features (N, D) and labels (N,), for each of `alphas`, as cards side by side.

    `heads` are the weights (D + 1, C) of the zero-shot and of the adapted classifier on these features.
    """
    cards = []
    for alpha in alphas:
        card: dict[str, object] = {"alpha": alpha}
        for name, (x, y) in sets.items():
            before, after = (
                probe.predict(x, torch.lerp(*heads, share)).argmax(dim=1) == y for share in (0.0, float(alpha))
            )
            gained, lost = (1000 * rows.float().mean().item() for rows in (after & ~before, before & ~after))
            card[name] = (after.float().mean().item(), gained, lost)
        cards.append(card)
    return plots.mixture_cards(cards, "Accuracy, and answers gained and lost of 1,000, against zero-shot (α = 0)")


def mixture_slider(heads: tuple[Tensor, Tensor], sets: Sets, *, alpha: float = 0.5) -> ipywidgets.VBox:
    """Choose alpha, and see what the mixture gains and loses on each test set."""
    return redrawn(
        lambda alpha: mixture_figure(heads, sets, alphas=(alpha,)),
        alpha=ipywidgets.FloatSlider(value=alpha, min=0, max=1, step=0.05, description="alpha"),
    )

"""The second widget of notebook 13: draws a face with chosen traits, and finds its nearest description."""

from collections.abc import Callable, Sequence

import ipywidgets
import numpy as np
import torch
from matplotlib.figure import Figure

from .. import plots, portraits
from .playgrounds import redrawn

Scores = Callable[[np.ndarray, Sequence[str]], torch.Tensor]
TEXTS = tuple(
    f"a person with {hair} {color} hair{extra}"
    for hair in portraits.TRAITS["hair"]
    for color in portraits.TRAITS["color"]
    for extra in ("", " and glasses", " and a beard", " and a hat", ", a beard and glasses", ", a beard and a hat")
)


def portrait_figure(scores: Scores, texts: Sequence[str] = TEXTS, **chosen: object) -> Figure:
    """The face with the `chosen` traits (names and values of `portraits.TRAITS`) and its nearest `texts`.

    `scores(images, texts)` gives cosines (n, texts) for images (n, 3, 64, 64) uint8.  The other traits have their
    first value.  Raises ValueError for a value that a trait doesn't have.
    """
    row = [options.index(chosen.get(trait, options[0])) for trait, options in portraits.TRAITS.items()]
    images = portraits.pictures(np.array([row]), seed=0)
    cosines = scores(images, texts)[0].tolist()
    best = texts[int(np.argmax(cosines))]
    return plots.face_and_texts(images[0], texts, cosines, title=f"nearest of {len(texts)}: “{best}”")


def portrait_playground(scores: Scores, texts: Sequence[str] = TEXTS) -> ipywidgets.VBox:
    """Controls for seven traits above `portrait_figure` of the same arguments."""
    menus = {t: ipywidgets.Dropdown(options=portraits.TRAITS[t], description=t) for t in ("head", "hair", "color")}
    menus["mood"] = ipywidgets.Dropdown(
        options=[("neutral", ""), *((mood, mood) for mood in portraits.TRAITS["mood"][1:])],
        value="",
        description="mood",
    )
    boxes = {t: ipywidgets.Checkbox(description=t) for t in ("beard", "glasses", "hat")}

    def draw(**chosen: object) -> Figure:
        worn = {trait: portraits.TRAITS[trait][bool(chosen[trait])] for trait in boxes}
        return portrait_figure(scores, texts, **{**chosen, **worn})

    return redrawn(draw, **menus, **boxes)

"""The widget of notebook 16: writes a word on an image, and shows the probabilities before and after."""

from collections.abc import Sequence
from typing import Any

import ipywidgets
import torch
from matplotlib.figure import Figure

from ...config import MinclipError
from ...evaluate import Loaded, zero_shot_classifier
from .. import plots
from ..real import with_sign
from .playgrounds import redrawn


@torch.no_grad()
def sign_probabilities(
    loaded: Loaded, pictures: Sequence[Any], labels: Sequence[str], *, template: str
) -> torch.Tensor:
    """Probabilities (N, C) on the CPU, of C labels in `template` for N PIL images, at the model's logit scale."""
    model, preprocess, tokenizer = loaded
    classifier = zero_shot_classifier(model, tokenizer, labels, templates=(template,))
    x = torch.stack([preprocess(picture) for picture in pictures]).to(model.device)
    return (model.logit_scale.exp() * model.encode_image(x, normalize=True) @ classifier).softmax(dim=1).cpu()


def sign_figure(
    loaded: Loaded, picture: Any, labels: Sequence[str], *, word: str, height: float, letters: str, template: str
) -> Figure:
    """A PIL image without and with the word, each beside the labels' probabilities.

    `height` and `letters` as in `with_sign`; a `template` without {} gets one at its end.  If a letter is missing,
    nothing is written, and the message of the error stands above the second image.
    """
    template = template if "{}" in template else template + " {}"
    sign = f"{word}, {letters}, {100 * height:.0f} % of the height"
    try:
        written = with_sign(picture, word, height=height, letters=letters)
    except MinclipError as error:  # a letter that the shapes world doesn't have
        written, sign = picture, str(error)
    pictures = [picture, written]
    values = sign_probabilities(loaded, pictures, labels, template=template)
    before, after = (labels[i] for i in values.argmax(dim=1).tolist())
    title = f"{before} → {after}" if before != after else f"the answer stays: {before}"
    return plots.signs(pictures, ["nothing written", sign], labels, values=values.numpy(), title=title)


def sign_playground(
    loaded: Loaded, picture: Any, labels: Sequence[str], *, word: str, template: str = "a {}", letters: str = "painted"
) -> ipywidgets.VBox:
    """Controls for the word, its height, the letters and the prompt above `sign_figure`."""
    wide = ipywidgets.Layout(width="95%")
    return redrawn(
        lambda word, height, letters, template: sign_figure(
            loaded, picture, labels, word=word, height=height, letters=letters, template=template
        ),
        word=ipywidgets.Text(word, description="word", continuous_update=False),
        height=ipywidgets.FloatSlider(0.22, min=0.06, max=0.4, step=0.02, description="size"),
        letters=ipywidgets.Dropdown(options=["painted", "printed"], value=letters, description="letters"),
        template=ipywidgets.Text(template, description="prompt", layout=wide, continuous_update=False),
    )

"""Captions, labels, file names and what a reader types are drawn whatever they hold, and never read as mathematics."""

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from minclip.course import plots

# a broken formula, an escape sequence that clears a terminal, a byte of a file name that is no UTF-8, a null character
HOSTILE = "$x^$ \x1b[2J \udce9 \x00"
IMAGE = np.zeros((3, 8, 8), dtype=np.uint8)
PICTURE = Image.new("RGB", (8, 8))
FIGURES = {
    "boxes": lambda text: plots.boxes([(text, [(text, text, "#ffffff")])], text),
    "classified": lambda text: plots.classified(
        [PICTURE], [text], [{text: 0.5}], probabilities=[{text: 1.0}], below=0.2
    ),
    "confusion": lambda text: plots.confusion([[1]], [text], [text], title=text, xlabel=text),
    "contact_sheet": lambda text: plots.contact_sheet([PICTURE], [text], [0.5], title=text),
    "image_grid": lambda text: plots.image_grid(IMAGE[None], [text], title=text),
    "lengths_and_words": lambda text: plots.lengths_and_words([1, 2], [(text, 3), ("a", 2)], text),
    "lines": lambda text: plots.lines([1, 2], {text: [1, 2]}, text, xlabel=text),
    "looked_at": lambda text: plots.looked_at(IMAGE[None], torch.ones(1, 2, 2), [text], title=text),
    "moved_cosines": lambda text: plots.moved_cosines([text], [0.1], [0.2], names=(text, text), title=text),
    "probabilities": lambda text: plots.probabilities(IMAGE, [text, "a"], [0.4, 0.6], title=text),
    "prompt_table": lambda text: plots.prompt_table(IMAGE, [text], [text], values=[[1.0]], title=text),
    "retrieved": lambda text: plots.retrieved([text], [[IMAGE]], text),
    "row_dots": lambda text: plots.row_dots([text], {text: [0.1]}, text),
    "similarity_matrix": lambda text: plots.similarity_matrix(
        torch.eye(2), np.stack([IMAGE] * 2), [text, "a"], title=text
    ),
    "token_attention": lambda text: plots.token_attention(np.eye(2)[None], [text, "a"], [text], title=text),
    "with_texts": lambda text: plots.with_texts(IMAGE[None], [[text]], text),
}


@pytest.mark.parametrize("name", FIGURES)
def test_any_text_is_drawn(name):
    figure = FIGURES[name](HOSTILE)
    assert plots.png(figure).startswith(b"\x89PNG")
    drawn = "".join("".join(text.get_text().split()) for text in figure.findobj(Text))  # however it was wrapped
    assert r"$x^$\x1b[2J\udce9" in drawn and "\x1b" not in drawn and "\udce9" not in drawn


def test_powers_of_ten_beside_an_axis_are_still_mathematics():
    figure = plots.gradient_norms([1, 10, 100], np.array([[0.1, 0.2], [0.3, 0.4], [1e-5, 2.0]]), "$")
    plots.png(figure)
    labels = [label for label in figure.axes[0].get_yticklabels() if "10^{" in label.get_text()]
    assert labels and all(label.get_parse_math() for label in labels)

"""The widget of notebook 15: what a batch needs in memory on each GPU, and what the remedies save."""

import ipywidgets
from matplotlib.figure import Figure

from .. import plots
from .playgrounds import redrawn

# ViT-B/32 with its text tower, as measured in notebook 15: bytes a pair keeps for the backward pass (fp32, texts of 77
# tokens), those of the inputs of the 24 blocks alone, those of one block, and the number of parameters
PAIR, INPUTS, PARAMETERS, WIDTH = 56_948_260, 3_735_552, 151_277_313, 512
ONE_BLOCK = PAIR / 24
WAYS = ("as it is", "16 bits", "16 bits, checkpoints", "cached, 256 pairs at a time")


def memory_pieces(batch: int, gpus: int, way: str) -> dict[str, float]:
    """Bytes on each of `gpus` GPUs for a batch of `batch` pairs, by kind; `way` is one of WAYS.

    The similarities are those of the GPU's own images with all texts, and their gradient, in fp32; "cached" computes
    two blocks of 128 rows at a time instead.  Adam keeps two numbers beside each weight and its gradient, all fp32.
    """
    own = batch / gpus
    pairs = {
        "as it is": own * PAIR,
        "16 bits": own * PAIR / 2,
        "16 bits, checkpoints": own * (INPUTS + ONE_BLOCK) / 2,  # the inputs of all blocks, and one block in full
        "cached, 256 pairs at a time": min(own, 256) * PAIR,
    }[way]
    rows = min(own, 128) if way.startswith("cached") else own
    return {
        "activations": pairs,
        "similarities": 2 * 4 * rows * batch,
        "vectors of all pairs": 2 * 2 * 4 * batch * WIDTH,  # images and texts, and their gradients
        "weights and Adam": 4 * 4 * PARAMETERS,
    }


def memory_name(batch: int, gpus: int, way: str) -> str:
    """A setting in words: "32,768 on 1 GPU, as it is"."""
    return f"{batch:,} pairs on {gpus:,} GPU{'s' * (gpus > 1)},\n{way}"


def memory_figure(*settings: tuple[int, int, str], title: str = "") -> Figure:
    """A panel for each (batch, gpus, way): the pieces of memory that each GPU needs; `title` names the largest."""
    found = {memory_name(*one): memory_pieces(*one) for one in settings}
    largest = {max(pieces, key=lambda name: pieces[name]) for pieces in found.values()}
    says = f"On each GPU, most memory goes to: {', '.join(sorted(largest))}"
    return plots.memory_panels(found, title or says)


def memory_playground() -> ipywidgets.VBox:
    """Choose the batch, the number of GPUs and a remedy; the picture shows the memory that each GPU needs."""
    return redrawn(
        lambda batch, gpus, way: memory_figure((batch, gpus, way)),
        batch=ipywidgets.SelectionSlider(options=[2**k for k in range(8, 18)], value=32_768, description="batch"),
        gpus=ipywidgets.SelectionSlider(options=[2**k for k in range(10)], value=1, description="GPUs"),
        way=ipywidgets.Dropdown(options=WAYS, value=WAYS[0], description="remedy"),
    )

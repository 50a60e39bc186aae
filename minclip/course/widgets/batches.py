"""The second widget of notebook 15: the memory of a batch on each GPU, and the savings of three remedies."""

import ipywidgets
from matplotlib.figure import Figure

from .. import plots
from .playgrounds import redrawn

# ViT-B/32 with its text tower, as measured in notebook 15: bytes that a pair keeps for the backward pass (fp32, 77
# tokens of text), those of the inputs of the 24 blocks alone, the number of parameters, the dimension of the embeddings
PAIR, INPUTS, PARAMETERS, EMBED_DIM = 56_948_260, 3_735_552, 151_277_313, 512
ONE_BLOCK = PAIR / 24  # the average of the blocks of both towers
WAYS = ("as it is", "16 bits", "16 bits, checkpoints", "cached, 256 pairs at a time")


def memory_pieces(batch: int, gpus: int, way: str) -> dict[str, float]:
    """Bytes on each of `gpus` GPUs for a batch of `batch` pairs in all, by kind; `way` is one of WAYS, else KeyError.

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
        "vectors of all pairs": 2 * 2 * 4 * batch * EMBED_DIM,  # images and texts, and their gradients
        "weights and Adam": 4 * 4 * PARAMETERS,
    }


def memory_name(batch: int, gpus: int, way: str) -> str:
    """A setting in two lines: "32,768 pairs on 1 GPU,\\nas it is"."""
    return f"{batch:,} pairs on {gpus:,} GPU{'s' * (gpus > 1)},\n{way}"


def memory_figure(*settings: tuple[int, int, str], title: str = "") -> Figure:
    """A panel for each (batch, gpus, way): memory by kind on each GPU; without a title, it names the largest kinds."""
    found = {memory_name(*one): memory_pieces(*one) for one in settings}
    largest = {max(pieces, key=lambda name: pieces[name]) for pieces in found.values()}
    says = f"On each GPU, most memory goes to: {', '.join(sorted(largest))}"
    return plots.memory_panels(found, title or says)


def memory_playground() -> ipywidgets.VBox:
    """Controls for the batch, the number of GPUs and the remedy above `memory_figure`."""
    return redrawn(
        lambda batch, gpus, way: memory_figure((batch, gpus, way)),
        batch=ipywidgets.SelectionSlider(options=[2**k for k in range(8, 18)], value=32_768, description="batch"),
        gpus=ipywidgets.SelectionSlider(options=[2**k for k in range(10)], value=1, description="GPUs"),
        way=ipywidgets.Dropdown(options=WAYS, value=WAYS[0], description="remedy"),
    )

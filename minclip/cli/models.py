"""What the commands that use a model share: how it is named and opened, and where a picture is saved."""

from pathlib import Path
from typing import Annotated

import tyro
from matplotlib.figure import Figure

from ..config import MinclipError
from ..course import plots
from ..model import CLIP
from ..preprocess import Preprocess
from ..tokenizer import Tokenizer
from ..training.engine import pick_device
from ..weights.folder import look_up
from ..weights.hub import data_folder
from ..weights.load import load
from .printing import console

RunArgument = Annotated[
    tyro.conf.Positional[str],
    tyro.conf.arg(metavar="RUN", help="a run's folder, its name under runs/, or a model such as demo or ViT-B/32"),
]
Download = tyro.conf.FlagCreatePairsOff[
    Annotated[bool, tyro.conf.arg(help="let torchvision download missing data sets")]
]


def open_model(run: str) -> tuple[CLIP, Preprocess, Tokenizer]:
    """`load` on the best device, with a tokenizer; a MinclipError if the model has none."""
    model, preprocess, tokenizer = load(run, pick_device("auto", "fp32")[0])
    if tokenizer is None:
        raise MinclipError(f"{run} has no tokenizer.json, so it can't read text")
    return model, preprocess, tokenizer


def save_picture(figure: Figure, name: str, out: str, *, run: str = "") -> str:
    """Writes a figure to the folder `out`, which is made; by default to the user's own `run`, else to this folder."""
    folder = look_up(run) if run else None
    own = folder is not None and folder.is_dir() and data_folder().resolve() not in folder.resolve().parents
    path = Path(out or (folder if own else "."), name)
    path.parent.mkdir(parents=True, exist_ok=True)
    plots.save(figure, path)
    console.print(f"saved: {path}")
    return str(path)

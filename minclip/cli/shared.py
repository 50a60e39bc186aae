"""Shared by the commands: the console, option names in errors, tables, opening a model, saving a picture."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..config import TrainConfig, need
from ..evaluate import Loaded
from ..training.engine import pick_device
from ..training.run import leaves
from ..weights.config_json import read_fields, to_dict
from ..weights.folder import look_up
from ..weights.hub import data_folder
from ..weights.load import load
from . import shown

RunArgument = Annotated[
    tyro.conf.Positional[str],
    tyro.conf.arg(metavar="RUN", help="a run's folder, its name under runs/, or a model such as demo or ViT-B/32"),
]
Download = tyro.conf.FlagCreatePairsOff[Annotated[bool, tyro.conf.arg(help="let torchvision download missing data")]]
FIELD = re.compile(r"(?<![\w./\\-])(?:data|train|model)\.\w+(?:\.\w+)?")


class Terminal(Console):
    """A console that prints every string as plain text: no markup, no emoji codes, no control characters."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **{**options, "markup": False, "emoji": False})


console = Terminal(highlight=False, soft_wrap=True)


def as_options(message: str) -> str:
    """Replaces config fields in a message by their options: `data.image_size` -> `--data.image-size`."""
    known = leaves(to_dict(TrainConfig()))
    return FIELD.sub(lambda m: f"--{m[0].replace('_', '-')}" if m[0] in known else m[0], message)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[Any]], *, title: str | None = None) -> None:
    table = Table(*columns, title=title, title_justify="left", box=None)
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)


def find_run(name: str) -> Path | None:
    """The folder that `name` means, if it holds a run: a model alone has no config of its training data."""
    folder = look_up(name)
    return folder if folder and "data" in read_fields(folder / "config.json") else None


def open_model(run: str, *, reads_text: bool = True) -> Loaded:
    """`load` on the best device; a MinclipError if the model has no tokenizer but needs one."""
    loaded = load(run, pick_device("auto", "fp32")[0])
    need(loaded[2] is not None or not reads_text, f"{run} has no tokenizer.json like CLIP's, so it can't read text")
    return loaded


def save_picture(figure: Any, name: str, out: str, *, run: str = "") -> str:
    """Saves a figure in the folder `out`, by default in the user's own `run` or the current one; returns its path."""
    from ..course import plots  # imports matplotlib, which takes long, and neither errors nor `minclip info` need it

    folder = look_up(run) if run else None
    own = folder is not None and folder.is_dir() and data_folder().resolve() not in folder.resolve().parents
    path = Path(out or (folder if own else "."), name)
    path.parent.mkdir(parents=True, exist_ok=True)
    plots.save(figure, path)
    console.print(f"saved: {path}")
    return str(path)

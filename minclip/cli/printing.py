"""What the commands share: safe text on any terminal, tables of figures, pictures, and options that several of them take."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..config import MinclipError, TrainConfig, data_folder
from ..course import plots
from ..model import CLIP
from ..preprocess import Preprocess
from ..tokenizer import Tokenizer
from ..training.engine import pick_device
from ..weights.folder import look_up
from ..weights.load import load

RunArgument = Annotated[
    tyro.conf.Positional[str],
    tyro.conf.arg(metavar="RUN", help="a run's folder, its name under runs/, or a model such as demo or ViT-B/32"),
]
Json = tyro.conf.FlagCreatePairsOff[Annotated[bool, tyro.conf.arg(help="print one JSON object as the last line")]]
Download = tyro.conf.FlagCreatePairsOff[
    Annotated[bool, tyro.conf.arg(help="let torchvision download the data sets that are missing")]
]
# control characters, which can move the cursor; marks that reverse the text; bytes of a file name that isn't UTF-8
UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
FIELD = re.compile(r"(?<![\w./\\-])(?:data|train|model)\.\w+(?:\.\w+)?")


def shown(text: object) -> str:
    """Text that others wrote (labels, file names), safe for a terminal or a picture: what can't be seen is escaped."""
    return UNSAFE.sub(lambda found: repr(found[0])[1:-1], str(text))


class Terminal(Console):
    """A console that takes every string as plain text: no markup, no emoji codes, no control characters."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(shown(text), **{**options, "markup": False, "emoji": False})


console = Terminal(highlight=False, soft_wrap=True)


def option_names(config: type = TrainConfig, prefix: str = "") -> set[str]:
    """Every field of a config, as Python spells it: `{"data.root", "model.vision.width", …}`."""
    names = {prefix + field.name for field in fields(config) if not is_dataclass(field.type)}
    return names.union(*(option_names(f.type, f"{prefix}{f.name}.") for f in fields(config) if is_dataclass(f.type)))


def as_options(message: str) -> str:
    """The library's errors name fields as Python spells them; this spells them as options: `data.image_size` -> `--data.image-size`."""
    names = option_names()
    return FIELD.sub(lambda m: "--" + m[0].replace("_", "-") if m[0] in names else m[0], message)


def open_model(run: str) -> tuple[CLIP, Preprocess, Tokenizer]:
    """`load` on the best device, with a tokenizer; a MinclipError if the model has none."""
    model, preprocess, tokenizer = load(run, pick_device("auto", "fp32")[0])
    if tokenizer is None:
        raise MinclipError(f"{run} has no tokenizer.json, so it can't read text")
    return model, preprocess, tokenizer


def save_picture(figure: Figure, name: str, out: str, run: str = "") -> str:
    """Writes a figure to the folder `out`, which is made; by default to the run's folder if it is the user's own, else here."""
    folder = look_up(run) if run else None
    own = folder is not None and folder.is_dir() and data_folder().resolve() not in folder.resolve().parents
    path = Path(out or (folder if own else "."), name)
    path.parent.mkdir(parents=True, exist_ok=True)
    plots.save(figure, path)
    console.print(f"saved: {path}")
    return str(path)


def print_figures(figures: dict[str, dict[str, float]]) -> None:
    """Prints the retrieval and the zero-shot table, a column for each split."""
    table = Table("", *figures, title="retrieval, counting all captions", title_justify="left", box=None)
    for way in ("text_to_image", "image_to_text"):
        rows = {f"{way}_r@{k}": f"recall@{k}" for k in (1, 5, 10)} | {f"{way}_median_rank": "median rank"}
        for key, metric in rows.items():  # the figures of an older run have no median rank
            form = "{:g}" if metric == "median rank" else "{:.1%}"
            cells = [form.format(of_split[key]) if key in of_split else "" for of_split in figures.values()]
            table.add_row(f"{way.replace('_', '-')} {metric}", *cells)
    console.print(table)
    chances = {k.removeprefix("chance/"): v for f in figures.values() for k, v in f.items() if "chance/" in k}
    if chances:
        table = Table("", "chance", *figures, title="\nzero-shot accuracy", title_justify="left", box=None)
        for task, chance in chances.items():
            cells = [f"{f[f'zero_shot/{task}']:.1%}" if f"chance/{task}" in f else "" for f in figures.values()]
            table.add_row(task, f"{chance:.1%}", *cells)
        console.print(table)

"""What the commands print: plain text on any terminal, errors in the command line's spelling, tables of figures."""

import re
from dataclasses import fields, is_dataclass
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..config import TrainConfig
from . import shown

Json = tyro.conf.FlagCreatePairsOff[Annotated[bool, tyro.conf.arg(help="print one JSON object as the last line")]]
FIELD = re.compile(r"(?<![\w./\\-])(?:data|train|model)\.\w+(?:\.\w+)?")


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

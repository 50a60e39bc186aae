"""What the commands print: plain text on any terminal, errors in the command line's spelling, tables of figures."""

import re
from collections.abc import Iterable
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
    """Spells the config's fields in a message as options: `data.image_size` -> `--data.image-size`."""
    names = option_names()
    return FIELD.sub(lambda m: "--" + m[0].replace("_", "-") if m[0] in names else m[0], message)


def print_table(columns: Iterable[str], rows: Iterable[Iterable[str]], *, title: str | None = None) -> None:
    table = Table(*columns, title=title, title_justify="left", box=None)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_figures(figures: dict[str, dict[str, float]]) -> None:
    """Prints the retrieval and the zero-shot table, a column for each split; what an older run lacks stays empty."""

    def row(name: str, key: str, *before: str) -> list[str]:
        form = "{:g}" if "rank" in key else "{:.1%}"
        return [name, *before, *(form.format(f[key]) if key in f else "" for f in figures.values())]

    names = {"r@1": "recall@1", "r@5": "recall@5", "r@10": "recall@10", "median_rank": "median rank"}
    ways = ("text_to_image", "image_to_text")
    rows = [row(f"{way.replace('_', '-')} {name}", f"{way}_{key}") for way in ways for key, name in names.items()]
    print_table(("", *figures), rows, title="retrieval, counting all captions")
    chances = {k.removeprefix("chance/"): v for f in figures.values() for k, v in f.items() if "chance/" in k}
    if rows := [row(task, f"zero_shot/{task}", f"{chance:.1%}") for task, chance in chances.items()]:
        print_table(("", "chance", *figures), rows, title="\nzero-shot accuracy")

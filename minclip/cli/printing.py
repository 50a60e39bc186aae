"""What several commands print: figures as tables; how they take --json and --download; and where they put a picture."""

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from ..config import data_folder
from ..weights.folder import look_up

console = Console(highlight=False, soft_wrap=True)
Json = tyro.conf.FlagCreatePairsOff[Annotated[bool, tyro.conf.arg(help="print one JSON object as the last line")]]
Download = tyro.conf.FlagCreatePairsOff[
    Annotated[bool, tyro.conf.arg(help="let torchvision fetch the data sets that are missing")]
]


def picture_path(run: str, out: str, name: str) -> Path:
    """`name` in the folder `out`, which is made; else in the run's folder, but not among what is shipped or downloaded; else here."""
    folder = look_up(run)
    own = folder is not None and folder.is_dir() and data_folder().resolve() not in folder.resolve().parents
    path = Path(out or (folder if own else "."), name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def print_figures(figures: dict[str, dict[str, float]]) -> None:
    """Retrieval and zero-shot tables, a column a split."""
    table = Table("", *figures, title="retrieval, all captions count", title_justify="left", box=None)
    for way in ("text_to_image", "image_to_text"):
        for k in (1, 5, 10):
            row = [f"{of_split[f'{way}_r@{k}']:.1%}" for of_split in figures.values()]
            table.add_row(f"{way.replace('_to_', '→')} recall@{k}", *row)
        name = f"{way}_median_rank"  # an older run's figures have none
        row = [f"{of_split[name]:g}" if name in of_split else "" for of_split in figures.values()]
        table.add_row(f"{way.replace('_to_', '→')} median rank", *row)
    console.print(table)
    chances = {
        key: value for of_split in figures.values() for key, value in of_split.items() if key.startswith("chance/")
    }
    if chances:
        table = Table("", "chance", *figures, title="\nzero-shot accuracy", title_justify="left", box=None)
        for key, chance in chances.items():
            task = key.removeprefix("chance/")
            row = [f"{f[f'zero_shot/{task}']:.1%}" if key in f else "" for f in figures.values()]
            table.add_row(task, f"{chance:.1%}", *row)
        console.print(table)

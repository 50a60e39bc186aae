"""minclip fetch: a data set from Kaggle."""

from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from ..data.kaggle import PAGE, SOURCES, fetch
from ..presets import PRESETS
from .printing import Json, console


@dataclass(frozen=True)
class Fetch:
    """Fetch a data set from Kaggle: flickr8k, flickr30k, or karpathy-splits, the official splits of both."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help=", ".join(SOURCES))]
    to: Annotated[str, tyro.conf.arg(help="the folder to make; NAME in the data folder by default")] = ""
    source: Annotated[
        str, tyro.conf.arg(help="another data set of Kaggle in its place, such as hsankesara/flickr-image-dataset")
    ] = ""
    json: Json = False

    def run(self) -> dict[str, Any]:
        try:
            made = fetch(self.name, to=self.to, source=self.source)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; what was downloaded is kept: run the same command again") from None
        console.print(f"{made['source']} {'is' if made['new'] else 'was there already'} in [bold]{made['folder']}[/]")
        if self.name in PRESETS:
            root = f" --data.root {made['folder']}" if self.to else ""
            console.print(f"try  minclip train {self.name}{root}  (licence and source: {PAGE}{made['source']})")
        return made

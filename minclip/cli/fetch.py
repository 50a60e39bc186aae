"""minclip fetch: a data set from Kaggle."""

import shlex
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from ..data.kaggle import PAGE, SOURCES, fetch
from ..presets import PRESETS
from .shared import console


@dataclass(frozen=True)
class Fetch:
    """Download a data set from Kaggle: flickr8k, flickr30k, or karpathy-splits, the official splits of both."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help=", ".join(SOURCES))]
    to: str = ""  # the folder to make; by default NAME in the data folder
    source: str = ""  # another data set on Kaggle instead, such as hsankesara/flickr-image-dataset

    def run(self) -> dict[str, Any]:
        try:
            made = fetch(self.name, to=self.to, source=self.source)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; what was downloaded is kept: run the same command again") from None
        console.print(f"{made['source']} {'is' if made['new'] else 'was already'} in {made['folder']}")
        if self.name in PRESETS:
            root = f" --data.root {shlex.quote(str(made['folder']))}" if self.to else ""
            console.print(f"try: minclip train {self.name}{root}    (license and source: {PAGE}{made['source']})")
        return made

"""minclip fetch downloads a data set from Kaggle; minclip info prints versions, device, presets and runs."""

import platform
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from .. import __version__
from ..data.kaggle import PAGE, SOURCES, fetch
from ..presets import PRESETS
from ..training.engine import pick_device
from ..weights.hub import data_folder
from .shared import console


@dataclass(frozen=True)
class Fetch:
    """Download a data set from Kaggle: flickr8k, flickr30k, or karpathy-splits, the official splits of both."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help=", ".join(SOURCES))]
    to: str = ""  # the folder to create; by default NAME in the data folder
    source: str = ""  # another Kaggle data set to use instead, such as hsankesara/flickr-image-dataset

    def run(self) -> dict[str, Any]:
        try:
            fetched = fetch(self.name, to=self.to, source=self.source)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; what was downloaded is kept: run the same command again") from None
        console.print(f"{fetched['source']} {'is' if fetched['new'] else 'was already'} in {fetched['folder']}")
        if self.name in PRESETS:
            root = f" --data.root {shlex.quote(str(fetched['folder']))}" if self.to else ""
            console.print(f"try: minclip train {self.name}{root}    (license and source: {PAGE}{fetched['source']})")
        return fetched


@dataclass(frozen=True)
class Info:
    """Print the version, the device, the presets, and the runs in this folder."""

    def run(self) -> dict[str, Any]:
        device, autocast = pick_device("auto", "auto")
        runs = [*Path("runs").glob("**/config.json"), *data_folder().glob("*/config.json")]
        facts = {"minclip": __version__, "python": platform.python_version(), "torch": torch.__version__}
        facts |= {
            "device": str(device),
            "precision": str(autocast or torch.float32).removeprefix("torch."),
            "threads": torch.get_num_threads(),
        }
        facts |= {"data": str(data_folder()), "presets": list(PRESETS), "runs": sorted(str(p.parent) for p in runs)}
        for name, value in facts.items():
            console.print(f"{name:10} {', '.join(value) if isinstance(value, list) else value}")
        return facts

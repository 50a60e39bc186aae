"""minclip fetch downloads a data set, export writes a model for other libraries, info prints versions and runs."""

import platform
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from .. import __version__
from ..config import need
from ..data.kaggle import PAGE, SOURCES, fetch
from ..presets import PRESETS
from ..training.engine import pick_device
from ..weights.folder import look_up
from ..weights.hub import data_folder
from ..weights.load import load, save
from .shared import RunArgument, console


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
class Export:
    """Write a model for other libraries: both towers as ONNX files, or a folder for OpenCLIP, transformers, minclip."""

    run_folder: RunArgument
    to: Literal["onnx", "open_clip", "transformers", "minclip"] = "onnx"  # the format to write
    out: str = ""  # the folder to create; by default RUN-FORMAT in the current folder

    def run(self) -> dict[str, Any]:
        name = (look_up(self.run_folder) or Path(self.run_folder.replace("/", "-"))).resolve().name
        out = Path(self.out or f"{name}-{self.to}").expanduser()
        need(not out.exists(), f"{out} exists: remove it, or choose another folder with --out")
        model, _, tokenizer = load(self.run_folder)
        save(out, model, tokenizer=tokenizer, format=self.to)
        sizes = {path.name: path.stat().st_size for path in sorted(out.iterdir())}
        console.print(f"{out}: {', '.join(f'{name} ({size:,} bytes)' for name, size in sizes.items())}")
        return {"folder": str(out), "files": sizes}


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

"""minclip info: versions, device, presets, runs."""

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..presets import PRESETS
from ..training.engine import pick_device
from ..weights.hub import data_folder
from .shared import console


@dataclass(frozen=True)
class Info:
    """Print the version, the device, the presets, and the runs in this folder."""

    def run(self) -> dict[str, Any]:
        device, bf16 = pick_device("auto", "auto")
        runs = [*Path("runs").glob("**/config.json"), *data_folder().glob("*/config.json")]
        facts = {"minclip": __version__, "python": platform.python_version(), "torch": torch.__version__}
        facts |= {"device": str(device), "precision": "bf16" if bf16 else "fp32", "threads": torch.get_num_threads()}
        facts |= {"data": str(data_folder()), "presets": list(PRESETS), "runs": sorted(str(p.parent) for p in runs)}
        for name, value in facts.items():
            console.print(f"{name:10} {', '.join(value) if isinstance(value, list) else value}")
        return facts

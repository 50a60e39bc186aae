"""A run's folder: what is in it, how it is saved so that nothing is lost, how it is opened again."""

import io
import json
import math
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import MinclipError, TrainConfig
from ..model import CLIP
from ..tokenizer import Tokenizer
from ..weights.config_json import FORMAT, from_dict, to_dict
from ..weights.folder import (
    atomic_write,
    find_folder,
    package_version,
    read_config,
    read_folder,
    write_folder,
    write_json,
    write_weights,
)
from .distributed import rank
from .ema import Average


@dataclass
class Run:
    """A finished or interrupted training: `runs/<name>/` with its config, tokenizer, model and metrics."""

    folder: Path
    config: TrainConfig
    tokenizer: Tokenizer
    model: CLIP
    metrics: list[dict[str, Any]]

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Opens a run by its folder or its name; a MinclipError tells what is missing or damaged."""
        folder = find_folder(folder)
        config = read_run_config(folder)
        model, tokenizer = read_folder(folder)
        if tokenizer is None:
            raise MinclipError(f"{folder} has no tokenizer.json")
        return cls(folder, config, tokenizer, model, read_metrics(folder))

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The logged steps; those that were skipped because something was not finite are left out."""
        return [line for line in self.metrics if None not in (line.get("loss"), line.get("grad_norm"))]

    @property
    def final(self) -> dict[str, dict[str, float]]:
        """Split -> figures at the end of the run; empty where it did not end."""
        return next((line["final"] for line in reversed(self.metrics) if "final" in line), {})

    def export(self, folder: str | Path) -> None:
        """Writes a copy to ship: weights in half precision, tokenizer, config and the final figures, without the state."""
        write_folder(folder, self.model, tokenizer=self.tokenizer, dtype=torch.float16)
        write_run_config(Path(folder), self.config)
        lines = [json.dumps(line) + "\n" for line in self.metrics]
        atomic_write(Path(folder) / "metrics.jsonl", "".join(lines).encode())


def start_run(folder: Path, config: TrainConfig, tokenizer: Tokenizer, names: list[str]) -> None:
    """Makes the folder of a new run, which must not hold one already; `names` of its photographs, if any, go to learnt.json."""
    if (folder / "config.json").exists():
        raise MinclipError(f"{folder} holds a run already: continue it with --resume, or choose another --name")
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / "tokenizer.json", tokenizer.to_json().encode())
    if names:
        write_json(folder / "learnt.json", names)
    write_run_config(folder, config)


def read_learnt(folder: Path) -> list[str]:
    """The names of the photographs that a run has learnt from; none where they were not written down."""
    path = folder / "learnt.json"
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    except ValueError as error:
        raise MinclipError(
            f"{path} is damaged ({error}): delete it, and nothing tells any more which photographs were learnt from"
        ) from None


def write_run_config(folder: Path, config: TrainConfig) -> None:
    write_json(folder / "config.json", {"format": FORMAT, "minclip": package_version(), **to_dict(config)})


def read_run_config(folder: Path) -> TrainConfig:
    values = {k: v for k, v in read_config(folder).items() if k not in ("format", "minclip")}
    return from_dict(TrainConfig, values, str(folder / "config.json"))


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average | None,
    progress: dict[str, float],
) -> None:
    """Writes `state.pt`, all that a resumed run needs in one file, and then `model.safetensors` for everybody else.

    The state holds the weights too: if the machine stops between the two files, they are of two steps, and resuming
    must not mix them.  `progress` is "step", "seconds" and "skipped".  Nothing in the state depends on the number of
    processes; all of them must call this, process 0 writes.
    """
    from torch.distributed.checkpoint import state_dict  # half a second, which only training needs

    options = state_dict.StateDictOptions(full_state_dict=True, cpu_offload=True)
    averages: dict[str, Tensor] = {}
    if average:
        with average.in_place():  # copies: in a moment the model has its own weights again
            averages = {name: x.clone() for name, x in state_dict.get_model_state_dict(model, options=options).items()}
    weights, of_optimizer = state_dict.get_state_dict(model, optimizer, options=options)
    if rank() == 0:
        state = {**progress, "model": weights, "optimizer": of_optimizer, "average": averages}
        buffer = io.BytesIO()  # torch.save tells a full disk as a RuntimeError; through bytes it is an OSError
        torch.save(state, buffer)
        atomic_write(folder / "state.pt", buffer.getbuffer())
        del buffer  # as large as four models
        write_weights(folder / "model.safetensors", averages or weights)


def load_checkpoint(
    folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None
) -> dict[str, float]:
    """Puts the state back and returns the progress it was saved with; zeros where nothing was saved yet."""
    path, names = folder / "state.pt", ("step", "seconds", "skipped")
    if not path.exists():
        return dict.fromkeys(names, 0)
    from torch.distributed.checkpoint import state_dict

    options = state_dict.StateDictOptions(full_state_dict=True, cpu_offload=True)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if average:
            state_dict.set_model_state_dict(model, state["average"] or state["model"], options=options)
            average.restart()
        parts = {"model_state_dict": state["model"], "optim_state_dict": state["optimizer"]}
        state_dict.set_state_dict(model, optimizer, **parts, options=options)
        return {name: state[name] for name in names}
    except (RuntimeError, EOFError, pickle.UnpicklingError, OSError, ValueError, TypeError, LookupError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise MinclipError(
            f"{path} is cut off or damaged ({reason:.100}): it can't be resumed; model.safetensors beside it holds the weights alone"
        ) from None


def write_metrics(folder: Path, line: dict[str, Any]) -> None:
    """Appends a line; a number that is not finite becomes null, since JSON knows none."""
    line = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that a crash cut off is dropped."""
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    out = []
    for number, line in enumerate(lines, 1):
        try:
            out.append(json.loads(line))
        except ValueError:
            if number < len(lines):
                raise MinclipError(f"{path} line {number} is damaged: {line:.60}") from None
    return out


def rewind(folder: Path, step: int) -> None:
    """Forgets what was logged after the checkpoint at `step`, and removes what a killed process left half-written."""
    for name in ("state.pt", "model.safetensors", "config.json", "tokenizer.json", "learnt.json", "metrics.jsonl"):
        for litter in folder.glob(f".{name}.*"):
            litter.unlink()
    lines = [json.dumps(line) + "\n" for line in read_metrics(folder) if line["step"] <= step and "final" not in line]
    atomic_write(folder / "metrics.jsonl", "".join(lines).encode())

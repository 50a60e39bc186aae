"""A run's folder: writes its files so that nothing is lost, reads and checks them, and resumes from them."""

import json
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from ..config import LoopConfig, MinclipError, TrainConfig, need
from ..model import CLIP
from ..tokenizer import Tokenizer
from ..weights import folder as folders
from ..weights.config_json import FORMAT, VERSION, from_dict, leaves, parse_json, read_fields, to_dict
from .distributed import all_gather_object

PROGRESS = {"step": int, "seconds": float, "skipped": int, "loss_scale": float, "since": int}  # none is below 0
CHANGEABLE = {  # config fields that may change when a run is resumed
    *("steps", "minutes", "log_every", "eval_every", "checkpoint_every", "tensorboard"),  # its length and its log
    *("root", "device", "precision", "on_gpu", "compile", "cuda_graph"),  # where it runs, and how fast
    *("parallel", "micro_batch", "loss_chunk", "grad_checkpointing"),  # how a step is divided
    *("lr", "grad_clip"),  # to rescue a run that has become unstable
}
FILLED_IN = ("vocab_size", "eot_id", "hf_config")  # config fields that the run itself set, from its tokenizer and tower


@dataclass
class Run:
    """A finished or interrupted training: the folder `runs/<name>/`, its config, tokenizer, model and metrics."""

    folder: Path
    config: TrainConfig
    tokenizer: Tokenizer
    model: CLIP
    metrics: list[dict[str, Any]]

    @classmethod
    def load(cls, folder: str | Path) -> "Run":
        """Opens a run by its folder or name; a MinclipError names what is missing or damaged."""
        folder = folders.find_folder(folder)
        config = read_run_config(folder)
        model, tokenizer = folders.read_folder(folder)
        need(tokenizer is not None, f"{folder} has no tokenizer.json")
        return cls(folder, config, tokenizer, model, read_metrics(folder))

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The logged steps, except those that were skipped because the loss or the gradient was not finite."""
        return [line for line in self.metrics if None not in (line.get("loss"), line.get("grad_norm"))]

    @property
    def final(self) -> dict[str, dict[str, float]]:
        """For each split, its figures at the end of the run; empty if the run has not ended."""
        return next((line["final"] for line in reversed(self.metrics) if "final" in line), {})

    def export(self, folder: str | Path) -> None:
        """Writes a copy to share: weights in half precision, tokenizer, config and metrics, but no `state.pt`."""
        folders.write_folder(folder, self.model, tokenizer=self.tokenizer, dtype=torch.float16)
        folders.write_json(Path(folder) / "config.json", folders.read_config(self.folder))
        _write_lines(Path(folder), self.metrics)


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Locks `folder` for this process until the block or the process ends; a MinclipError names who has locked it.

    Under torchrun only process 0 may call this.
    """
    path, holder = folder / ".lock", folder / ".lock.json"
    lock = FileLock(path, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        who = "another process"
        with suppress(OSError, ValueError, KeyError, TypeError):  # that process may be writing or deleting the file
            who = "process {pid} on {host}, since {since}".format_map(json.loads(holder.read_bytes()))
        raise MinclipError(f"{folder} is in use by {who}: wait for it to end, or train in another folder") from None
    except OSError as error:
        raise MinclipError(f"{folder} can't be written ({error.strerror}): start minclip in another folder") from None
    me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        folders.write_json(holder, me)
        yield
    finally:
        with suppress(OSError):  # Windows can't delete an open file
            holder.unlink(missing_ok=True)
            path.unlink()
        lock.release()
        with suppress(OSError):  # the folder is empty only if the run could not be started
            folder.rmdir()


def start_run(folder: Path, config: TrainConfig, tokenizer: Tokenizer, *, names: list[str], origin: Any = None) -> None:
    """Creates the files of a new run in a folder without one; learnt.json gets the `names` of its photographs."""
    need(not (folder / "config.json").exists(), f"{folder} already holds a run: resume it, or use another folder")
    folder.mkdir(parents=True, exist_ok=True)
    folders.atomic_write(folder / "tokenizer.json", tokenizer.to_json().encode())
    if names:
        folders.write_json(folder / "learnt.json", names)
    write_run_config(folder, config, **({"origin": origin} if origin else {}))


def write_run_config(folder: Path, config: TrainConfig, **more: Any) -> None:
    """Writes config.json; keeps other fields of an existing file, such as the origin of the weights."""
    about = {"format": FORMAT, "minclip": VERSION}
    folders.write_json(folder / "config.json", read_fields(folder / "config.json") | about | more | to_dict(config))


def read_run_config(folder: Path) -> TrainConfig:
    fields = folders.read_config(folder)
    need("train" in fields, f"{folder}/config.json belongs to a model, not to a run: open it with minclip.load")
    values = {name: value for name, value in fields.items() if name not in ("format", "minclip", "origin")}
    return from_dict(TrainConfig, values, str(folder / "config.json"))


def read_learnt(folder: Path) -> list[str]:
    """The names of the photographs that a run was trained on; [] if they were not recorded."""
    path = folder / "learnt.json"
    with suppress(MinclipError):
        names = parse_json(path.read_bytes(), "it") if path.exists() else []
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
    lost = "minclip can then no longer check which photographs were used for training"
    raise MinclipError(f"{path} is not a list of names: delete it, but {lost}")


# ---- metrics


def check_line(values: Any, where: str) -> dict[str, Any]:
    """Returns `values` if they are fields with a "step", all of the types that a run writes; else a MinclipError."""
    fields = {"step": None, **(values if isinstance(values, dict) else {})}
    for name, value in fields.items():
        fits = _is_figure(value, {"val": 1, "final": 2}.get(name, 0))
        if name in PROGRESS:
            fits = type(value) in (int, PROGRESS[name]) and 0 <= value <= 1e12  # False for NaN
        need(fits, f"{where} is damaged: {name} can't be {value!r:.40}")
    return fields


def _is_figure(value: Any, depth: int) -> bool:
    """Whether `value` is a number or None, nested in `depth` dictionaries: 2 for {"test": {"recall@1": 0.4}}."""
    if depth:
        return isinstance(value, dict) and all(_is_figure(inner, depth - 1) for inner in value.values())
    return value is None or isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def write_metrics(folder: Path, line: dict[str, Any]) -> None:
    """Appends a line to metrics.jsonl; NaN and infinities become null, because JSON doesn't have them."""
    line = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The checked lines of metrics.jsonl, without a last line that a crash cut off."""
    path = folder / "metrics.jsonl"
    *lines, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
    if rest:
        with suppress(MinclipError):  # without a line break, the line may be cut off
            parse_json(rest, "it")
            lines.append(rest)
    places = (f"{path} line {number}" for number in range(1, len(lines) + 1))
    return [check_line(parse_json(line, where), where) for line, where in zip(lines, places)]


def _write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    folders.atomic_write(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())


def rewind(folder: Path, step: int) -> None:
    """Removes what was logged after the checkpoint at `step`, and the half-written files of a killed process."""
    for unfinished in folder.glob(".*.*.[0-9]*"):  # .state.pt.4711: see `atomic_write`
        unfinished.unlink()
    _write_lines(folder, [line for line in read_metrics(folder) if line["step"] <= step and "final" not in line])


# ---- resuming: what has to agree


def check_agreement(mine: dict[str, Any]) -> None:
    """Raises MinclipError unless all processes were started with the same options."""
    options = all_gather_object(mine)  # by rank
    for number, values in enumerate(options):
        different = ", ".join(name for name, value in values.items() if value != options[0].get(name))
        what = f"process {number} was started with other values of {different} than process 0"
        need(not different, f"{what}: give all processes the same options")


def resumed_config(folder: Path, config: TrainConfig) -> TrainConfig:
    """`config` with the saved model, to resume the run in `folder`; a MinclipError names fields that can't change."""
    saved = read_run_config(folder)
    may_change = {*CHANGEABLE, *FILLED_IN, *(("mean", "std") if saved.model.vision.tower.startswith("timm:") else ())}
    # a tower's own learning rate may change, but not appear or vanish: the optimizer would have other groups
    may_change |= {n for n in ("vision_lr", "text_lr") if getattr(saved.train, n) and getattr(config.train, n)}
    before, now = leaves(to_dict(saved)), leaves(to_dict(config))
    changed = [n for n, value in now.items() if before[n] != value and n.split(".")[-1] not in may_change]
    what = ", ".join(f"{name} ({before[name]}, now {now[name]})" for name in changed)
    need(not changed, f"{folder} was started with other values of {what}: use these, or train in another folder")
    return replace(config, model=saved.model)


def check_images(folder: Path, names: list[str]) -> None:
    """Raises MinclipError if the photographs of a resumed run have changed, say because a list of splits is missing."""
    before, now = set(read_learnt(folder)), set(names)
    what = f"of its {len(before)} photographs {len(before - now)} are gone, and {len(now - before)} are new"
    how = "restore the photographs and their list of splits, or start a new run from this one (--init)"
    need(not before or before == now, f"{folder}: {what}: {how}")


def is_finished(folder: Path, loop: LoopConfig) -> bool:
    """Whether the run has its final figures and has reached the steps or minutes of `loop`."""
    last = (read_metrics(folder) or [{}])[-1]
    reached = last.get("seconds", 0) >= 60 * loop.minutes if loop.minutes else last.get("step", 0) >= loop.steps
    return "final" in last and reached

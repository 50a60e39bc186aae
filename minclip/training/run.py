"""A run's folder: its files, how they are written so that nothing is lost, read back, checked, and resumed from."""

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
from ..weights.config_json import FORMAT, from_dict, parse_json, to_dict
from .distributed import all_gather_object

PROGRESS = {"step": int, "seconds": float, "skipped": int, "loss_scale": float, "since": int}  # none is below 0
FREE = {  # fields that may differ from those that a run began with
    *("steps", "minutes", "log_every", "eval_every", "checkpoint_every", "tensorboard"),  # its length and its log
    *("root", "device", "precision", "on_gpu", "compile", "cuda_graph"),  # where it runs, and how fast
    *("parallel", "micro_batch", "loss_chunk", "grad_checkpointing"),  # the same numbers in another order or place
    *("lr", "grad_clip"),  # the rescue of a run that has become unstable
}
FOUND = ("vocab_size", "eot_id", "hf_config")  # by the run when it began, with its tokenizer and its text tower


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
        """Opens a run by its folder or its name; a MinclipError says what is missing or damaged."""
        folder = folders.find_folder(folder)
        config = read_run_config(folder)
        model, tokenizer = folders.read_folder(folder)
        need(tokenizer is not None, f"{folder} has no tokenizer.json")
        return cls(folder, config, tokenizer, model, read_metrics(folder))

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The logged steps, without those that were skipped because the loss or the gradient was not finite."""
        return [line for line in self.metrics if None not in (line.get("loss"), line.get("grad_norm"))]

    @property
    def final(self) -> dict[str, dict[str, float]]:
        """Split -> figures at the end of the run; empty if it has not ended."""
        return next((line["final"] for line in reversed(self.metrics) if "final" in line), {})

    def export(self, folder: str | Path) -> None:
        """Writes a copy to share: weights in half precision, tokenizer, config and metrics, but no `state.pt`."""
        folders.write_folder(folder, self.model, tokenizer=self.tokenizer, dtype=torch.float16)
        write_run_config(Path(folder), self.config)
        _write_lines(Path(folder), self.metrics)


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Keeps other processes from training in `folder` until this one leaves it or ends; MinclipError: who holds it.

    Under torchrun only process 0 may call this.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = folder / ".lock", folder / ".lock.json"
    held = FileLock(lock, timeout=0)
    try:
        held.acquire()
    except Timeout:
        who = "another process"
        with suppress(OSError, ValueError, KeyError, TypeError):  # it may be about to write or delete this
            who = "process {pid} on {host}, since {since}".format_map(json.loads(holder.read_bytes()))
        raise MinclipError(f"{folder} is in use by {who}: wait for it to end, or train in another folder") from None
    me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    try:
        folders.write_json(holder, me)
        yield
    finally:
        with suppress(OSError):  # Windows deletes no open file
            holder.unlink(missing_ok=True)
            lock.unlink()
        held.release()
        with suppress(OSError):  # not empty, unless the run could not be started
            folder.rmdir()


def start_run(folder: Path, config: TrainConfig, tokenizer: Tokenizer, *, names: list[str]) -> None:
    """Creates the files of a new run in a folder without one; `names` are those of its photographs, for learnt.json."""
    need(not (folder / "config.json").exists(), f"{folder} holds a run already: resume it, or use another folder")
    folder.mkdir(parents=True, exist_ok=True)
    folders.atomic_write(folder / "tokenizer.json", tokenizer.to_json().encode())
    if names:
        folders.write_json(folder / "learnt.json", names)
    write_run_config(folder, config)


def write_run_config(folder: Path, config: TrainConfig) -> None:
    versions = {"format": FORMAT, "minclip": folders.package_version()}
    folders.write_json(folder / "config.json", versions | to_dict(config))


def read_run_config(folder: Path) -> TrainConfig:
    values = {k: v for k, v in folders.read_config(folder).items() if k not in ("format", "minclip")}
    return from_dict(TrainConfig, values, str(folder / "config.json"))


def read_learnt(folder: Path) -> list[str]:
    """The names of the photographs that a run was trained on; none if they were not recorded."""
    path = folder / "learnt.json"
    with suppress(MinclipError):
        names = parse_json(path.read_bytes(), "it") if path.exists() else []
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
    lost = "minclip can then no longer check which photographs were used for training"
    raise MinclipError(f"{path} is not a list of names: delete it, but {lost}")


# ---- metrics


def checked(values: Any, where: str) -> dict[str, Any]:
    """`values`, if they are fields, "step" among them, and each is what a run writes there."""
    fields = {"step": None, **(values if isinstance(values, dict) else {})}
    for name, value in fields.items():
        fits = _is_figure(value, {"val": 1, "final": 2}.get(name, 0))
        if name in PROGRESS:
            fits = type(value) in (int, PROGRESS[name]) and 0 <= value <= 1e12  # NaN lies outside
        need(fits, f"{where} is damaged: {name} can't be {value!r:.40}")
    return fields


def _is_figure(value: Any, depth: int) -> bool:
    """Whether it is a number or null, within `depth` groups: 2 for {"test": {"recall@1": 0.4}}."""
    if depth:
        return isinstance(value, dict) and all(_is_figure(inner, depth - 1) for inner in value.values())
    return value is None or isinstance(value, float) or (type(value) is int and abs(value) < 2**63)


def write_metrics(folder: Path, line: dict[str, Any]) -> None:
    """Appends a line; a number that is not finite becomes null, because JSON has none."""
    line = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, checked; a last line that a crash cut off is dropped."""
    path = folder / "metrics.jsonl"
    *lines, rest = path.read_bytes().split(b"\n") if path.exists() else [b""]
    if rest:
        with suppress(MinclipError):  # without a line break it may be cut off
            parse_json(rest, "it")
            lines.append(rest)
    places = (f"{path} line {number}" for number in range(1, len(lines) + 1))
    return [checked(parse_json(line, where), where) for line, where in zip(lines, places)]


def _write_lines(folder: Path, lines: list[dict[str, Any]]) -> None:
    folders.atomic_write(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())


def rewind(folder: Path, step: int) -> None:
    """Removes what was logged after the checkpoint at `step`, and the half-written files of a killed process."""
    for litter in folder.glob(".*.*.[0-9]*"):  # .state.pt.4711: see `atomic_write`
        litter.unlink()
    _write_lines(folder, [line for line in read_metrics(folder) if line["step"] <= step and "final" not in line])


# ---- may a run be resumed, and with which config?


def check_agreement(mine: dict[str, Any]) -> None:
    """A MinclipError unless all processes were started with the same options."""
    for number, values in enumerate(everyones := all_gather_object(mine)):
        different = ", ".join(name for name, value in values.items() if value != everyones[0].get(name))
        what = f"process {number} was started with other values of {different} than process 0"
        need(not different, f"{what}: give all the same options")


def resumed_config(folder: Path, config: TrainConfig) -> TrainConfig:
    """`config` for the run in `folder`; a MinclipError names the fields that may not differ from the saved ones."""
    saved = read_run_config(folder)
    free = {*FREE, *FOUND, *(("mean", "std") if saved.model.vision.tower.startswith("timm:") else ())}
    # a tower's own rate is free, too, but a tower can't get or lose one: the optimizer would have other groups
    free |= {n for n in ("vision_lr", "text_lr") if getattr(saved.train, n) and getattr(config.train, n)}
    before, now = leaves(to_dict(saved)), leaves(to_dict(config))
    changed = [n for n, value in now.items() if before[n] != value and n.split(".")[-1] not in free]
    what = ", ".join(f"{name} ({before[name]}, now {now[name]})" for name in changed)
    need(not changed, f"{folder} was started with other values of {what}: use these, or train in another folder")
    return replace(config, model=saved.model)


def check_images(folder: Path, names: list[str]) -> None:
    """A MinclipError if a run would be resumed with other photographs, because a list of splits came or went."""
    before, now = set(read_learnt(folder)), set(names)
    what = f"of its {len(before)} photographs {len(before - now)} are gone, and {len(now - before)} are new"
    how = "restore them and their list of splits, or train in another folder"
    need(not before or before == now, f"{folder}: {what}: {how}")


def is_finished(folder: Path, loop: LoopConfig) -> bool:
    """Whether the run has its final figures, at the end that `loop` asks for."""
    last = (read_metrics(folder) or [{}])[-1]
    reached = last.get("seconds", 0) >= 60 * loop.minutes if loop.minutes else last.get("step", 0) >= loop.steps
    return "final" in last and reached


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested groups of fields as one: {"train.lr": …}."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out

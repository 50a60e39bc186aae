"""Whether a run may be resumed, and with which config: what may differ from the saved one, and processes that agree."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import LoopConfig, MinclipError, TrainConfig
from ..weights.config_json import to_dict
from .distributed import all_gather_object
from .run import read_learnt, read_metrics, read_run_config


def check_agreement(what: str, mine: dict[str, Any]) -> None:
    """A MinclipError if the processes don't have the same values; `what` completes "process 1 … seed than process 0"."""
    everyones = all_gather_object(mine)
    for number, values in enumerate(everyones):
        different = [name for name, value in values.items() if value != everyones[0].get(name)]
        if different:
            raise MinclipError(
                f"process {number} {what} {', '.join(different)} than process 0: give all the same options"
            )


def resumed_config(folder: Path, config: TrainConfig) -> TrainConfig:
    """`config` for the run in `folder`; only the run's length, its logging and what depends on the machine may differ."""
    saved = read_run_config(folder)
    pace = ("steps", "minutes", "log_every", "eval_every", "checkpoint_every", "tensorboard")
    machine = ("root", "device", "precision", "parallel", "compile", "micro_batch", "loss_chunk", "grad_checkpointing")
    rescue = ("lr", "grad_clip")  # of a run that has become unstable
    # a tower's own rate, too, but a tower can't get or lose one: the optimizer would have other groups
    rates = tuple(n for n in ("vision_lr", "text_lr") if getattr(saved.train, n) and getattr(config.train, n))
    free = pace + machine + rescue + rates
    # decided when the run began: the vocabulary by its tokenizer, the rest by a pretrained tower's owner
    vision, text = config.model.vision, saved.model.text
    text = replace(config.model.text, vocab_size=text.vocab_size, eot_id=text.eot_id, hf_config=text.hf_config)
    if vision.tower.startswith("timm:"):
        vision = replace(vision, mean=saved.model.vision.mean, std=saved.model.vision.std)
    config = replace(config, model=replace(config.model, vision=vision, text=text))
    before, now = leaves(to_dict(saved)), leaves(to_dict(config))
    changed = [n for n, value in now.items() if before[n] != value and n.split(".")[-1] not in free]
    if changed:
        what = ", ".join(f"{name} ({before[name]}, now {now[name]})" for name in changed)
        raise MinclipError(
            f"{folder} was started with other values of {what}: use the same, or train in another folder"
        )
    return config


def check_images(folder: Path, names: list[str]) -> None:
    """A MinclipError if a run would be resumed with other photographs, because a list of splits came or went."""
    before, now = set(read_learnt(folder)), set(names)
    if before and before != now:
        raise MinclipError(
            f"{folder} was trained on {len(before)} photographs, {len(before - now)} of which are not for training any more, "
            f"and {len(now - before)} others are: put the photographs and their list of splits back, or train in another folder"
        )


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

"""Whether a run may be resumed, and with which config: what may differ from the saved one, and processes that agree."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import LoopConfig, MinclipError, TrainConfig
from ..weights.config_json import to_dict
from .distributed import all_gather_object
from .run import read_learnt, read_metrics, read_run_config

FREE = {  # fields that may differ from those that a run began with
    *("steps", "minutes", "log_every", "eval_every", "checkpoint_every", "tensorboard"),  # its length and its log
    *("root", "device", "precision", "parallel", "compile", "micro_batch", "loss_chunk", "grad_checkpointing"),
    *("lr", "grad_clip"),  # the rescue of a run that has become unstable
}


def check_agreement(mine: dict[str, Any]) -> None:
    """A MinclipError unless all processes were started with the same options."""
    everyones = all_gather_object(mine)
    for number, values in enumerate(everyones):
        if different := [name for name, value in values.items() if value != everyones[0].get(name)]:
            what = f"process {number} was started with other values of {', '.join(different)} than process 0"
            raise MinclipError(f"{what}: give all the same options")


def resumed_config(folder: Path, config: TrainConfig) -> TrainConfig:
    """`config` for the run in `folder`; a MinclipError names the fields that may not differ from the saved ones."""
    saved = read_run_config(folder)
    # a tower's own rate is free, too, but a tower can't get or lose one: the optimizer would have other groups
    free = FREE | {n for n in ("vision_lr", "text_lr") if getattr(saved.train, n) and getattr(config.train, n)}
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
        raise MinclipError(f"{folder} was started with other values of {what}: use these, or train in another folder")
    return config


def check_images(folder: Path, names: list[str]) -> None:
    """A MinclipError if a run would be resumed with other photographs, because a list of splits came or went."""
    before, now = set(read_learnt(folder)), set(names)
    if before and before != now:
        what = f"of its {len(before)} photographs {len(before - now)} are gone, and {len(now - before)} are new"
        raise MinclipError(f"{folder}: {what}: restore them and their list of splits, or train in another folder")


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

"""Whether a run may go on, and as what: the saved config, what may be changed of it, and processes that agree."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config import LoopConfig, MinclipError, TrainConfig
from ..weights.config_json import to_dict
from . import distributed
from .run import read_learnt, read_metrics, read_run_config


def check_agreement(what: str, mine: dict[str, Any]) -> None:
    """A MinclipError where the processes don't have the same values."""
    everyones = distributed.all_gather_object(mine)
    for number, values in enumerate(everyones):
        different = [name for name, value in values.items() if value != everyones[0].get(name)]
        if different:
            raise MinclipError(
                f"process {number} {what} {', '.join(different)} than process 0: give all the same options"
            )


def resumed_config(folder: Path, config: TrainConfig) -> TrainConfig:
    """The saved run's config; what decides the length, the logging or the machine may be changed, nothing else."""
    saved = read_run_config(folder)
    pace = ("steps", "minutes", "log_every", "eval_every", "checkpoint_every", "tensorboard")
    machine = ("root", "workers", "device", "precision", "parallel", "compile")
    memory = ("micro_batch", "loss_chunk", "grad_checkpointing")
    rescue = ("lr", "grad_clip")  # of a run that has become unstable
    # a tower's own rate, too; but to get one it would need another optimizer
    rates = tuple(n for n in ("vision_lr", "text_lr") if getattr(saved.train, n) and getattr(config.train, n))
    free = pace + machine + memory + rescue + rates
    # the vocabulary's size is known only after the tokenizer was trained, and a tower's owner was asked once
    vision, text = config.model.vision, saved.model.text
    text = replace(config.model.text, vocab_size=text.vocab_size, eot_id=text.eot_id, hf_config=text.hf_config)
    if vision.tower.startswith("timm:"):
        vision = replace(vision, mean=saved.model.vision.mean, std=saved.model.vision.std)
    config = replace(config, model=replace(config.model, vision=vision, text=text))
    before, now = leaves(to_dict(saved)), leaves(to_dict(config))
    changed = [
        f"{name} ({before[name]}, now {value})"
        for name, value in now.items()
        if before[name] != value and name.split(".")[-1] not in free
    ]
    if changed:
        raise MinclipError(
            f"{folder} was started with other values of {', '.join(changed)}: resume it with the same ones, or start another run with --name"
        )
    return config


def check_images(folder: Path, names: list[str]) -> None:
    """A MinclipError where a run would go on with other photographs than it began with: a list of splits came or went."""
    before = read_learnt(folder)
    if before and set(before) != set(names):
        raise MinclipError(
            f"{folder} learnt from {len(before)} photographs, {len(set(before) - set(names))} of which are not for training any more, "
            f"and {len(set(names) - set(before))} others are: put the photographs and their list of splits back, or start another run with --name"
        )


def is_finished(folder: Path, loop: LoopConfig) -> bool:
    """Whether the run has its final figures, at the end that `loop` has."""
    last = (read_metrics(folder) or [{}])[-1]
    return "final" in last and (last["seconds"] >= 60 * loop.minutes if loop.minutes else last["step"] >= loop.steps)


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested groups of fields as one, `{"train.lr": …}`."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out

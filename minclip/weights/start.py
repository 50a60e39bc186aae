"""Where a new run starts (random weights, pretrained towers, or the whole model `train.init`), and blends of models."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from ..config import CLIPConfig, Default, TrainConfig, need
from ..model import CLIP
from ..training import distributed
from .config_json import leaves, to_dict
from .hub import sha256
from .load import find, load, weights_file
from .towers import complete_config, fetch_weights, new_tokenizer

# Fine-tuning as in FLYP (Goyal et al. 2023): the contrastive loss again, AdamW and a low learning rate; crops as in
# CLIP's paper.  500 steps of 256 pairs see 6,000 photographs 21 times.
GENTLE_DATA = {"first_size": None, "min_crop": 0.9, "flip": False, "color": 0.0}
GENTLE = {"optimizer": "adamw", "lr": 1e-5, "vision_lr": None, "text_lr": None, "weight_decay": 0.1, "ema": 0.0}
GENTLE |= {"label_smoothing": 0.0, "unmasked_last": 0.0, "steps": 500, "eval_every": 100}
Source = tuple[CLIP, Any, Any] | None  # the model to fine-tune, as `load` returns it


def fine_tuning(config: TrainConfig, model: str) -> TrainConfig:
    """The config to fine-tune `model`, anything that `load` opens, on the data of `config`, with a gentle recipe.

    The model's section and the image size are those of the weights; dropout and `data.image_size` may be changed
    afterwards.  MinclipError: the model can't be opened.
    """
    theirs = load(model)[0].config
    vision = replace(theirs.vision, image_size=Default(theirs.vision.image_size))
    data = replace(config.data, image_size=int(vision.image_size), **GENTLE_DATA)
    return TrainConfig(data, replace(theirs, vision=vision), replace(config.train, **GENTLE, init=model))


def differences(ours: CLIPConfig, theirs: CLIPConfig, *free: str) -> str:
    """Fields in which two architectures differ, with both values; "" if there are none but dropout and `free`."""
    a, b = (leaves(to_dict(config), "model.") for config in (ours, theirs))
    names = [name for name in a if a[name] != b[name] and not name.endswith(("dropout", *free))]
    return ", ".join(f"{name} ({a[name]!r:.40} and {b[name]!r:.40})" for name in names)


def complete(config: TrainConfig, source: Source) -> TrainConfig:
    """The config with the settings of pretrained towers; MinclipError if it contradicts the model to fine-tune."""
    if not source:
        return replace(config, model=complete_config(config.model))
    init, wrong = config.train.init, differences(config.model, source[0].config, "image_size")
    need(source[2] is not None, f"train.init {init} comes without a tokenizer, so it can't read captions")
    what = f"the config contradicts the weights of train.init {init} in {wrong}"
    need(not wrong, f"{what}: leave these out; in Python, fine_tuning(config, {init!r}) fills them in")
    return config


def first_tokenizer(config: TrainConfig, source: Source, texts: Callable[[], list[str]]) -> tuple[TrainConfig, Any]:
    """The tokenizer, perhaps trained on `texts()`, and the config with its vocabulary; all processes call it."""
    if source:
        return config, source[2]
    # of process 0 alone: the captions of shards may be a long download
    mine = new_tokenizer(config.model.text, texts) if distributed.rank() == 0 else None
    tokenizer = distributed.all_gather_object(mine)[0]
    text = replace(config.model.text, vocab_size=tokenizer.vocab_size, eot_id=tokenizer.eot_id)
    return replace(config, model=replace(config.model, text=text)), tokenizer


def fill(clip: CLIP, source: Source) -> None:
    """Loads the weights if there are any, with positions interpolated to the model's image size."""
    if not source:
        return fetch_weights(clip)
    size = clip.config.vision.image_size
    if source[0].config.vision.image_size != size:
        source[0].resize(size)
    clip.load_state_dict(source[0].state_dict())


def origin_of(model: str) -> dict[str, str]:
    """What config.json records about a model: its name and the SHA-256 of its weights file."""
    return {"name": model, "sha256": sha256(weights_file(find(model)))}


def blended(a: CLIP, b: CLIP, alpha: float) -> CLIP:
    """A model with the weights (1 - alpha) · A + alpha · B, in eval mode (WiSE-FT, Wortsman et al. 2022).

    0 is A and 1 is B, bit for bit.  The scale is blended as a logarithm, BatchNorm's statistics as they are,
    which suits nearly equal ones; counters are the nearer model's.  MinclipError: other architectures, wrong alpha.
    """
    need(0 <= alpha <= 1, f"alpha {alpha} must be from 0 to 1")
    wrong = differences(a.config, b.config, "logit_scale_init", "eot_id")
    need(not wrong, f"only models of one architecture, as after fine-tuning, can be blended: these differ in {wrong}")
    model, ours, theirs = CLIP(b.config).eval(), a.state_dict(), b.state_dict()
    weights = dict(theirs if alpha > 0.5 else ours)  # of which counters, and 0 and 1, stay as they are
    mixed = [name for name, x in ours.items() if x.is_floating_point() and 0 < alpha < 1]
    model.load_state_dict(weights | {name: torch.lerp(ours[name], theirs[name], alpha) for name in mixed})
    return model

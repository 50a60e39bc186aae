"""Where a new run starts: from random weights and pretrained towers, or from a whole model, `train.init`; and blends."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import CLIPConfig, Default, TrainConfig, need
from ..model import CLIP
from ..tokenizer import Tokenizer
from ..training import distributed
from .folder import at_most_ten
from .hub import sha256
from .load import FILES, find, format_of, load
from .towers import complete_config, fetch_weights, new_tokenizer

# Fine-tuning as in FLYP (Goyal et al. 2023): the contrastive loss again, AdamW, and a low learning rate; crops as in the
# paper.  500 steps of 256 pairs see 6,000 photographs 21 times.
GENTLE_DATA = {"first_size": None, "min_crop": 0.9, "flip": False, "color": 0.0}
GENTLE = {"optimizer": "adamw", "lr": 1e-5, "vision_lr": None, "text_lr": None, "weight_decay": 0.1, "ema": 0.0}
GENTLE |= {"label_smoothing": 0.0, "unmasked_last": 0.0, "steps": 500, "eval_every": 100}


def fine_tuning(config: TrainConfig, model: str, *, architecture: CLIPConfig | None = None) -> TrainConfig:
    """The config to fine-tune `model`, anything that `load` opens, on the data of `config`, with a gentle recipe.

    The model's section and the image size are those of the weights; dropout and `data.image_size` may be changed
    afterwards.  `architecture` is the model's config if it is known, so that the model need not be opened.
    """
    theirs = architecture or load(model)[0].config
    vision = replace(theirs.vision, image_size=Default(theirs.vision.image_size))
    data = replace(config.data, image_size=int(vision.image_size), **GENTLE_DATA)
    loop = replace(config.train, **GENTLE, init=str(model))
    return TrainConfig(data, replace(theirs, vision=vision), loop)


def differences(ours: CLIPConfig, theirs: CLIPConfig, *free: str) -> str:
    """Fields in which two architectures differ, with both values, and "" if they agree; dropout and `free` may differ."""

    def fields(config: CLIPConfig) -> dict[str, Any]:
        values = asdict(config)
        groups = {"": values, "vision.": values.pop("vision"), "text.": values.pop("text")}
        groups["text."]["eot_id"] %= config.text.vocab_size  # -1 is the last id
        return {prefix + name: value for prefix, group in groups.items() for name, value in group.items()}

    a, b = fields(ours), fields(theirs)
    names = [n for n in a if a[n] != b[n] and not n.endswith(("dropout", "vision.image_size", *free))]
    return at_most_ten([f"model.{n} ({a[n]!r:.40} and {b[n]!r:.40})" for n in names])


class Start:
    """Where a new run takes its weights and tokenizer from; `init` is the model to fine-tune, or ""."""

    def __init__(self, init: str) -> None:
        self.init = init

    @cached_property
    def opened(self) -> tuple[CLIP, Tokenizer]:
        model, _, tokenizer = load(self.init)
        need(tokenizer is not None, f"train.init {self.init} comes without a tokenizer, so it can't read captions")
        return model, tokenizer

    def complete(self, config: CLIPConfig) -> CLIPConfig:
        """The config with the settings of pretrained towers; MinclipError if it contradicts the model to fine-tune."""
        if not self.init:
            return complete_config(config)
        wrong = differences(config, self.opened[0].config)
        what = f"the config contradicts train.init {self.init} in {wrong}"
        need(not wrong, f"{what}: leave these out, or build it with fine_tuning(config, {self.init!r})")
        return config

    def tokenizer(self, config: TrainConfig, texts: Callable[[], list[str]]) -> tuple[TrainConfig, Tokenizer]:
        """The tokenizer, perhaps trained on `texts()`, and the config with its vocabulary; all processes must call it."""
        if self.init:
            return config, self.opened[1]
        # of process 0 alone: the captions of shards may be a long download
        mine = new_tokenizer(config.model.text, texts) if distributed.rank() == 0 else None
        tokenizer = distributed.all_gather_object(mine)[0]
        text = replace(config.model.text, vocab_size=tokenizer.vocab_size, eot_id=tokenizer.eot_id)
        return replace(config, model=replace(config.model, text=text)), tokenizer

    def fill(self, clip: CLIP) -> None:
        """Loads the weights, with positions interpolated to the config's image size; random ones stay if there are none."""
        if not self.init:
            return fetch_weights(clip)
        clip.load_state_dict(resized(self.opened[0], clip.config).state_dict())
        del self.opened  # as large as the model


def origin_of(model: str) -> dict[str, str]:
    """What config.json remembers of a model: its name and the SHA-256 of its weights file; nothing of none, ""."""
    path = find(model) if model else Path()
    files = FILES.get(format_of(path), ("model.safetensors",)) if path.is_dir() else ()
    path = next((path / file for file in files if (path / file).exists()), path)
    return {"name": model, "sha256": sha256(path)} if model else {}


def resized(model: CLIP, config: CLIPConfig) -> CLIP:
    """The model, switched to the image size of `config`."""
    if model.config.vision.image_size != config.vision.image_size:
        model.resize(config.vision.image_size)
    return model


def blended(a: CLIP, b: CLIP, alpha: float) -> CLIP:
    """A model with the weights (1 - alpha) · A + alpha · B, in eval mode (WiSE-FT, Wortsman et al. 2022).

    0 is A and 1 is B, bit for bit.  The scale is blended as a logarithm.  BatchNorm's statistics are blended, too, which
    is an approximation; counters are those of the nearer model.  MinclipError: other architectures, or alpha out of range.
    """
    need(0 <= alpha <= 1, f"alpha {alpha} is not from 0 to 1")
    wrong = differences(a.config, b.config, "logit_scale_init")
    need(not wrong, f"models of different architectures can't be blended: they differ in {wrong}")

    def mix(x: Tensor, y: Tensor) -> Tensor:
        return torch.lerp(x, y, alpha) if x.is_floating_point() and 0 < alpha < 1 else y if alpha > 0.5 else x

    model, theirs = CLIP(b.config).eval(), b.state_dict()
    model.load_state_dict({name: mix(x, theirs[name]) for name, x in resized(a, b.config).state_dict().items()})
    return model

"""When it doesn't learn: 128 pairs by heart, and what to look at where the loss stays at ln B."""

import math
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from ..batches import Batch
from ..config import TrainConfig
from ..losses import clip_loss, siglip_loss
from ..model import CLIP
from .checkpointing import frozen_statistics
from .distributed import world_size
from .run import Run

BY_HEART = 0.1  # a loss below it is "near 0"


def overfitting(config: TrainConfig) -> TrainConfig:
    """The config that learns `train.overfit` pairs by heart: all of them in each batch, and nothing that makes it harder."""
    count = config.train.overfit
    vision = replace(config.model.vision, patch_dropout=0.0, dropout=0.0)
    text = replace(config.model.text, dropout=0.0)
    return replace(
        config,
        data=replace(config.data, min_crop=1.0, flip=False, color=0.0, first_size=0),
        model=replace(config.model, vision=vision, text=text),
        train=replace(
            config.train,
            batch_size=count,
            micro_batch=0,
            steps=min(config.train.steps, 300),
            minutes=0.0,
            weight_decay=0.0,
            ema=0.0,
            label_smoothing=0.0,
            unmasked_last=0.0,
            eval_every=0,
        ),
    )


def verdict(run: Run) -> str:
    """What a run of `--overfit` says: that its pairs are known by heart, or what is likely wrong."""
    lines, count = run.steps, run.config.train.overfit
    if not lines:
        return f"{count} pairs were not learned: no logged step had a finite loss and gradient; lower train.lr {run.config.train.lr:g}"
    last = lines[-1]["loss"]
    if last < BY_HEART:
        return f"{count} pairs learned by heart: loss {last:.4f}, from {lines[0]['loss']:.2f}.  Model, loss and optimizer work together."
    causes = from_the_log(lines, run.config)
    return listing(f"{count} pairs were not learned: loss {last:.2f}, which should be below {BY_HEART}", causes)


class Watch:
    """Looks at what is logged and speaks once: of a first loss far too high, or of a loss that stays what it costs to know nothing."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.lines, self.spoken = config, [], False
        b = config.train.batch_size  # the loss of a model that knows nothing, and of SigLIP's best that does
        self.nothing = math.log(b) + (b - 1) * math.log(b / (b - 1)) * (config.model.loss == "siglip")

    def see(self, line: dict[str, Any], progress: float, clip: CLIP, batch: Batch) -> str:
        """A hint, or nothing; `line` is what was logged, `progress` the share of the run that is over."""
        if self.spoken or not math.isfinite(line["loss"] + line["grad_norm"]):
            return ""
        self.lines.append(line)
        sigmoid = self.config.model.loss == "siglip"
        start = self.lines[0]["loss"]
        if not sigmoid and start > 1.5 * self.nothing + 1:
            self.spoken = True
            causes = [
                "the features are not of length 1, or the scale is far above 14.3",
                *from_the_batch(clip, batch),
            ]
            return listing(f"the first loss is {start:.2f}, far above ln B = {self.nothing:.2f}", causes)
        lately = [line["loss"] for line in self.lines[-10:]]
        level = self.nothing
        # 3 % below it a model has begun to learn: batches of 32 and more vary by less
        if progress > 0.25 and len(self.lines) >= 12 and min(lately) > level - 0.03 * level:
            self.spoken = True
            causes = [*from_the_batch(clip, batch), *from_the_log(self.lines, self.config)]
            return listing(
                f"step {line['step']}: the loss is still {lately[-1]:.3f}, {level:.3f} is what it costs to know nothing",
                causes,
            )
        return ""


def listing(what: str, causes: list[str]) -> str:
    always = [
        "images and captions that don't belong together (look at a few pairs)",
        "a hard start: a Vision Transformer on few images can stay on this plateau for long (try model.vision.stem=conv)",
    ]
    return "\n".join(
        [f"{what}.  Likely causes, the measured ones first:", *(f"  - {cause}" for cause in [*causes, *always])]
    )


def from_the_log(lines: list[dict[str, Any]], config: TrainConfig) -> list[str]:
    """What the logged figures point at."""
    loop, out = config.train, []
    lately = lines[len(lines) // 2 :]
    steps = sorted(line["update_norm"] / max(line["param_norm"], 1e-12) for line in lately)
    step = steps[len(steps) // 2]
    if step < 1e-5:
        out.append(
            f"a step moves the weights by {step:.0e} of their length: train.lr {loop.lr:g} is too low, or the schedule never rises"
        )
    if step > 0.1:
        out.append(f"a step moves the weights by {step:.0%} of their length: train.lr {loop.lr:g} is too high")
    clipped = sum(line["grad_norm"] > 10 * loop.grad_clip for line in lately)
    if clipped > len(lately) / 2:
        out.append(
            f"the gradient is over 10 times longer than train.grad_clip {loop.grad_clip:g}: lower train.lr {loop.lr:g}"
        )
    if len(lines) > 1 and lines[-1]["scale"] == lines[0]["scale"]:
        out.append("the scale never moved: logit_scale is not in the optimizer, or it stands at its clamp of 100")
    if lines[-1]["skipped"]:
        out.append(f"{lines[-1]['skipped']} steps were skipped because their gradient was not finite")
    return out


def from_the_batch(clip: CLIP, batch: Batch) -> list[str]:
    """What one batch and the gradients on it point at; on several processes, nothing is measured."""
    if world_size() > 1:
        return ["(start it in one process: then a batch and its gradients are looked at)"]
    few = slice(64)
    images, ids = batch.images[few], batch.ids[few]
    with torch.enable_grad(), frozen_statistics(clip):  # to look must not change the run
        image, text, scale = clip(images, ids)
        loss = (
            siglip_loss(image, text, scale, clip.logit_bias)
            if clip.config.loss == "siglip"
            else clip_loss(image, text, scale)
        )
        parameters = {name: x for name, x in clip.named_parameters() if x.requires_grad}
        grads = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)))
    out = []
    for part in ("vision", "text", "logit_scale"):
        if part not in clip.frozen and not any(
            grad is not None and grad.any() for name, grad in grads.items() if name.startswith(part)
        ):
            out.append(f"no gradient reaches {part}: it is frozen, detached, or dead")
    for name, x in (("image", image), ("text", text)):
        cosine = mean_cosine(x)
        if cosine > 0.98:
            out.append(
                f"all {name} features are nearly one vector (mean cosine {cosine:.3f}): the tower has collapsed, or its inputs are all alike"
            )
    if (images.std(dim=0).mean() < 1e-3).item():
        out.append("the images of a batch are all alike")
    spread = float(images.std())
    if not 0.2 < spread < 5:
        out.append(
            f"the images' values have a spread of {spread:.2g}, which should be near 1: model.vision.mean and std don't fit them"
        )
    different = len(torch.unique(batch.ids, dim=0))
    if different < 0.9 * len(batch.ids):
        out.append(
            f"only {different} of a batch's {len(batch.ids)} captions differ: the others are each other's false negatives"
        )
    return out


def mean_cosine(x: torch.Tensor) -> float:
    """Of all pairs of different rows of (B, D)."""
    x = F.normalize(x.detach().float(), dim=-1)
    total, n = (x @ x.T).sum() - len(x), len(x)
    return float(total / (n * (n - 1)))

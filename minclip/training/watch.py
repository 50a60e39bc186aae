"""Measurements while training (FLOPs, memory, TensorBoard), and likely causes if a model doesn't learn."""

import functools
import math
import statistics
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..batches import Batch
from ..config import LoopConfig, TrainConfig
from ..model import CLIP
from ..weights.towers import library
from .distributed import world_size
from .engine import LOSSES, contrastive_loss, seconds_of_product
from .parallel import frozen_statistics
from .run import Run

MEMORIZED = 0.1  # the pairs of an overfitting test count as memorized below this loss


def flops_per_pair(model: CLIP, batch: Batch, *, autocast: torch.dtype | None) -> float:
    """Floating-point operations of the matrix products and convolutions for one pair, forward and backward.

    Counted on the first pairs of a batch.  The backward pass has two products for each one of the forward pass, hence
    the factor 3; a frozen tower has no backward pass.  Recomputed activations don't count as useful work.
    """
    from torch.utils.flop_counter import FlopCounterMode  # loads triton, which `import minclip` should not wait for

    images, ids = torch.zeros_like(batch.images[:8]), batch.ids[:8]  # pixel values don't change the count
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []),
        torch.autocast(model.device.type, autocast, enabled=autocast is not None),
        torch.compiler.set_stance("force_eager"),  # compiled kernels aren't counted
        sdpa_kernel(SDPBackend.MATH),  # nor is every fused attention kernel
        frozen_statistics(model),
        FlopCounterMode(display=False) as counter,
    ):
        model(images, ids)
    flops = {module: sum(counts.values()) for module, counts in counter.get_flop_counts().items()}
    frozen = sum(flops.get(f"{type(model).__name__}.{tower}", 0) for tower in model.frozen)
    return (3 * flops["Global"] - 2 * frozen) / len(ids)


@functools.cache
def peak_flops(device: torch.device, *, autocast: torch.dtype | None) -> float:
    """Operations per second that the device reaches in a large matrix product, in the precision of the towers."""
    size = 8192 if device.type == "cuda" else 1024
    seconds = seconds_of_product(autocast or torch.float32, size=size, device=device)
    if device.type == "cuda":  # the matrices must not count as the run's memory
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return 2 * size**3 / seconds


def memory_gb(device: torch.device) -> float:
    """Peak memory in GB: of the tensors on a GPU, of the process on a CPU; 0 if the system doesn't report it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource  # not on Windows
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def tensorboard(folder: Path, step: int) -> Any:
    """A TensorBoard writer to `tensorboard` in the run's folder, which discards what was logged after `step`."""
    writer = library("torch.utils.tensorboard", "train.tensorboard", "tensorboard").SummaryWriter
    return writer(str(folder / "tensorboard"), purge_step=step + 1, flush_secs=10)


def log_scalars(writer: Any, line: dict[str, Any], *, prefix: str = "train") -> None:
    """Writes each number in a line of metrics.jsonl to TensorBoard; a group's name is the prefix of its numbers."""
    for name, value in line.items():
        if isinstance(value, dict):
            log_scalars(writer, {"step": line["step"], **value}, prefix=name)
        elif name != "step" and value is not None:
            writer.add_scalar(f"{prefix}/{name}", value, line["step"])


def overfitting(config: TrainConfig) -> TrainConfig:
    """The config to memorize `train.overfit` pairs: all in every batch, no augmentation, no regularization."""
    data = replace(config.data, min_crop=1.0, flip=False, color=0.0, first_size=None)
    vision, text = replace(config.model.vision, patch_dropout=0.0, dropout=0.0), replace(config.model.text, dropout=0.0)
    off = dict.fromkeys(("weight_decay", "ema", "label_smoothing", "unmasked_last"), 0.0)
    off |= dict.fromkeys(("micro_batch", "minutes", "eval_every"))
    loop = replace(config.train, batch_size=config.train.overfit, steps=min(config.train.steps, 300), **off)
    return replace(config, data=data, model=replace(config.model, vision=vision, text=text), train=loop)


def verdict(run: Run) -> str:
    """The result of a run with `train.overfit`: whether its pairs were memorized, with likely causes if not."""
    lines, pairs, lr = run.steps, f"{run.config.train.overfit} pairs", run.config.train.lr
    if not lines:
        return f"{pairs} were not memorized: no logged step had a finite loss and gradient; lower train.lr {lr:g}"
    first, last = lines[0]["loss"], lines[-1]["loss"]
    if last < MEMORIZED:
        return f"{pairs} memorized: loss {last:.4f}, from {first:.2f}.  Model, loss and optimizer work together."
    what = f"{pairs} were not memorized: loss {last:.2f}, which should be below {MEMORIZED}"
    return _listing(what, causes_in_log(lines, run.config))


class Watcher:
    """Checks each logged line and reports once: a scale that makes the first loss high, or a loss that doesn't fall."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.lines, self.reported, self.loss = config, [], False, LOSSES[config.model.loss]

    def check(self, line: dict[str, Any], *, progress: float, model: CLIP, batch: Batch) -> str:
        """A hint, or ""; `line` is the logged line, `progress` the completed fraction of the run."""
        if self.reported or not math.isfinite(line["loss"] + line["grad_norm"]):
            return ""
        self.lines.append(line)
        level = self.loss.uninformed(self.config.train.batch_size)
        recent, hint = [line["loss"] for line in self.lines[-10:]], ""
        what = f"step {line['step']}: the loss is {line['loss']:.3f}; a model that knows nothing has {level:.3f}"
        untrained = not self.config.train.init  # trained weights may have a scale of 100
        if len(self.lines) == 1 and untrained and line["scale"] > 30 and line["loss"] > 1.5 * level + 1:
            hint = f"{what}.  The scale is {line['scale']:.3g}, not 14.3 as in the paper: lower model.logit_scale_init"
        elif progress > 0.25 and len(self.lines) >= 12 and min(recent) > 0.97 * level:  # batches of 32 vary by less
            hint = _listing(what, [*causes_in_batch(model, batch), *causes_in_log(self.lines, self.config)])
        self.reported = bool(hint)
        return hint


def _listing(what: str, causes: list[str]) -> str:
    pairs = "images and captions that don't belong together (look at a few pairs)"
    start = "a hard start: a ViT can stay on this plateau long with few images (try model.vision.stem conv)"
    return "\n  - ".join([f"{what}.  Likely causes, the measured ones first:", *causes, pairs, start])


def causes_in_log(lines: list[dict[str, Any]], config: TrainConfig) -> list[str]:
    """Likely causes in the logged lines of steps."""
    lr, max_norm = f"train.lr {config.train.lr:g}", config.train.grad_clip
    recent, last = lines[len(lines) // 2 :], lines[-1]
    change = statistics.median_high(line["update_norm"] / max(line["param_norm"], 1e-12) for line in recent)
    clipped = sum(line["grad_norm"] > 10 * max_norm for line in recent) > len(recent) / 2
    constant = len(lines) > 1 and last["scale"] == lines[0]["scale"]
    causes = {
        f"a step changes the weights by {change:.0e} of their norm: {lr} is too low": change < 1e-5,
        f"a step changes the weights by {change:.0%} of their norm: {lr} is too high": change > 0.1,
        f"the gradient's norm is over 10 times train.grad_clip {max_norm:g}: lower {lr}": clipped,
        "the scale never changed: logit_scale is not in the optimizer, or it is at its maximum of 100": constant,
        f"{last['skipped']} steps were skipped because their gradient was not finite": last["skipped"],
    }
    return [cause for cause, true in causes.items() if true]


def causes_in_batch(model: CLIP, batch: Batch) -> list[str]:
    """Likely causes in one batch and its gradients, which are only measured in a single process."""
    if world_size() > 1:
        return ["(train in one process to have a batch and its gradients checked)"]
    images, ids = batch.images[:64], batch.ids[:64]
    parameters = {name: x for name, x in model.named_parameters() if x.requires_grad}
    eager = torch.compiler.set_stance("force_eager")
    with torch.enable_grad(), frozen_statistics(model), eager:  # a check must not change the run
        image, text, scale = model(images, ids)
        numbers = [scale, model.logit_bias] if LOSSES[model.config.loss].bias else [scale]
        loss = contrastive_loss(model, image, text, numbers=numbers, loop=LoopConfig())
        grads = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)))
    reached = [name for name, x in grads.items() if x is not None and x.any()]
    missed = [part for part in ("vision", "text", "logit_scale") if not any(n.startswith(part) for n in reached)]
    cosines, std = {"image": mean_cosine(image), "text": mean_cosine(text)}, float(images.std())
    lengths = {"image": float(image.norm(dim=1).mean()), "text": float(text.norm(dim=1).mean())}
    different, of_all = len(torch.unique(batch.ids, dim=0)), len(batch.ids)
    same = "features are nearly the same vector: the tower has collapsed, or its inputs are all alike"
    causes = {
        **{f"no gradient reaches {n}: it is frozen, detached, or dead": n not in model.frozen for n in missed},
        **{f"the {name} features have length {x:.3g}, not 1": abs(x - 1) > 0.1 for name, x in lengths.items()},
        **{f"all {name} {same} (mean cosine {cosine:.3f})": cosine > 0.98 for name, cosine in cosines.items()},
        "the images of a batch are all alike": images.std(dim=0).mean() < 1e-3,
        f"pixels have a standard deviation of {std:.2g}, not 1: check model.vision.mean and std": not 0.2 < std < 5,
        f"only {different} of {of_all} captions differ: equal ones are false negatives": different < 0.9 * of_all,
    }
    return [cause for cause, true in causes.items() if true]


def mean_cosine(x: Tensor) -> float:
    """Mean cosine of all pairs of different rows of (B, D)."""
    x, n = F.normalize(x.detach().float(), dim=-1), len(x)
    return float(((x @ x.T).sum() - n) / (n * (n - 1)))

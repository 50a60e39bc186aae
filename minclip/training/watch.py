"""What is measured while training: FLOPs, memory, TensorBoard; and likely causes if a model doesn't learn."""

import functools
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..batches import Batch
from ..config import MinclipError, TrainConfig
from ..losses import clip_loss, siglip_loss
from ..model import CLIP
from .checkpointing import frozen_statistics
from .distributed import world_size
from .run import Run

MEMORIZED = 0.1  # a loss below it counts as near 0
LEARNED = 0.03  # a loss that fell by this fraction has begun to fall: batches of 32 and more vary by less


def flops_per_pair(model: CLIP, batch: Batch, *, autocast: bool) -> float:
    """Floating-point operations of the matrix products and convolutions for one pair, forward and backward.

    Counted on the first pairs of a batch.  The backward pass has two products for each one of the forward pass, hence
    the factor 3; a frozen tower has none.  What is recomputed to save memory counts once: utilization is about useful work.
    """
    from torch.utils.flop_counter import FlopCounterMode  # loads triton, which `import minclip` should not wait for

    few = slice(min(8, len(batch.ids)))
    images, ids = torch.zeros_like(batch.images[few]), batch.ids[few]  # the numbers in an image change no count

    def count(module: Callable, *inputs: Tensor) -> int:
        with FlopCounterMode(display=False) as counter:
            module(*inputs)
        return counter.get_total_flops()

    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []),
        torch.autocast(model.device.type, torch.bfloat16, enabled=autocast),
        torch.compiler.set_stance("force_eager"),  # compiled kernels aren't counted
        sdpa_kernel(SDPBackend.MATH),  # nor is every fused attention kernel
        frozen_statistics(model),
    ):
        flops = 3 * count(model, images, ids)
        for tower, inputs in ((model.vision, images), (model.text, ids)):
            if not any(parameter.requires_grad for parameter in tower.parameters()):
                flops -= 2 * count(tower, inputs)
    return flops / len(ids)


@functools.cache
def peak_flops(device: torch.device, *, autocast: bool) -> float:
    """Operations per second that the device reaches in a large matrix product, in the precision of the towers."""
    size = 8192 if device.type == "cuda" else 1024
    x = torch.randn(size, size, device=device, dtype=torch.bfloat16 if autocast else torch.float32)
    wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device.type, lambda: None)
    seconds: list[float] = []
    while len(seconds) < 6 and sum(seconds) < 0.5:  # a CPU that emulates bf16 takes seconds for one
        wait()
        start = time.perf_counter()
        y = x @ x
        wait()
        seconds.append(time.perf_counter() - start)
    del x, y
    if device.type == "cuda":  # these two matrices are not part of the run's memory
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return 2 * size**3 / statistics.median(seconds[1:] or seconds)  # the first product warms up


def memory_gb(device: torch.device) -> float:
    """Peak memory in GB: of tensors on a GPU, of the process on a CPU; 0 where the system doesn't report it."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource  # not on Windows
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def tensorboard(folder: Path, step: int) -> Any:
    """A TensorBoard writer in the run's folder `tensorboard`, which discards what was logged after `step`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MinclipError("train.tensorboard needs TensorBoard: pip install tensorboard") from None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1, flush_secs=10)


def log_scalars(writer: Any, line: dict[str, Any], *, prefix: str = "train") -> None:
    """Writes every number of a line of metrics.jsonl to TensorBoard, those of a group under its name."""
    for name, value in line.items():
        if isinstance(value, dict):
            log_scalars(writer, {"step": line["step"], **value}, prefix=name)
        elif name != "step" and value is not None:
            writer.add_scalar(f"{prefix}/{name}", value, line["step"])


def overfitting(config: TrainConfig) -> TrainConfig:
    """The config that memorizes `train.overfit` pairs: all of them in every batch, and nothing that makes it harder."""
    data = replace(config.data, min_crop=1.0, flip=False, color=0.0, first_size=None)
    vision, text = replace(config.model.vision, patch_dropout=0.0, dropout=0.0), replace(config.model.text, dropout=0.0)
    easier = {"micro_batch": None, "minutes": None, "weight_decay": 0.0, "ema": 0.0, "label_smoothing": 0.0}
    count, steps = config.train.overfit, min(config.train.steps, 300)
    loop = replace(config.train, batch_size=count, steps=steps, unmasked_last=0.0, eval_every=None, **easier)
    return replace(config, data=data, model=replace(config.model, vision=vision, text=text), train=loop)


def verdict(run: Run) -> str:
    """The result of a run with `train.overfit`: that its pairs were memorized, or likely causes why not."""
    lines, count, lr = run.steps, run.config.train.overfit, run.config.train.lr
    if not lines:
        return f"{count} pairs were not memorized: no logged step had a finite loss and gradient; lower train.lr {lr:g}"
    first, last = lines[0]["loss"], lines[-1]["loss"]
    if last < MEMORIZED:
        return f"{count} pairs memorized: loss {last:.4f}, from {first:.2f}.  Model, loss and optimizer work together."
    what = f"{count} pairs were not memorized: loss {last:.2f}, which should be below {MEMORIZED}"
    return _listing(what, causes_in_log(lines, run.config))


class Watcher:
    """Checks each logged line and reports once: a first loss that is far too high, or a loss that doesn't fall."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.lines, self.reported = config, [], False
        b, self.sigmoid = config.train.batch_size, config.model.loss == "siglip"
        # the loss of a model that knows nothing: ln B; for SigLIP, of probability 1/B for every pair
        self.uninformed = math.log(b) + (b - 1) * math.log(b / (b - 1)) * self.sigmoid

    def check(self, line: dict[str, Any], *, progress: float, model: CLIP, batch: Batch) -> str:
        """A hint or ""; `line` is what was logged, `progress` the fraction of the run that is over."""
        if self.reported or not math.isfinite(line["loss"] + line["grad_norm"]):
            return ""
        self.lines.append(line)
        level, first, recent = self.uninformed, self.lines[0]["loss"], [line["loss"] for line in self.lines[-10:]]
        if not self.sigmoid and first > 1.5 * level + 1:
            what, causes = f"the first loss is {first:.2f}, far above ln B = {level:.2f}", []
            causes.append("the features are not of length 1, or the scale is far above 14.3")
        elif progress > 0.25 and len(self.lines) >= 12 and min(recent) > (1 - LEARNED) * level:
            what, causes = (
                f"step {line['step']}: the loss is still {recent[-1]:.3f}",
                causes_in_log(self.lines, self.config),
            )
            what += f"; a model that knows nothing has {level:.3f}"
        else:
            return ""
        self.reported = True
        return _listing(what, [*causes_in_batch(model, batch), *causes])


def _listing(what: str, causes: list[str]) -> str:
    always = [
        "images and captions that don't belong together (look at a few pairs)",
        "a hard start: on few images a Vision Transformer can stay on this plateau long (try model.vision.stem conv)",
    ]
    lines = (f"  - {cause}" for cause in [*causes, *always])
    return "\n".join([f"{what}.  Likely causes, the measured ones first:", *lines])


def causes_in_log(lines: list[dict[str, Any]], config: TrainConfig) -> list[str]:
    """Likely causes in the logged figures of steps."""
    lr, most, out = config.train.lr, config.train.grad_clip, []
    recent = lines[len(lines) // 2 :]
    step = statistics.median_high(line["update_norm"] / max(line["param_norm"], 1e-12) for line in recent)
    if step < 1e-5:
        out.append(f"a step changes the weights by {step:.0e} of their norm: train.lr {lr:g} is too low")
    if step > 0.1:
        out.append(f"a step changes the weights by {step:.0%} of their norm: train.lr {lr:g} is too high")
    if sum(line["grad_norm"] > 10 * most for line in recent) > len(recent) / 2:
        out.append(f"the gradient's norm is over 10 times train.grad_clip {most:g}: lower train.lr {lr:g}")
    if len(lines) > 1 and lines[-1]["scale"] == lines[0]["scale"]:
        out.append("the scale never changed: logit_scale is not in the optimizer, or it is at its maximum of 100")
    if lines[-1]["skipped"]:
        out.append(f"{lines[-1]['skipped']} steps were skipped because their gradient was not finite")
    return out


def causes_in_batch(model: CLIP, batch: Batch) -> list[str]:
    """Likely causes in one batch and its gradients; with several processes nothing is measured."""
    if world_size() > 1:
        return ["(start it in one process to have a batch and its gradients checked)"]
    images, ids, out = batch.images[:64], batch.ids[:64], []
    parameters = {name: x for name, x in model.named_parameters() if x.requires_grad}
    with torch.enable_grad(), frozen_statistics(model):  # a check must not change the run
        image, text, scale = model(images, ids)
        sigmoid = model.config.loss == "siglip"
        loss = siglip_loss(image, text, scale, model.logit_bias) if sigmoid else clip_loss(image, text, scale)
        grads = dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)))
    for part in (part for part in ("vision", "text", "logit_scale") if part not in model.frozen):
        if not any(x is not None and x.any() for name, x in grads.items() if name.startswith(part)):
            out.append(f"no gradient reaches {part}: it is frozen, detached, or dead")
    for name, x in (("image", image), ("text", text)):
        if (cosine := mean_cosine(x)) > 0.98:
            same = f"all {name} features are nearly the same vector (mean cosine {cosine:.3f})"
            out.append(f"{same}: the tower has collapsed, or its inputs are all alike")
    if images.std(dim=0).mean() < 1e-3:
        out.append("the images of a batch are all alike")
    if not 0.2 < (std := float(images.std())) < 5:
        out.append(f"pixels have a standard deviation of {std:.2g}, not about 1: check model.vision.mean and std")
    if (different := len(torch.unique(batch.ids, dim=0))) < 0.9 * len(batch.ids):
        out.append(f"only {different} of a batch's {len(batch.ids)} captions differ: equal ones are false negatives")
    return out


def mean_cosine(x: Tensor) -> float:
    """Mean cosine of all pairs of different rows of (B, D)."""
    x, n = F.normalize(x.detach().float(), dim=-1), len(x)
    return float(((x @ x.T).sum() - n) / (n * (n - 1)))

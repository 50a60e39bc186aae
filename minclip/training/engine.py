"""The parts of a training step: device, learning rate, losses, gradients of whole and of cached batches."""

import functools
import math
import signal
import timeit
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from ..batches import Batch
from ..config import DataConfig, LoopConfig, MinclipError, TrainConfig, need
from ..losses import clip_loss, siglip_bias, siglip_loss
from ..model import CLIP
from .distributed import all_reduce_sum, world_size
from .parallel import frozen_statistics, is_sharded, local

MAX_SKIPPED = 5  # steps in a row without a finite gradient, with which a run gives up when it next logs or saves
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(device: str, precision: str) -> tuple[torch.device, torch.dtype | None]:
    """The device, and autocast's dtype in the towers, None for fp32.

    "auto" takes bf16 where that is faster, and fp16 on a GPU that lacks it, such as Colab's T4.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device)
        need(kind.type in ("cpu", "cuda", "mps"), "choose auto, cpu, cuda or mps")
        torch.zeros(1, device=kind)
        if kind.type == "cuda" and kind.index is not None:  # where streams, events and recorded steps are created
            torch.cuda.set_device(kind)
    except (RuntimeError, AssertionError, MinclipError) as error:
        raise MinclipError(f"train.device {device!r} can't be used here: {str(error).splitlines()[0]}") from None
    gpu = kind.type == "cuda"
    if precision == "auto":
        precision = "bf16" if fast_bf16(kind.type) else "fp16" if gpu else "fp32"
    need(precision != "fp16" or gpu, f"train.precision fp16 needs a CUDA GPU, not {kind.type}: choose bf16 or fp32")
    lacks = gpu and precision == "bf16" and not fast_bf16("cuda")
    need(not lacks, "train.precision bf16: this GPU has no bf16; choose fp16, or auto")
    if gpu:  # products of fp32 by the tensor cores, in TF32; and the fastest convolution, tried once for each shape
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True
    return kind, PRECISIONS[precision]


@functools.cache
def fast_bf16(kind: str) -> bool:
    """Whether "cuda", "mps" or "cpu" multiplies bf16 faster than fp32; on a CPU, a product of each is timed."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities() if kind == "cpu" else {}
    if not (able.get("avx512_bf16") or able.get("amx_bf16")):
        return False  # without such instructions it is emulated, slowly
    # some CPUs have them and are slower all the same; the margin keeps the answer from changing with the load
    return seconds_of_product(torch.bfloat16) < 0.8 * seconds_of_product(torch.float32)


def seconds_of_product(dtype: torch.dtype, *, size: int = 512, device: torch.device | str = "cpu") -> float:
    """The shortest time of five products of (size, size) matrices."""
    x = torch.randn(size, size, device=device, dtype=dtype)
    return min(timeit.repeat(lambda: (x @ x)[0, 0].item(), number=1, repeat=5))  # a GPU has a number when it is done


def schedule(progress: float, warmup: float) -> float:
    """The learning rate as a fraction of its peak: linear warm-up, then a cosine down to 0 (paper, section 2.5)."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)  # never 0: the first step should learn something
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def set_lrs(optimizer: Optimizer, peaks: list[float], progress: float, *, warmup: float) -> float:
    """Sets the groups' learning rates, from their `peaks`, and returns the `schedule`'s fraction.

    A group that "starts" later has rate 0 until then, which changes no bit (nor does decay), and then a full schedule.
    """
    for group, peak in zip(optimizer.param_groups, peaks):
        start = group.get("starts", 0.0)
        lr = peak * schedule((progress - start) / (1 - start), warmup) if progress >= start else 0.0
        # in place where it is a tensor, from which a recorded step reads it
        group["lr"] = group["lr"].fill_(lr) if isinstance(group["lr"], Tensor) else lr
    return schedule(progress, warmup)


def picture_size(progress: float, data: DataConfig) -> int:
    """The side of the training pictures, in three steps from `data.first_size` to `data.image_size`: a multiple of 16.

    Small pictures cost little and show what is large; a network that has learned that learns the rest faster.
    """
    if not data.first_size:
        return data.image_size
    part = min(2, int(3 * progress)) / 2
    return round((data.first_size + part * (data.image_size - data.first_size)) / 16) * 16


# ---- the loss and its gradients

# For each `model.loss` the function; its value for a model that knows nothing and, if it has a bias, where that starts,
# both by batch size.
Loss = namedtuple("Loss", "function uninformed bias")
LOSSES = {
    "clip": Loss(clip_loss, math.log, None),
    "siglip": Loss(siglip_loss, lambda b: math.log(b) + (b - 1) * math.log(b / (b - 1)), siglip_bias),
}


def gradients(
    model: nn.Module,
    batch: Batch,
    loop: LoopConfig,
    *,
    autocast: torch.dtype | None,
    seed: int | None,
    loss_scale: Tensor | float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Adds the gradients of the batch's loss to `.grad`, averaged over all processes; returns the loss and the scale.

    `model` is a CLIP, or what `wrap` made of it.  With `loop.micro_batch`, only so many pairs are embedded at a time
    (gradient caching, Gao et al. 2021; so one GPU trains with the paper's batch of 32,768): first all features, without
    a graph; then the loss over all of them and its gradient at each feature; then each micro-batch again, with the same
    dropout, backward from its features' gradients.  `seed` determines everything random; None leaves that to
    the generator as it is.  The gradients, not the loss, are `loss_scale` times as large: see `Skips`.
    """
    clip = model.module if isinstance(model, DistributedDataParallel) else model
    size = loop.micro_batch or len(batch.ids)
    micro_batches = list(zip(batch.images.split(size), batch.ids.split(size)))
    for _, ids in micro_batches if loop.compile else ():
        torch._dynamo.maybe_mark_dynamic(ids, 1)  # compiled once for all lengths of text
    kind = batch.images.device.type
    plain = autocast and kind == "cpu"  # the fused attention's backward pass is several times slower there in bf16

    def embed(number: int) -> tuple[Tensor, ...]:
        if seed is not None:
            torch.manual_seed(seed + number)
        attention = sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
        with torch.autocast(kind, autocast, enabled=autocast is not None), attention:
            image, text, scale = model(*micro_batches[number])
        # a bias is treated like the scale; adding 0 makes it part of this micro-batch's graph
        return image, text, scale, *([clip.logit_bias + 0.0] if LOSSES[clip.config.loss].bias else [])

    if len(micro_batches) == 1:
        image, text, *numbers = embed(0)
        loss = contrastive_loss(clip, image, text, numbers=numbers, loop=loop)
        (loss * loss_scale).backward()
    else:
        with torch.no_grad():
            features = [embed(number) for number in range(len(micro_batches))]
        image, text = (torch.cat([part[i] for part in features]).requires_grad_() for i in (0, 1))
        numbers = [number.requires_grad_() for number in features[0][2:]]
        del features  # the copies in image and text are enough
        loss = contrastive_loss(clip, image, text, numbers=numbers, loop=loop)
        (loss * loss_scale).backward()
        feature_grads = list(zip(image.grad.split(size), text.grad.split(size)))
        with frozen_statistics(clip):  # BatchNorm counted this batch in the first pass
            for number, grads in enumerate(feature_grads):
                last = number == len(micro_batches) - 1
                if isinstance(model, DistributedDataParallel):  # averaging over the processes once a step is enough
                    model.require_backward_grad_sync = last
                elif hasattr(model, "set_requires_gradient_sync"):  # FSDP
                    model.set_requires_gradient_sync(last)
                # the scale belongs to the whole batch: its gradient counts once
                own = [x.grad if last else torch.zeros_like(x) for x in numbers]
                torch.autograd.backward(embed(number), [*grads, *own])
    if loop.parallel == "fsdp" and world_size() > 1:
        for parameter in clip.parameters():  # FSDP leaves single numbers to us
            if parameter.ndim == 0 and parameter.grad is not None:  # a frozen tower's has none
                parameter.grad = all_reduce_sum(parameter.grad) / world_size()
    return loss.detach(), numbers[0].detach()


def contrastive_loss(clip: CLIP, image: Tensor, text: Tensor, *, numbers: list[Tensor], loop: LoopConfig) -> Tensor:
    """The model's loss over the features of all processes, fp32; `numbers` are the scale and, if there is one, bias."""
    pairs = len(image) * world_size()
    chunk = loop.loss_chunk or (max(64, 2**22 // pairs) if pairs > 4096 else None)  # 16 MB of logits
    smoothing = {"label_smoothing": loop.label_smoothing} if loop.label_smoothing else {}  # TrainConfig checks who can
    function = LOSSES[clip.config.loss].function
    return function(image, text, *numbers, chunk_size=chunk, distributed=world_size() > 1, **smoothing)


def norm(tensors: list[Tensor]) -> Tensor:
    """The L2 norm of all tensors as one vector, over all processes."""
    whole, sharded = ([x.detach().float() for x in tensors if is_sharded(x) == kind] for kind in (False, True))
    total = torch.nn.utils.get_total_norm(whole)
    return torch.hypot(total, torch.nn.utils.get_total_norm(sharded).full_tensor()) if sharded else total


@torch.no_grad()
def clip_gradients(parameters: list[nn.Parameter], max_norm: float, *, loss_scale: Tensor | float = 1.0) -> Tensor:
    """Scales gradients back from `loss_scale`, and to the norm `max_norm` if theirs is larger; returns their norm."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = norm(grads) / loss_scale
    torch._foreach_mul_([local(grad) for grad in grads], (max_norm / (total + 1e-6)).clamp(max=1.0) / loss_scale)
    return total


class Skips:
    """What happens on the device after a step: was it skipped, because its loss or gradient was not finite?

    The host never asks, because it would wait for the GPU each time; it reads the counts at logged steps.  With fp16,
    `loss_scale` follows from them: smaller gradients than 6e-8 would be rounded to 0, so they are those of the loss
    times a scale as large as possible, halved after an overflow, doubled after 2,000 steps without (Micikevicius et
    al. 2018, section 3.2).
    """

    def __init__(self, clip: CLIP, *, fp16: bool, saved: dict[str, float]) -> None:
        scale = (saved["loss_scale"] or 2.0**16) if fp16 else 1.0
        self.fp16, self.loss_scale = fp16, torch.tensor(scale, device=clip.device)
        counts = [saved["step"], saved["skipped"], saved["since"], 0]
        self.step, self.total, self.since, self.in_a_row = torch.tensor(counts, device=clip.device)
        self.buffers = [buffer for buffer in clip.buffers() if buffer.is_floating_point()]
        self.good = torch.cat([buffer.flatten() for buffer in self.buffers]) if self.buffers else None

    @torch.no_grad()
    def count(self, finite: Tensor) -> None:
        """After each step: `finite` () bool."""
        self.step += 1
        self.total += ~finite
        self.in_a_row.add_(1).mul_(~finite)
        if self.fp16:
            self.since.add_(1).mul_(finite)
            grows = self.since == 2000
            self.loss_scale.mul_(torch.where(finite, 1.0 + grows, 0.5)).clamp_(max=2.0**39)  # a checkpoint's maximum
            self.since *= ~grows
        if self.buffers:  # a batch with a NaN is in BatchNorm's averages, and would stay there
            now = torch.cat([buffer.flatten() for buffer in self.buffers])
            self.good.copy_(torch.where(now.isfinite(), now, self.good))
            parts = self.good.split([buffer.numel() for buffer in self.buffers])
            torch._foreach_copy_(self.buffers, [part.view(x.shape) for part, x in zip(parts, self.buffers)])

    def check(self, where: str) -> None:
        """A MinclipError where a run can't go on: the last steps were all skipped, with no scale left to lower."""
        hopeless = int(self.in_a_row) >= MAX_SKIPPED and self.loss_scale < 2
        what = f"the gradient was not finite {int(self.in_a_row)} times in a row"
        need(not hopeless, f"{where}: {what}: resume with a lower train.lr, or start anew if there is no state.pt yet")

    def progress(self) -> dict[str, float]:
        """What a checkpoint keeps of it."""
        return {"skipped": int(self.total), "loss_scale": float(self.loss_scale) * self.fp16, "since": int(self.since)}


@contextmanager
def explained_memory(config: TrainConfig) -> Iterator[None]:
    """Within it, a GPU's memory that is full is a MinclipError, which names what would make a step smaller."""
    try:
        yield
    except torch.OutOfMemoryError:
        loop, peak = config.train, torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_initialized() else 0
        ways = f"a smaller train.micro_batch than {loop.micro_batch or loop.batch_size}, train.grad_checkpointing"
        ways += f", data.on_gpu no, or a smaller train.batch_size than {loop.batch_size}"
        raise MinclipError(f"the GPU's memory is full, after a peak of {peak:.1f} GB: try {ways}") from None


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Within it, the first Ctrl-C or SIGTERM only makes `interrupted()` true, so that a step ends whole."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        if seen:
            raise KeyboardInterrupt("interrupted twice: the last checkpoint is whole")
        seen.append(number)

    before = {}
    with suppress(ValueError):  # only the main thread receives signals
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

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

from ..batches import Batch
from ..config import DataConfig, LoopConfig, MinclipError, need
from ..losses import clip_loss, siglip_bias, siglip_loss
from ..model import CLIP
from .distributed import all_reduce_sum, world_size
from .parallel import frozen_statistics, is_sharded, local


def pick_device(device: str, precision: str) -> tuple[torch.device, bool]:
    """The device, and whether the towers run in bf16 on it; "auto" takes bf16 where that is faster."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        kind = torch.device(device)
        need(kind.type in ("cpu", "cuda", "mps"), "choose auto, cpu, cuda or mps")
        torch.zeros(1, device=kind)
    except (RuntimeError, AssertionError, MinclipError) as error:
        raise MinclipError(f"train.device {device!r} can't be used here: {str(error).splitlines()[0]}") from None
    return kind, fast_bf16(kind.type) if precision == "auto" else precision == "bf16"


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


def gradients(model: nn.Module, batch: Batch, loop: LoopConfig, *, autocast: bool, seed: int) -> tuple[Tensor, Tensor]:
    """Adds the gradients of the batch's loss to `.grad`, averaged over all processes; returns the loss and the scale.

    `model` is a CLIP, or what `wrap` made of it.  With `loop.micro_batch`, only so many pairs are embedded at a time
    (gradient caching, Gao et al. 2021; so one GPU trains with the paper's batch of 32,768): first all features, without
    a graph; then the loss over all of them and its gradient at each feature; then each micro-batch again, with the same
    dropout, backward from its features' gradients.  `seed` determines everything random.
    """
    clip = model.module if isinstance(model, DistributedDataParallel) else model
    size = loop.micro_batch or len(batch.ids)
    micro_batches = list(zip(batch.images.split(size), batch.ids.split(size)))
    kind = batch.images.device.type
    plain = autocast and kind == "cpu"  # the fused attention's backward pass is several times slower there in bf16

    def embed(number: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed + number)
        attention = sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()
        with torch.autocast(kind, torch.bfloat16, enabled=autocast), attention:
            image, text, scale = model(*micro_batches[number])
        # a bias is treated like the scale; adding 0 makes it part of this micro-batch's graph
        return image, text, scale, *([clip.logit_bias + 0.0] if LOSSES[clip.config.loss].bias else [])

    if len(micro_batches) == 1:
        image, text, *numbers = embed(0)
        loss = contrastive_loss(clip, image, text, numbers=numbers, loop=loop)
        loss.backward()
    else:
        with torch.no_grad():
            features = [embed(number) for number in range(len(micro_batches))]
        image, text = (torch.cat([part[i] for part in features]).requires_grad_() for i in (0, 1))
        numbers = [number.requires_grad_() for number in features[0][2:]]
        del features  # the copies in image and text are enough
        loss = contrastive_loss(clip, image, text, numbers=numbers, loop=loop)
        loss.backward()
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
    kinds = ([x.detach().float() for x in tensors if is_sharded(x) == sharded] for sharded in (False, True))
    whole, sharded = (torch.nn.utils.get_total_norm(kind) for kind in kinds)
    return torch.hypot(whole, sharded.full_tensor() if is_sharded(sharded) else sharded)


@torch.no_grad()
def clip_gradients(parameters: list[nn.Parameter], max_norm: float) -> Tensor:
    """Scales the gradients down to the norm `max_norm` if theirs is larger; returns their norm before."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    total = norm(grads)
    torch._foreach_mul_([local(grad) for grad in grads], (max_norm / (total + 1e-6)).clamp(max=1.0))
    return total


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

"""What a training step is made of: device, optimizer, learning rate, gradients of whole and of cached batches."""

import ctypes
import math
import sys

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..batches import Batch
from ..config import DataConfig, LoopConfig, MinclipError
from ..losses import clip_loss, siglip_loss
from ..model import CLIP
from .checkpointing import frozen_statistics
from .distributed import all_reduce_sum, world_size
from .parallel import exchange, is_shared, local


def pick_device(device: str, precision: str) -> tuple[torch.device, bool]:
    """The device, and whether the towers run in bf16 on it; "auto" takes bf16 where the hardware multiplies it faster."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise MinclipError(f"train.device {device!r} can't be used here: {str(error).splitlines()[0]}") from None
    kind = torch.device(device)
    if precision != "auto":
        return kind, precision == "bf16"
    return kind, fast_bf16(kind.type)


def fast_bf16(kind: str) -> bool:
    """Whether a "cuda", "mps" or "cpu" multiplies bf16 faster than fp32: without the instructions a CPU emulates them, slowly."""
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return kind == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def keep_memory() -> None:
    """Tells glibc to keep freed blocks: it gives those above 32 MB back, and each step would have them cleared anew."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD, bytes
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


EMBEDDINGS = ("token_embedding.weight", "positional_embedding", "class_embedding") + (
    "pos_embed", "_token", "bias_table", "_embeddings.weight", "attention_bias.weight",  # timm's and Hugging Face's
)  # fmt: skip


def parameter_groups(model: CLIP, weight_decay: float, vision_lr: float = 0.0, text_lr: float = 0.0) -> list[dict]:
    """Weight decay, and Muon's steps, for matrices only: norms, biases, embeddings and the temperature have no direction to shrink.

    Single numbers are a group of their own: FSDP shares out all others, and an optimizer's group must be of one kind.
    A tower with a learning rate of its own has groups of its own, with that as their "lr"; what is frozen is in none.
    """
    own = {part: lr for part, lr in (("vision", vision_lr), ("text", text_lr)) if lr}
    groups = []
    for part in ("", *own):
        decayed, spared, numbers = [], [], []
        for name, parameter in model.named_parameters():
            tower = name.split(".")[0]
            if parameter.requires_grad and (tower if tower in own else "") == part:
                matrix = parameter.ndim >= 2 and not name.endswith(EMBEDDINGS)
                (numbers if parameter.ndim == 0 else decayed if matrix else spared).append(parameter)
        rate = {"lr": own[part]} if part else {}
        groups += [
            {"params": decayed, "weight_decay": weight_decay, "muon": True, **rate},
            {"params": spared, "weight_decay": 0.0, **rate},
            {"params": numbers, "weight_decay": 0.0, **rate},
        ]
    return [group for group in groups if group["params"]]


def schedule(progress: float, warmup: float) -> float:
    """The learning rate's share of its peak: linear up over `warmup`, then half a cosine down to 0 (paper, section 2.5)."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)  # not 0: the first step should learn something
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def picture_size(progress: float, data: DataConfig) -> int:
    """The side of the training pictures, in three steps from `data.first_size` to `data.image_size`: a multiple of 16.

    Small pictures cost little and show what is large; a network that has learned that learns the rest faster.
    """
    if not data.first_size:
        return data.image_size
    part = min(2, int(3 * progress)) / 2
    return round((data.first_size + part * (data.image_size - data.first_size)) / 16) * 16


# ---- gradients


def gradients(model: nn.Module, batch: Batch, loop: LoopConfig, autocast: bool, seed: int) -> tuple[Tensor, Tensor]:
    """Adds the gradients of the batch's loss to `.grad`, averaged over all processes; returns the loss and the scale.

    `model` is a CLIP, or what `wrap` made of one.  With `loop.micro_batch` fewer pairs than the batch are embedded at a
    time (gradient caching, Gao et al. 2021; the paper's batch of 32,768 by other means): features without a graph, the loss
    over all of them, then each part again, with the same dropouts, for the loss's gradient at its features.  `seed`
    decides all that is random.
    """
    clip = model.module if isinstance(model, DistributedDataParallel) else model
    size = loop.micro_batch or len(batch.ids)
    parts = list(zip(batch.images.split(size), batch.ids.split(size)))

    def embed(number: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed + number)
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=autocast):
            image, text, scale = model(*parts[number])
        # SigLIP's bias goes the scale's way.  The zero makes it a part of this part's graph.
        return image, text, scale, *([clip.logit_bias + 0.0] if clip.config.loss == "siglip" else [])

    if len(parts) == 1:
        image, text, *numbers = embed(0)
        loss = contrastive_loss(clip, image, text, numbers, loop)
        loss.backward()
    else:
        with torch.no_grad():
            features = [embed(number) for number in range(len(parts))]
        image, text = (torch.cat([of_part[i] for of_part in features]).requires_grad_() for i in (0, 1))
        numbers = [number.requires_grad_() for number in features[0][2:]]
        del features  # of a large batch they are large
        loss = contrastive_loss(clip, image, text, numbers, loop)
        loss.backward()
        shares = list(zip(image.grad.split(size), text.grad.split(size)))
        with frozen_statistics(clip):  # they saw this batch in the first pass
            for number, share in enumerate(shares):
                last = number == len(parts) - 1
                exchange(model, last)
                # the scale belongs to the whole batch: its gradient counts once
                grads = [*share, *(x.grad if last else torch.zeros_like(x) for x in numbers)]
                torch.autograd.backward(embed(number), grads)
    if loop.parallel == "fsdp" and world_size() > 1:
        for parameter in clip.parameters():  # single numbers are not FSDP's
            if parameter.ndim == 0:
                parameter.grad = all_reduce_sum(parameter.grad) / world_size()
    return loss.detach(), numbers[0].detach()


def contrastive_loss(clip: CLIP, image: Tensor, text: Tensor, numbers: list[Tensor], loop: LoopConfig) -> Tensor:
    """The loss of the model's kind, in fp32, over the features of all processes; `numbers` are scale and, for SigLIP, bias."""
    everywhere = world_size() > 1
    pairs = len(image) * world_size()
    chunk = loop.loss_chunk or (max(64, 2**22 // pairs) if pairs > 4096 else 0)  # 16 MB at a time
    if clip.config.loss == "siglip":
        return siglip_loss(image, text, *numbers, chunk, everywhere)
    return clip_loss(image, text, numbers[0], None, chunk, everywhere, loop.label_smoothing)


def norm(tensors: list[Tensor]) -> Tensor:
    """The length of all tensors as one vector, over all processes."""
    kinds: dict[bool, list[Tensor]] = {False: [], True: []}
    for x in tensors:
        kinds[is_shared(x)].append(local(x.detach()).float())
    whole, shared = (
        torch.stack(torch._foreach_norm(kind)).square().sum() if kind else tensors[0].new_zeros(())
        for kind in kinds.values()
    )
    return (whole + (all_reduce_sum(local(shared)) if kinds[True] else 0)).sqrt()


@torch.no_grad()
def clip_gradients(parameters: list[nn.Parameter], most: float) -> Tensor:
    """Shortens the gradient to the length `most` where it is longer; returns its length before."""
    grads = [parameter.grad for parameter in parameters if parameter.grad is not None]
    length = norm(grads)
    torch._foreach_mul_([local(grad) for grad in grads], (most / (length + 1e-6)).clamp(max=1.0))
    return length

"""Wraps a model for training (gradient checkpointing, torch.compile, DDP, FSDP2), and gets the whole model back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from ..config import LoopConfig, MinclipError, need
from ..model import CLIP
from ..weights.towers import synchronize_norms
from .distributed import world_size


def wrap(model: CLIP, loop: LoopConfig) -> nn.Module:
    """Applies gradient checkpointing and torch.compile as `loop` says, and DDP or FSDP2 with several processes."""
    device, towers = model.device, (model.vision, model.text)
    if loop.grad_checkpointing:
        both = loop.compile and batch_norms(model)  # the compiler can't trace the frozen statistics
        need(not both, "train.compile excludes train.grad_checkpointing in a model with BatchNorm: choose one")
        for tower in towers:
            recompute_blocks(tower)
    if world_size() > 1 and device.type == "cuda":
        synchronize_norms(model)
    if loop.compile:
        check_compiler(device)
        for tower in towers:
            # in place, so that names in the state dict don't change; for each shape, but once for all lengths of text,
            # which `gradients` marks as dynamic
            tower.compile(dynamic=False)
    if world_size() == 1:
        return model
    if loop.parallel == "ddp":
        return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for parameter in model.parameters():  # FSDP doesn't support channels-last convolutions
        parameter.data = parameter.data.contiguous()
    mesh = init_device_mesh(device.type, (world_size(),))
    scalars = {parameter for parameter in model.parameters() if parameter.ndim == 0}  # can't be sharded
    for part in (*(block for tower in towers for block in getattr(tower, "blocks", [])), model):
        fully_shard(part, mesh=mesh, ignored_params=scalars)
    return model


def check_compiler(device: torch.device) -> None:
    """Raises MinclipError unless torch.compile finds a compiler."""
    try:
        torch.compile(lambda x: (x + 1).relu())(torch.ones(4, device=device))
    except Exception as error:  # without one, torch raises many types of errors
        needed = "Triton" if device.type == "cuda" else "a C++ compiler such as g++"
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MinclipError(f"train.compile needs {needed}, which can't be used here ({why:.200}): install it") from None


# ---- gradient checkpointing: the backward pass recomputes activations instead of storing them (Chen et al. 2016)


def recompute_blocks(tower: nn.Module) -> None:
    """Makes each block of the tower store only its inputs and recompute its activations in the backward pass."""
    for block in getattr(tower, "blocks", [tower]):
        block.forward = partial(_recomputed, block, block.forward)


def _recomputed(block: nn.Module, forward: Callable, *inputs: Any, **options: Any) -> Any:
    if batch_norms(block):  # the forward pass has updated their statistics; recomputing must not do so again
        options["context_fn"] = lambda: (nullcontext(), frozen_statistics(block))
    # restores the random state for dropout; without gradients it is a plain call
    return checkpoint(forward, *inputs, use_reentrant=False, **options)


def batch_norms(module: nn.Module) -> list[nn.Module]:
    return [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Inside the block, BatchNorm still normalizes by the batch, but its running statistics don't change."""
    before = [(buffer, buffer.clone()) for norm in batch_norms(module) for buffer in norm.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)  # through .data, since the graph of a backward pass may hold the buffer


# ---- a model across several processes


def whole_model(model: nn.Module) -> CLIP:
    """The CLIP inside what `wrap` returned; with FSDP, a copy on each process's CPU, and all processes must call it."""
    if isinstance(model, DistributedDataParallel):
        return model.module
    if not any(map(is_sharded, model.parameters())):
        return model
    whole = CLIP(model.config)
    # one tensor at a time, so that a GPU holds only one whole tensor beside its shard
    whole.load_state_dict({n: (x.full_tensor() if is_sharded(x) else x).cpu() for n, x in model.state_dict().items()})
    return whole


def local(x: Tensor) -> Tensor:
    """This process's shard of a tensor that FSDP has sharded (a DTensor); any other tensor unchanged."""
    return x.to_local() if is_sharded(x) else x


def is_sharded(x: Tensor) -> bool:
    return hasattr(x, "to_local")  # isinstance would need DTensor, whose import takes half a second

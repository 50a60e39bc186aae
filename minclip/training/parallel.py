"""Preparing a model for training: recomputed, compiled, one of many processes; and seeing it whole again."""

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..config import LoopConfig, MinclipError
from ..model import CLIP
from ..weights.towers import synchronize_norms
from .checkpointing import has_batch_norm, recompute_blocks
from .distributed import world_size


def wrap(model: CLIP, loop: LoopConfig) -> nn.Module:
    """The model as it is trained: recomputed and compiled by config, in DDP or FSDP2 if there are several processes."""
    device, towers = model.device, (model.vision, model.text)
    if loop.grad_checkpointing:
        if loop.compile and has_batch_norm(model):
            both = "train.compile and train.grad_checkpointing"  # the compiler can't trace the frozen statistics
            raise MinclipError(f"{both} exclude each other in a model with BatchNorm: choose one")
        for tower in towers:
            recompute_blocks(tower)
    if world_size() > 1 and device.type == "cuda":
        synchronize_norms(model)
    if loop.compile:
        check_compiler(device)
        for tower in towers:
            tower.compile()  # in place: names in the state stay what they are
    if world_size() == 1:
        return model
    if loop.parallel == "ddp":
        return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for parameter in model.parameters():  # FSDP takes no channels-last convolutions
        parameter.data = parameter.data.contiguous()
    mesh = init_device_mesh(device.type, (world_size(),))
    numbers = {parameter for parameter in model.parameters() if parameter.ndim == 0}  # can't be cut into shards
    for part in (*(block for tower in towers for block in getattr(tower, "blocks", [])), model):
        fully_shard(part, mesh=mesh, ignored_params=numbers)
    return model


def check_compiler(device: torch.device) -> None:
    """Raises MinclipError unless torch.compile finds a compiler."""
    try:
        torch.compile(lambda x: (x + 1).relu())(torch.ones(4, device=device))
    except Exception as error:  # its absence raises many kinds, deep inside
        needed = "Triton" if device.type == "cuda" else "a C++ compiler such as g++"
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise MinclipError(f"train.compile needs {needed}, which can't be used here ({why:.200}): install it") from None


def whole_model(model: nn.Module) -> CLIP:
    """The CLIP inside what `wrap` returned; with FSDP, a copy on the CPU of each process, which all must call for."""
    if isinstance(model, DistributedDataParallel):
        return model.module
    if not any(map(is_sharded, model.parameters())):
        return model
    whole = CLIP(model.config)
    # one tensor after the other, so that no GPU holds more than one whole tensor beside its shard
    whole.load_state_dict({n: (x.full_tensor() if is_sharded(x) else x).cpu() for n, x in model.state_dict().items()})
    return whole


def average_gradients(model: nn.Module, on: bool) -> None:
    """Whether the next backward pass averages the gradients over the processes: once a step is enough."""
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = on
    elif hasattr(model, "set_requires_gradient_sync"):  # FSDP
        model.set_requires_gradient_sync(on)


def local(x: Tensor) -> Tensor:
    """This process's shard of a tensor that FSDP has sharded (a DTensor); any other tensor itself."""
    return x.to_local() if is_sharded(x) else x


def is_sharded(x: Tensor) -> bool:
    return hasattr(x, "to_local")  # isinstance would import DTensor, half a second that most runs have no use for

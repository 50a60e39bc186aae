"""What is done to a model before it is trained, compiled and as one of many processes, and how to see it whole again."""

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..config import LoopConfig, MinclipError
from ..model import CLIP
from ..weights.towers import HuggingFaceTower, TimmTower, synchronize_norms
from .distributed import world_size


def wrap(model: CLIP, loop: LoopConfig) -> nn.Module:
    """The model as it is trained: checkpointed and compiled by config, and one of many where there are several processes."""
    if loop.grad_checkpointing:
        for part in model.modules():
            if hasattr(part, "checkpointing"):
                part.checkpointing = True
            elif isinstance(part, TimmTower | HuggingFaceTower):
                part.checkpoint()
    device = model.device
    if world_size() > 1 and device.type == "cuda":
        synchronize_norms(model)
    if loop.compile:
        check_compiler(device)
        model.vision.compile()  # in place: names in the state stay what they are
        model.text.compile()
    if world_size() == 1:
        return model
    if loop.parallel == "ddp":
        return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    for parameter in model.parameters():  # FSDP takes no channels-last convolutions
        parameter.data = parameter.data.contiguous()
    mesh = init_device_mesh(device.type, (world_size(),))
    numbers = {parameter for parameter in model.parameters() if parameter.ndim == 0}
    blocks = [block for tower in (model.vision, model.text) for block in tower.modules() if hasattr(block, "mlp")]
    for block in blocks:
        fully_shard(block, mesh=mesh)
    return fully_shard(model, mesh=mesh, ignored_params=numbers)


def check_compiler(device: torch.device) -> None:
    """A MinclipError where torch.compile has no compiler to work with."""
    try:
        torch.compile(lambda x: (x + 1).relu())(torch.ones(4, device=device))
    except Exception as error:  # whatever the compiler's absence raises, deep inside
        raise MinclipError(
            f"train.compile needs a compiler ({'Triton' if device.type == 'cuda' else 'a C++ one, such as g++'}) and can't use one here ({(str(error).strip() or type(error).__name__).splitlines()[0]:.200}); install it, or leave train.compile out"
        ) from None


def whole_model(model: nn.Module) -> CLIP:
    """The CLIP in what `wrap` made of it; of shares a copy on the CPU of each process, so all must call this."""
    if isinstance(model, DistributedDataParallel):
        return model.module
    if not any(map(is_shared, model.parameters())):
        return model
    whole = CLIP(model.config)
    # one tensor after the other, so that no GPU holds more than one of them whole beside its share
    values = {n: (x.full_tensor() if is_shared(x) else x).cpu() for n, x in model.state_dict().items()}
    whole.load_state_dict(values)
    return whole


def exchange(model: nn.Module, on: bool) -> None:
    """Whether the next backward pass averages the gradients over the processes: once a step is enough."""
    if isinstance(model, DistributedDataParallel):
        model.require_backward_grad_sync = on
    elif hasattr(model, "set_requires_gradient_sync"):  # FSDP
        model.set_requires_gradient_sync(on)


def local(x: Tensor) -> Tensor:
    """This process's share of a tensor that FSDP shares out (a DTensor); any other tensor itself."""
    return x.to_local() if is_shared(x) else x


def is_shared(x: Tensor) -> bool:
    return hasattr(x, "to_local")  # isinstance would import DTensor, half a second that most runs have no use for

"""What is measured while training: the model's FLOPs, the machine's, the memory; and TensorBoard."""

import statistics
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ..batches import Batch
from ..config import MinclipError
from ..model import CLIP


def flops_per_pair(model: CLIP, batch: Batch, autocast: bool) -> float:
    """Floating-point operations of matrix products and convolutions for one pair, forward and backward.

    Counted on the first pairs of a batch; backward has two products for each one forward, hence the factor 3.  What is
    computed twice to save memory counts once, so that utilisation tells of the work that was needed.
    """
    few = slice(min(8, len(batch.ids)))
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with (
        torch.no_grad(),
        torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []),
        torch.autocast(model.device.type, torch.bfloat16, enabled=autocast),
        torch.compiler.set_stance("force_eager"),  # compiled kernels aren't counted
        sdpa_kernel(SDPBackend.MATH),  # nor is every fused attention kernel
        FlopCounterMode(display=False) as counter,
    ):
        model(batch.images[few], batch.ids[few])
    for name, buffer in model.named_buffers():  # BatchNorm has seen nothing
        buffer.copy_(buffers[name])
    return 3 * counter.get_total_flops() / len(batch.ids[few])


def peak_flops(device: torch.device, autocast: bool) -> float:
    """Operations a second that the device reaches in a large product of matrices, in the precision of the towers."""
    size = 8192 if device.type == "cuda" else 2048
    x = torch.randn(size, size, device=device, dtype=torch.bfloat16 if autocast else torch.float32)
    wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device.type, lambda: None)
    seconds = []
    for _ in range(6):
        wait()
        start = time.perf_counter()
        y = x @ x
        wait()
        seconds.append(time.perf_counter() - start)
    del x, y
    if device.type == "cuda":  # these two matrices are no part of the run's memory
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return 2 * size**3 / statistics.median(seconds[1:])


def memory_gb(device: torch.device) -> float:
    """Most memory that was used so far, GB: of the GPU by tensors, of a CPU by the process; 0 where the system doesn't tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    try:
        import resource  # not on Windows
    except ImportError:
        return 0.0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def tensorboard(folder: Path, step: int) -> Any:
    """A writer of TensorBoard's files in the run's folder `tensorboard`, which forgets what came after `step`."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MinclipError("train.tensorboard needs TensorBoard: pip install tensorboard") from None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1, flush_secs=10)


def log_scalars(writer: Any, line: dict[str, Any], prefix: str = "train") -> None:
    """Every number of a line of metrics.jsonl, groups within it under their names."""
    for name, value in line.items():
        if isinstance(value, dict):
            log_scalars(writer, {"step": line["step"], **value}, name)
        elif name != "step" and value is not None:
            writer.add_scalar(f"{prefix}/{name}", value, line["step"])


def snapshot(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Copies, to see later how far a step went, or to go back."""
    return [x.detach().clone() for x in tensors]

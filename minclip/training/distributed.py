"""The few lines that torchrun needs: who am I, what do the others have, and do we agree."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..config import MinclipError


def start(device: str, timeout: float = 1800) -> str:
    """Joins the processes that torchrun started and returns this one's device; without torchrun, `device` as it is.

    On "auto" and "cuda" each process takes the GPU of its local rank.  A process that waits for another one longer than
    `timeout` seconds ends with an error instead of hanging.
    """
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():  # schedulers set some of them, torchrun all
        return device
    local = local_rank()
    if device in ("auto", "cuda") and torch.cuda.is_available():
        if local >= torch.cuda.device_count():
            raise MinclipError(
                f"torchrun started {local + 1} processes or more on a machine with {torch.cuda.device_count()} GPUs: one process a GPU"
            )
        device = f"cuda:{local}"
        torch.cuda.set_device(device)
    elif device == "auto":
        device = "cpu"
    if not dist.is_initialized():
        # gloo beside NCCL, for the few numbers that the processes agree on without waiting for the GPU
        backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
        atexit.register(stop)
    return device


def stop() -> None:
    """Leaves the group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number among all, 0 where it is alone; process 0 writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int:
    """This process's number on its machine, as torchrun tells it, also before the processes have found each other."""
    return int(os.environ.get("LOCAL_RANK", 0))


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_gather(x: Tensor) -> Tensor:
    """The (b, …) of all processes one below the other, (W · b, …), without a graph; all must have one shape."""
    if world_size() == 1:
        return x
    out = x.new_empty(world_size() * len(x), *x.shape[1:])
    dist.all_gather_into_tensor(out, x.contiguous())
    return out


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum over all processes, in place and returned."""
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def all_reduce_max(x: Tensor) -> Tensor:
    """The elementwise maximum over all processes, in place and returned."""
    if world_size() > 1:
        dist.all_reduce(x, dist.ReduceOp.MAX)
    return x


def reduce_scatter_rows(x: Tensor) -> Tensor:
    """This process's rows of `all_gather`'s order, (W · b, …) -> (b, …), summed over all processes."""
    if world_size() == 1:
        return x
    out = x.new_empty(len(x) // world_size(), *x.shape[1:])
    dist.reduce_scatter_tensor(out, x)
    return out


def ring_shift(x: Tensor) -> Tensor:
    """Sends `x` to the next process and returns what the previous one sent: after W times it is home again."""
    size, me = world_size(), rank()
    if size == 1:
        return x
    x = x.contiguous()
    out = torch.empty_like(x)
    sends = [
        dist.P2POp(dist.isend, x, (me + 1) % size),
        dist.P2POp(dist.irecv, out, (me - 1) % size),
    ]
    for request in dist.batch_isend_irecv(sends):
        request.wait()
    return out


def synchronize_clock(seconds: float, stop: bool) -> tuple[float, bool]:
    """One clock and one decision for all: the longest time, and whether anybody wants to stop."""
    longest, stopping = all_reduce_max(torch.tensor([seconds, float(stop)], dtype=torch.float64)).tolist()
    return longest, bool(stopping)


def barrier() -> None:
    """Goes on when all processes have come here."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def on_each_machine_once() -> Iterator[None]:
    """The first process of each machine goes through the block, then the others: what it leaves on the disk, they find."""
    later = local_rank() > 0
    if later:
        barrier()
    yield
    if not later:
        barrier()


def all_gather_object(value: Any) -> list[Any]:
    """`value` as each process has it, by rank."""
    if world_size() == 1:
        return [value]
    out: list[Any] = [None] * world_size()
    dist.all_gather_object(out, value)
    return out

"""Rank, collectives and shared decisions, with several processes under torchrun or with one."""

import atexit
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ..config import need


def start(device: str, timeout: float = 1800) -> str:
    """Joins the process group that torchrun started and returns this process's device; without torchrun, `device`.

    With "auto" and "cuda", each process takes the GPU of its local rank.  A process that waits for another one for more
    than `timeout` seconds ends with an error instead of hanging.  MinclipError: more processes than GPUs.
    """
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys():  # torchrun sets all; some schedulers set a few
        return device
    gpu_missing = device.startswith("cuda") and not torch.cuda.is_available()
    need(not gpu_missing, f"train.device {device!r} can't be used here: PyTorch finds no CUDA GPU; choose auto or cpu")
    if device in ("auto", "cuda") and torch.cuda.is_available():
        number, gpus = local_rank() + 1, torch.cuda.device_count()
        need(number <= gpus, f"torchrun started {number} processes on a machine with {gpus} GPUs: start one per GPU")
        device = f"cuda:{local_rank()}"
        torch.cuda.set_device(device)
    device = "cpu" if device == "auto" else device
    if not dist.is_initialized():
        # gloo beside NCCL: the clock and decisions are CPU tensors, whose exchange doesn't wait for the GPU
        backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
        atexit.register(stop)
    return device


def stop() -> None:
    """Leaves the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number among all, from 0; process 0 writes the files."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_rank() -> int:
    """This process's number on its machine, from 0; known even before the process group exists."""
    return int(os.environ.get("LOCAL_RANK", 0))


def world_size() -> int:
    """The number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def all_gather(x: Tensor) -> Tensor:
    """Concatenates the `x` of all W processes, (b, …) -> (W · b, …), without gradients; shapes must be equal."""
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
    """Sums `x` over all processes and keeps this one's rows, (W · b, …) -> (b, …), in the order of `all_gather`."""
    if world_size() == 1:
        return x
    out = x.new_empty(len(x) // world_size(), *x.shape[1:])
    dist.reduce_scatter_tensor(out, x)
    return out


def ring_shift(x: Tensor) -> Tensor:
    """Sends `x` to the next process and returns what the previous one sent; after W shifts each has its own again."""
    size, me, x = world_size(), rank(), x.contiguous()
    if size == 1:
        return x
    out = torch.empty_like(x)
    both = [dist.P2POp(dist.isend, x, (me + 1) % size), dist.P2POp(dist.irecv, out, (me - 1) % size)]
    for request in dist.batch_isend_irecv(both):  # together: two sends that wait for each other would hang
        request.wait()
    return out


def synchronize_clock(seconds: float, stop: bool) -> tuple[float, bool]:
    """One clock and one decision for all processes: the longest time, and whether any of them has to stop."""
    longest, stopping = all_reduce_max(torch.tensor([seconds, float(stop)], dtype=torch.float64)).tolist()
    return longest, bool(stopping)


def barrier() -> None:
    """Waits until all processes have reached this point."""
    if world_size() > 1:
        dist.barrier()


@contextmanager
def on_each_machine_once() -> Iterator[None]:
    """The first process of each machine runs the block before the others, which can then use the files it wrote."""
    if local_rank() > 0:
        barrier()
    yield
    if local_rank() == 0:
        barrier()


def all_gather_object(value: Any) -> list[Any]:
    """The `value` of each process, by rank; any object that can be pickled."""
    values = [value] * world_size()
    if world_size() > 1:
        dist.all_gather_object(values, value)
    return values

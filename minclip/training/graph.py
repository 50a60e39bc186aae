"""A training step as one launch: recorded once for each shape of batch (a CUDA graph), then replayed.

A small model's step is a thousand launches, each of which takes the host longer than the GPU needs to carry it out.
"""

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..batches import Batch
from ..config import LoopConfig
from ..model import CLIP
from .bars import tqdm
from .distributed import world_size

Step = Callable[[Batch, int | None], tuple[Tensor, ...]]  # a batch and a seed (None sets none) -> what is logged
SMALL = 30_000_000  # parameters: a larger model's launches take the host less time than the GPU
EAGER_STEPS = 3  # of each shape before it is recorded, in which libraries set themselves up


def pays(clip: CLIP, loop: LoopConfig) -> bool:
    """Whether steps should be recorded: those of a small model on one GPU, in one piece."""
    whole = not (loop.compile or loop.micro_batch or loop.grad_checkpointing)
    small = sum(parameter.numel() for parameter in clip.parameters()) < SMALL
    return loop.cuda_graph == "auto" and clip.device.type == "cuda" and world_size() == 1 and whole and small


class Recorded:
    """`step`, replayed; it may read nothing back from the GPU.  Its results hold until it is called again."""

    def __init__(self, step: Step, clip: CLIP, optimizer: Optimizer) -> None:
        self.step, self.clip, self.failed = step, clip, False
        self.seen: Counter[tuple] = Counter()
        self.recordings: dict[tuple, tuple[torch.cuda.CUDAGraph, Batch, tuple[Tensor, ...]]] = {}
        for group in optimizer.param_groups:  # a plain number would be recorded with the value that it has then
            group.update(lr=torch.tensor(float(group["lr"]), device=clip.device), capturable=True)

    def __call__(self, batch: Batch, seed: int) -> tuple[Tensor, ...]:
        shape: tuple[Any, ...] = batch.images.shape, batch.ids.shape, getattr(self.clip.vision, "patch_dropout", None)
        self.seen[shape] += 1
        if not self.failed:
            try:
                return self.recorded(shape, batch, seed)
            except RuntimeError as error:  # a tower of timm's that reads a value back, or a GPU with too little memory
                self.failed = True
                tqdm.write(f"note: this model's steps can't be recorded, and will be slower: {error!s:.200}")
            self.recordings.clear()  # after `except`, which keeps the failed step's memory alive
            torch.cuda.empty_cache()
        return self.step(batch, seed)

    def recorded(self, shape: tuple, batch: Batch, seed: int) -> tuple[Tensor, ...]:
        """A step: launched, recorded, or replayed."""
        if self.seen[shape] < EAGER_STEPS:
            return self.step(batch, seed)
        if self.seen[shape] == EAGER_STEPS:
            return self.rehearse(batch, seed)
        if shape not in self.recordings:
            self.recordings[shape] = self.record(batch)
        graph, inputs, results = self.recordings[shape]
        inputs.images.copy_(batch.images)
        inputs.ids.copy_(batch.ids)
        torch.manual_seed(seed)  # recorded dropout draws from the generator as it is now
        graph.replay()
        return results

    def rehearse(self, batch: Batch, seed: int) -> tuple[Tensor, ...]:
        """A step as usual, but reading a value back raises a RuntimeError.

        In a recording it would, too, but PyTorch's allocator never recovers from one that fails.
        """
        before = torch.cuda.get_sync_debug_mode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that this mode may miss something
            torch.cuda.set_sync_debug_mode("error")
        try:
            return self.step(batch, seed)
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def record(self, batch: Batch) -> tuple[torch.cuda.CUDAGraph, Batch, tuple[Tensor, ...]]:
        """The graph of a step, which has not been carried out yet, with its inputs and its results."""
        graph, inputs = torch.cuda.CUDAGraph(), Batch(batch.images.clone(), batch.ids.clone())
        # all in the same memory: no two of them run at once, and no step needs anything of an earlier one's
        pool = next((earlier.pool() for earlier, *_ in self.recordings.values()), None)
        stay = torch.cuda.stream(torch.cuda.current_stream())  # a failed recording would leave us in its own stream
        # only this thread is watched meanwhile: others prepare batches and write checkpoints
        with stay, torch.cuda.graph(graph, pool, capture_error_mode="thread_local"):
            results = self.step(inputs, None)
        return graph, inputs, results

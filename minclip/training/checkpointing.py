"""Gradient checkpointing: activations are computed again in the backward pass instead of kept (Chen et al. 2016)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute_blocks(tower: nn.Module) -> None:
    """From now on each block of the tower keeps its inputs only, wherever gradients are needed."""
    for block in getattr(tower, "blocks", [tower]):
        block.forward = partial(_recomputed, block, block.forward)


def _recomputed(block: nn.Module, forward: Callable, *inputs: Any, **options: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **options)
    # BatchNorm counts a batch in the forward pass; the second computation must not count it again
    second = {"context_fn": lambda: (nullcontext(), frozen_statistics(block))} if has_batch_norm(block) else {}
    return checkpoint(
        forward, *inputs, use_reentrant=False, **second, **options
    )  # restores the random state for dropout


def has_batch_norm(module: nn.Module) -> bool:
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Within it BatchNorm still normalizes by the batch, but its running statistics don't change."""
    norms = [part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    before = [(norm.momentum, norm.num_batches_tracked.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)

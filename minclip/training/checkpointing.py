"""Computing twice instead of keeping: gradient checkpointing, and what must not happen the second time."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run(module: nn.Module, checkpointing: bool, *inputs: Any) -> Any:
    """`module(*inputs)`; with `checkpointing`, and gradients, its inside is computed again in the backward pass (Chen et al. 2016)."""
    if not (checkpointing and torch.is_grad_enabled()):
        return module(*inputs)
    again = (lambda: (nullcontext(), frozen_statistics(module))) if has_statistics(module) else None
    options = {} if again is None else {"context_fn": again}
    return checkpoint(module, *inputs, use_reentrant=False, **options)  # restores the random state, for dropout


def has_statistics(module: nn.Module) -> bool:
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in module.modules())


@contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Within it BatchNorm still normalises by the batch, but its running statistics stand still: they saw the batch already."""
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

"""A moving average of the weights (EMA), which is often better than the weights of any one step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .parallel import local


class Average:
    """A moving average of a model's weights and statistics (EMA), each process of its own share.

    The decay begins smaller, at (1 + t)/(10 + t) after t steps, so that the average soon forgets the random start.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.model = decay, model
        self.restart()

    def restart(self) -> None:
        """Begins at the model as it is now."""
        self.values = [local(x.detach()).clone() for x in self._tensors()]

    def _tensors(self) -> list[Tensor]:
        clip = self.model.module if isinstance(self.model, DistributedDataParallel) else self.model
        return [x for x in (*clip.parameters(), *clip.buffers()) if x.is_floating_point()]

    @torch.no_grad()
    def update(self, steps: int) -> None:
        decay = min(self.decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_(self.values, [local(x.detach()) for x in self._tensors()], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within it the model has the averages, and afterwards its own weights again."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """The averages into the model, its own weights here."""
        for x, value in zip(self._tensors(), self.values):
            own = local(x.detach()).clone()
            local(x.detach()).copy_(value)
            value.copy_(own)

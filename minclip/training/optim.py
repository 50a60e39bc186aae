"""Muon (Jordan et al. 2024): AdamW, but for matrices, whose momentum is made orthogonal before each step."""

import torch
from torch import Tensor

from .engine import fast_bf16


class Muon(torch.optim.AdamW):
    """AdamW for all groups but those with `"muon": True`: these hold weights (out, …) of layers, taken as matrices (out, rest).

    A gradient's few large singular values drown the rest; with all of them near 1 each direction learns at the same pace.
    The step's length is that of AdamW's (0.2 · √max(out, rest), Liu et al. 2025), so that both kinds take one learning rate.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group.get("muon")]
            super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            if group.get("muon"):
                for weight in group["params"]:
                    if weight.grad is not None:
                        self._step_of(weight, group["lr"], group["betas"][0], group["weight_decay"])

    def _step_of(self, weight: Tensor, lr: float, beta: float, weight_decay: float) -> None:
        state = self.state[weight]
        if not state:  # a step, because AdamW looks for one when it reads a state back
            state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(weight)
        momentum = state["momentum"].lerp_(weight.grad, 1 - beta)
        ahead = weight.grad.lerp(momentum, beta).flatten(1)  # Nesterov's
        weight.mul_(1 - lr * weight_decay)
        weight.add_(orthogonal(ahead).view_as(weight), alpha=-0.2 * lr * max(ahead.shape) ** 0.5)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The matrix with its singular values pulled to about 1 (0.7 to 1.2), (m, n) -> (m, n) fp32: Newton and Schulz's iteration.

    Jordan's quintic, whose slope of 3.4445 at 0 is why five steps are enough; bf16 is exact enough for it, where it is fast.
    """
    x = matrix.bfloat16() if fast_bf16(matrix.device.type) else matrix.float()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).float()

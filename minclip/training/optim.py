"""The optimizers and their parameter groups: AdamW and Muon (Jordan et al. 2024); EMA, a moving average of weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ..config import LoopConfig
from ..model import CLIP
from .parallel import local


class AdamW(torch.optim.AdamW):
    """AdamW for which nothing changes in a step whose `found_inf`, a tensor on its device, is 1."""

    def step(self, closure: None = None) -> None:
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None and found_inf.device.type == "mps" and found_inf:  # there, fused kernels ignore it
            return
        super().step(closure)


class Muon(AdamW):
    """AdamW, except for groups with `"muon": True`: weights (out, …) of layers, updated as matrices (out, rest).

    A few large singular values dominate the gradient of a matrix.  Muon makes its momentum orthogonal before each step,
    so that all directions learn at the same pace.  The update has the length of AdamW's (0.2 · √max(out, rest), Liu et
    al. 2025), so that one learning rate suits both kinds.
    """

    dtype = torch.float32  # of the iteration in `orthogonal`

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group.get("muon")]
            super().step(closure)
        finally:
            self.param_groups = groups
        # 1, or 0 where `found_inf` says that the gradients are not finite: nothing changes then, as in fused AdamW
        used = 1 - torch.as_tensor(getattr(self, "found_inf", 0.0), device=groups[0]["params"][0].device)
        for group in (group for group in groups if group.get("muon")):
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for weight in (weight for weight in group["params"] if weight.grad is not None):
                by_shape.setdefault(weight.shape, []).append(weight)
            for weights in by_shape.values():
                self._update(weights, group, used)

    def _update(self, weights: list[nn.Parameter], group: dict[str, Any], used: Tensor) -> None:
        """One step of weights of one shape, as one batch of matrices: a GPU spends longer on launching than on one."""
        lr, beta = group["lr"], group["betas"][0]
        for state, weight in ((self.state[weight], weight) for weight in weights if not self.state[weight]):
            state["step"], state["momentum"] = torch.zeros(()), torch.zeros_like(weight)  # AdamW reads the step back
        grads = torch.stack([weight.grad.flatten(1) for weight in weights])  # (K, out, rest)
        grads = torch.where(used > 0, grads, 0.0)
        momenta = [self.state[weight]["momentum"] for weight in weights]
        momentum = torch.stack([x.flatten(1) for x in momenta]).lerp(grads, (1 - beta) * used)
        updates = orthogonal(grads.lerp(momentum, beta), dtype=self.dtype)  # Nesterov momentum
        updates *= -0.2 * lr * max(updates.shape[1:]) ** 0.5 * used
        shape = weights[0].shape
        torch._foreach_copy_(momenta, [x.view(shape) for x in momentum])
        torch._foreach_mul_(weights, 1 - lr * group["weight_decay"] * used)
        torch._foreach_add_(weights, [x.view(shape) for x in updates])


def orthogonal(matrices: Tensor, *, steps: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Matrices (…, m, n) with singular values of about 1 (0.7 to 1.2), in fp32, by a Newton-Schulz iteration.

    Jordan's quintic polynomial has a slope of 3.4445 at 0, so five steps are enough, and bf16 is exact enough.
    """
    x = matrices.to(dtype).view(-1, *matrices.shape[-2:])
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x  # the smaller square
    for _ in range(steps):  # x = 3.4445 x + (-4.7750 s + 2.0315 s s) x with s = x xᵀ, a product and a sum in one call
        s = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
    return (x.mT if tall else x).float().view(matrices.shape)


EMBEDDINGS = ("token_embedding.weight", "positional_embedding", "class_embedding") + (
    "pos_embed", "_token", "bias_table", "_embeddings.weight", "attention_bias.weight",  # timm's and Hugging Face's
)  # fmt: skip


def parameter_groups(model: CLIP, weight_decay: float, *, loop: LoopConfig | None = None) -> list[dict[str, Any]]:
    """Groups for the optimizer: weight decay, and Muon's steps, are for matrices only.

    Norms, biases, embeddings and the temperature are spared: shrinking them regularizes nothing.  Single numbers are a
    group of their own, because FSDP shards all others and a group must be of one kind.  A tower with a learning rate
    of its own, layer decay or a later start (LP-FT) has groups with "lr" and "starts".  Frozen parameters are in none.
    """
    loop, spared = loop or LoopConfig(), {"weight_decay": 0.0}
    kinds = {"matrix": {"weight_decay": weight_decay, "muon": True}, "spared": spared, "number": spared}
    decay, starts = loop.layer_decay, {"starts": loop.heads_first} if loop.heads_first else {}
    rates = {part: getattr(loop, f"{part}_lr") for part in ("vision", "text")}
    rates = {part: own or loop.lr for part, own in rates.items() if own or starts or decay < 1}
    below = {x: n for part in rates if decay < 1 for x, n in levels_below(getattr(model, part)).items()}
    groups: dict[tuple[int, int, int], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            tower, matrix = name.split(".")[0], parameter.ndim >= 2 and not name.endswith(EMBEDDINGS)
            kind, level = "number" if parameter.ndim == 0 else "matrix" if matrix else "spared", below.get(parameter, 0)
            own = {"lr": rates[tower] * decay**level, **starts} if tower in rates else {}
            place = 1 + [*rates].index(tower) if own else 0, level, [*kinds].index(kind)
            groups.setdefault(place, {"params": [], **kinds[kind], **own})["params"].append(parameter)
    return [groups[place] for place in sorted(groups)]  # in the order of saved runs


def levels_below(tower: nn.Module) -> dict[nn.Parameter, int]:
    """How far each parameter is below a tower's top: 0 after the blocks, 1 in the last one, highest before them."""
    blocks = list(getattr(tower, "blocks", ())) or [tower]
    numbers = {x: number for number, block in enumerate(blocks, 1) for x in block.parameters()}
    below, level, top = {}, 0, len(blocks) + 1
    for x in tower.parameters():  # in the order in which they are used; what is between two blocks belongs to the first
        level = numbers.get(x, level if level < len(blocks) else top)
        below[x] = top - level
    return below


def make_optimizer(model: CLIP, loop: LoopConfig, *, autocast: torch.dtype | None = None) -> torch.optim.AdamW:
    """AdamW or Muon over the model's `parameter_groups`; fused: one kernel for all parameters."""
    kind = Muon if loop.optimizer == "muon" else AdamW
    groups = parameter_groups(model, loop.weight_decay, loop=loop)
    optimizer = kind(groups, lr=loop.lr, betas=(loop.beta1, loop.beta2), fused=True)
    optimizer.dtype = torch.bfloat16 if autocast == torch.bfloat16 else torch.float32  # fp16's numbers end too soon
    return optimizer


class EMA:
    """Exponential moving average of a model's weights and buffers; under FSDP each process averages its shard.

    The decay starts lower, at (1 + t)/(10 + t) after t steps, so that the random start is soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.model = decay, model
        self.values = [x.clone() for x in self._tensors()]

    def _tensors(self) -> list[Tensor]:
        tensors = (*self.model.parameters(), *self.model.buffers())
        return [local(x.detach()) for x in tensors if x.is_floating_point()]

    @torch.no_grad()
    def update(self, step: int | Tensor, finite: Tensor | bool = True) -> None:
        """Moves the averages towards the weights after step number `step`, counted from 0, unless it was skipped."""
        decay = torch.as_tensor((1 + step) / (10 + step)).clamp(max=self.decay)
        moves = torch._foreach_sub(self._tensors(), self.values)
        torch._foreach_mul_(moves, (1 - decay) * finite)
        torch._foreach_add_(self.values, moves)

    def swap(self) -> None:
        """Exchanges the model's weights with the averages."""
        for x, value in zip(self._tensors(), self.values):
            own = x.clone()
            x.copy_(value)
            value.copy_(own)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """A context in which the model has the averages, and after which it has its own weights again."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

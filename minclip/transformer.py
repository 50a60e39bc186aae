"""Attention, MLP, Block and Transformer: the trunk that both towers share (Vaswani et al. 2017, pre-norm)."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .training.checkpointing import run


class QuickGELU(nn.Module):
    """x · sigmoid(1.702 x): OpenAI's cheap stand-in for GELU, with which its weights were trained."""

    def forward(self, x: Tensor) -> Tensor:
        # y · sigmoid(y) is one kernel, silu, and keeps one tensor for the backward pass instead of two.  Where there is no
        # backward pass it is done in place: fresh memory costs a CPU as much as the arithmetic.
        return F.silu(1.702 * x, inplace=not torch.is_grad_enabled()).mul_(1 / 1.702)


ACTIVATIONS = {"gelu": nn.GELU, "quick_gelu": QuickGELU}


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x weightᵀ + bias, (…, K) with (N, K) -> (…, N).

    On a CPU a large product in fp32 is computed as the 1×1 convolution that it also is: PyTorch has another library for
    convolutions (oneDNN) than for products, and it is about a tenth faster here (tests/bench/towers.py).
    """
    rows, width = x.shape[:-1].numel(), x.shape[-1]
    large = x.device.type == "cpu" and x.dtype == weight.dtype == torch.float32 and rows >= 256 and width >= 512
    if not large or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    image = x.reshape(1, rows, 1, width).permute(0, 3, 1, 2)  # each row a pixel, channels last
    return F.conv2d(image, weight[:, :, None, None], bias).permute(0, 2, 3, 1).reshape(*x.shape[:-1], -1)


class Linear(nn.Linear):
    """`nn.Linear` through `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


def in_autocast(x: Tensor) -> Tensor:
    """`x` in autocast's dtype where autocast is on: a residual sum in bf16 takes half the memory's time (as in open_clip)."""
    device = x.device.type
    on = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)  # "meta" knows no autocast
    return x.to(torch.get_autocast_dtype(device)) if on else x


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q kᵀ / √d): how much each token (row) looks at each one (column), (B, H, L, d) twice -> (B, H, L, L)."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """The weights times v, (B, H, L, d); `mask`, which broadcasts to (B, H, L, L), is True where a token (row) may look (column)."""
    # One fused kernel.  On a CPU it is the faster one in fp32, but in bf16 the plain products are (tests/bench/towers.py).
    if q.is_cuda or q.dtype == torch.float32:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return attention_weights(q, k, mask) @ v


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` whose output has its input's dtype, also under an autocast that would widen it to fp32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention, (B, L, W) -> (B, L, W), or of another width at its end."""

    def __init__(self, width: int, heads: int, out_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.out = Linear(width, out_width or width)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        past: Tensor | None = None,
        query: Tensor | None = None,
        packing: "Packing | None" = None,
    ) -> Tensor:
        """Attention of all tokens of `x`, or of the tokens `query` (B, Q, W) alone, which then are what comes out.

        `past` are the `keys_values` of tokens that stand before those of `x`; the mask's columns begin with them.  With a
        `packing`, `x` is (T, W): only the products between tokens need rows of one length.
        """
        if query is None:
            qkv = self.qkv(x) if packing is None else packing.pad(self.qkv(x))
            q, k, v = rearrange(qkv, "b l (three h d) -> three b h l d", three=3, h=self.heads)
        else:
            width = x.shape[-1]
            q = linear(query, self.qkv.weight[:width], self.qkv.bias[:width])
            q, (k, v) = rearrange(q, "b l (h d) -> b h l d", h=self.heads), self.keys_values(x, packing)
        if past is not None:
            k, v = (torch.cat([old.expand(len(k), -1, -1, -1), new], dim=2) for old, new in zip(past, (k, v)))
        y = rearrange(attend(q, k, v, mask), "b h l d -> b l (h d)")
        return self.out(y if packing is None or query is not None else packing.pack(y))

    def keys_values(self, x: Tensor, packing: "Packing | None" = None) -> Tensor:
        """What other tokens see of these: (B, L, W), or packed (T, W), -> (2, B, H, L, d)."""
        width = x.shape[-1]
        kv = linear(x, self.qkv.weight[width:], self.qkv.bias[width:])
        kv = kv if packing is None else packing.pad(kv)
        return rearrange(kv, "b l (two h d) -> two b h l d", two=2, h=self.heads)

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The attention weights of `forward`, to look at: (B, L, W) -> (B, H, L, L), each row sums to 1."""
        q, k, _ = rearrange(self.qkv(x), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        return attention_weights(q, k, mask)


class MLP(nn.Module):
    """Two layers with four times the width between them, or `mlp_width`, (B, L, W) -> (B, L, W)."""

    def __init__(self, width: int, activation: str, mlp_width: int = 0) -> None:
        super().__init__()
        self.up = Linear(width, mlp_width or 4 * width)
        self.activation = ACTIVATIONS[activation]()
        self.down = Linear(mlp_width or 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)): the norm stands before, so that the sum runs through untouched."""

    def __init__(self, width: int, heads: int, activation: str, mlp_width: int = 0, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = LayerNorm(width)
        self.mlp = MLP(width, activation, mlp_width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        past: Tensor | None = None,
        query: Tensor | None = None,
        packing: "Packing | None" = None,
    ) -> Tensor:
        """All tokens of `x`, or the tokens `query` (B, Q, W) of it alone; arguments as for `Attention.forward`."""
        y = x if query is None else query
        added = self.attention(self.norm1(x), mask, past, None if query is None else self.norm1(query), packing)
        y = y + self.dropout(added)
        return y + self.dropout(self.mlp(self.norm2(y)))


class Transformer(nn.Module):
    """`layers` blocks, (B, L, W) -> (B, L, W)."""

    def __init__(
        self, width: int, layers: int, heads: int, activation: str, mlp_width: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, activation, mlp_width, dropout) for _ in range(layers))
        # in training: compute each block's inside again in the backward pass instead of keeping it
        self.checkpointing = False
        # OpenAI's initialisation: what adds to the residual sum starts smaller, by the number of additions
        residual = width**-0.5 * (2 * layers) ** -0.5
        for block in self.blocks:
            nn.init.normal_(block.attention.qkv.weight, std=width**-0.5)
            nn.init.normal_(block.attention.out.weight, std=residual)
            nn.init.normal_(block.mlp.up.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.down.weight, std=residual)
            for layer in (block.attention.qkv, block.attention.out, block.mlp.up, block.mlp.down):
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = in_autocast(x)
        for block in self.blocks:
            x = run(block, self.checkpointing, x, mask)
        return x

    def pooled(
        self,
        x: Tensor,
        chosen: Tensor,
        mask: Tensor | None = None,
        past: Sequence[Tensor] | None = None,
        packing: "Packing | None" = None,
    ) -> Tensor:
        """`forward`'s token `chosen` (B,) of each row, (B, L, W) -> (B, W): the last block leaves the others out.

        `mask` is (L, L), or (L, P + L) where `past` holds each block's `keys_values` of P tokens that stand before.  With a
        `packing` of the rows, what it calls padding is not computed.
        """
        past = past or [None] * len(self.blocks)
        rows = torch.arange(len(x), device=x.device)
        x = in_autocast(x)
        if packing is not None:
            x = packing.pack(x)
        for block, before in zip(self.blocks[:-1], past):
            x = run(block, self.checkpointing, x, mask, before, None, packing)
        query = x[rows, chosen] if packing is None else x[packing.place(rows, chosen)]
        row = None if mask is None else mask[chosen][:, None, None, :]
        return self.blocks[-1](x, row, past[-1], query[:, None], packing)[:, 0]

    def keys_values(self, x: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Of each block, what tokens that follow will see of `x`: (B, L, W) -> (2, B, H, L, d) each."""
        return [block.attention.keys_values(block.norm1(y)) for block, y in self._inputs(x, mask)]

    def attention_maps(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Who looks at whom, (B, L, W) -> (layers, B, H, L, L).  Computed here anew; `forward` keeps none of it."""
        return torch.stack([block.attention.weights(block.norm1(y), mask) for block, y in self._inputs(x, mask)])

    def _inputs(self, x: Tensor, mask: Tensor | None) -> Iterator[tuple[Block, Tensor]]:
        for block in self.blocks:
            yield block, x
            x = block(x, mask)


class Packing:
    """Rows of `lengths` (B,) tokens, (B, L, W), as one (T, W) without their padding, and back: T is the sum of the lengths."""

    def __init__(self, lengths: Tensor) -> None:
        self.shape = len(lengths), int(lengths.max())
        self.first = lengths.cumsum(0) - lengths  # where each row begins
        is_token = torch.arange(self.shape[1], device=lengths.device) < lengths[:, None]
        self.tokens = is_token.flatten().nonzero()[:, 0]  # (T,) of B · L places

    def pack(self, x: Tensor) -> Tensor:
        """(B, L, W) -> (T, W)."""
        return _Select.apply(x.flatten(0, 1), self.tokens)

    def pad(self, x: Tensor) -> Tensor:
        """(T, W) -> (B, L, W), with zeros where there is no token."""
        return _Spread.apply(x, self.tokens, self.shape[0] * self.shape[1]).unflatten(0, self.shape)

    def place(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Where the token of `rows` and `columns` lies among the T."""
        return self.first[rows] + columns


class _Select(torch.autograd.Function):
    """x[index] for an index without repeats: its gradient is `_Spread`, where autograd would add up row by row."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.rows = len(x)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Spread.apply(grad, *ctx.saved_tensors, ctx.rows), None


class _Spread(torch.autograd.Function):
    """`rows` rows of zeros, with x in those of `index`: the way back of `_Select`, and its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor, rows: int) -> Tensor:
        ctx.save_for_backward(index)
        return x.new_zeros(rows, x.shape[1]).index_copy_(0, index, x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Select.apply(grad, *ctx.saved_tensors), None, None


def rollout(maps: Tensor) -> Tensor:
    """How much of each token's input reaches each output through all layers, (layers, B, H, L, L) -> (B, L, L).

    Attention rollout (Abnar and Zuidema 2020): the heads' mean, half of it the residual sum's own token, multiplied up.
    """
    maps = maps.mean(dim=2)
    steps = (maps + torch.eye(maps.shape[-1], device=maps.device)) / 2
    out = steps[0]
    for step in steps[1:]:
        out = step @ out
    return out

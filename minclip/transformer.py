"""Attention, MLP, Block and Transformer: the architecture of both towers (Vaswani et al. 2017, pre-norm).

Shapes: B batch, L tokens, W width, H heads, d = W / H.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """x · sigmoid(1.702 x): OpenAI's cheap stand-in for GELU, with which its weights were trained."""

    def forward(self, x: Tensor) -> Tensor:
        # y · sigmoid(y) is silu(y), one kernel that keeps one tensor for the backward pass instead of two
        return F.silu(1.702 * x) / 1.702


ACTIVATIONS = {"gelu": nn.GELU, "quick_gelu": QuickGELU}


class LayerNorm(nn.LayerNorm):
    """`nn.LayerNorm` whose output has the dtype of its input: under autocast, nn.LayerNorm would return fp32."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention, softmax(q kᵀ / √d) v: (B, L, W) -> (B, L, out_width)."""

    def __init__(self, width: int, heads: int, out_width: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)  # queries, keys and values from one matrix product, in this order
        self.out = nn.Linear(width, out_width or width)  # combines the heads' outputs

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`mask` (L, L) bool is True where a token (row) may attend to another one (column); None allows all."""
        q, k, v = rearrange(self.qkv(x), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B, H, L, d), scaled by 1 / √d
        return self.out(rearrange(y, "b h l d -> b l (h d)"))  # concatenate the heads, then combine them

    def pooled(self, x: Tensor, index: Tensor, mask: Tensor | None = None) -> Tensor:
        """Like `forward`, but only for token `index[i]` of row i: (B, L, W), index (B,) -> (B, 1, out_width)."""
        w_q, w_kv = self.qkv.weight.split([x.shape[-1], 2 * x.shape[-1]])
        b_q, b_kv = self.qkv.bias.split([x.shape[-1], 2 * x.shape[-1]])
        # one query per row, but keys and values from all its tokens
        q = rearrange(F.linear(pick(x, index), w_q, b_q), "b l (h d) -> b h l d", h=self.heads)  # (B, H, 1, d)
        k, v = rearrange(F.linear(x, w_kv, b_kv), "b l (two h d) -> two b h l d", two=2, h=self.heads)
        row = None if mask is None else mask[index][:, None, None, :]  # (B, 1, 1, L)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=row)
        return self.out(rearrange(y, "b h l d -> b l (h d)"))

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`forward`'s attention weights, as an explicit matrix: (B, L, W) -> (B, H, L, L); each row sums to 1."""
        q, k, _ = rearrange(self.qkv(x), "b l (three h d) -> three b h l d", three=3, h=self.heads)  # no values
        return attention_weights(q, k, mask)


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q kᵀ / √d), two (B, H, L, d) -> (B, H, L, L): how much a token (row) attends to another one (column)."""
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # dividing by √d keeps their variance near 1 for any d
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))  # before the softmax: the other weights still sum to 1
    return scores.softmax(dim=-1)


class MLP(nn.Module):
    """Two layers with a nonlinearity between them, applied to each token separately: (B, L, W) -> (B, L, W)."""

    def __init__(self, width: int, *, activation: str = "gelu", mlp_width: int | None = None) -> None:
        super().__init__()
        self.up = nn.Linear(width, mlp_width or 4 * width)
        self.activation = ACTIVATIONS[activation]()
        self.down = nn.Linear(mlp_width or 4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))  # (B, L, mlp_width) between the two


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)).

    Pre-norm: normalizing inside each branch leaves the residual stream untouched, so gradients reach every layer.
    """

    def __init__(
        self, width: int, heads: int, *, activation: str = "gelu", mlp_width: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = LayerNorm(width)
        self.mlp = MLP(width, activation=activation, mlp_width=mlp_width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, index: Tensor | None = None) -> Tensor:
        """(B, L, W) -> (B, L, W); with `index` (B,), only that token of each row: (B, 1, W)."""
        h = self.norm1(x)  # the branch reads a normalized copy; x itself passes through unchanged
        if index is None:
            x = x + self.dropout(self.attention(h, mask))
        else:
            x = pick(x, index) + self.dropout(self.attention.pooled(h, index, mask))
        return x + self.dropout(self.mlp(self.norm2(x)))


class Transformer(nn.Module):
    """`layers` blocks, (B, L, W) -> (B, L, W); `options` are those of `Block`."""

    def __init__(self, width: int, layers: int, heads: int, **options: Any) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, **options) for _ in range(layers))
        # OpenAI's initialization: each of the 2 · layers branches adds to the residual stream, whose variance would
        # grow with their number; so the layers that write to it start smaller (as in GPT-2).
        branch_std = width**-0.5 * (2 * layers) ** -0.5
        stds = (width**-0.5, branch_std, (2 * width) ** -0.5, branch_std)
        for block in self.blocks:
            for layer, std in zip((block.attention.qkv, block.attention.out, block.mlp.up, block.mlp.down), stds):
                nn.init.normal_(layer.weight, std=std)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = to_autocast_dtype(x)
        for block in self.blocks:
            x = block(x, mask)
        return x

    def pooled(self, x: Tensor, index: Tensor, mask: Tensor | None = None) -> Tensor:
        """Token `index[i]` of row i of `forward`'s output, (B, L, W) and (B,) -> (B, W).

        The last block computes only these tokens, because nothing reads the others: it saves most of one layer.
        """
        x = to_autocast_dtype(x)
        for block in self.blocks[:-1]:
            x = block(x, mask)
        return self.blocks[-1](x, mask, index)[:, 0]  # (B, 1, W) -> (B, W)

    def attention_maps(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The attention weights of all blocks, (B, L, W) -> (layers, B, H, L, L); `forward` keeps none of them."""
        maps = []
        for block in self.blocks:
            maps.append(block.attention.weights(block.norm1(x), mask))
            x = block(x, mask)
        return torch.stack(maps)


def pick(x: Tensor, index: Tensor) -> Tensor:
    """Token `index[i]` of row i, as a sequence of length 1: (B, L, W), index (B,) -> (B, 1, W)."""
    return x[torch.arange(len(x), device=x.device), index][:, None]


def to_autocast_dtype(x: Tensor) -> Tensor:
    """`x` in autocast's dtype if autocast is on: a residual stream in bf16 halves memory traffic, as in open_clip."""
    device = x.device.type
    if device == "meta" or not torch.is_autocast_enabled(device):  # autocast does not support the meta device
        return x
    return x.to(torch.get_autocast_dtype(device))


def rollout(maps: Tensor) -> Tensor:
    """How much of each input token reaches each output token, (layers, B, H, L, L) -> (B, L, L); rows sum to 1.

    Attention rollout (Abnar and Zuidema 2020): average the heads, give the residual stream half the weight, multiply.
    """
    maps = maps.mean(dim=2)  # (layers, B, L, L)
    steps = (maps + torch.eye(maps.shape[-1], device=maps.device)) / 2
    out = steps[0]  # (B, L, L)
    for step in steps[1:]:
        out = step @ out
    return out

"""Attention, MLP, Block and Transformer: the trunk that both towers share (Vaswani et al. 2017, pre-norm)."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """x · sigmoid(1.702 x): OpenAI's cheap stand-in for GELU, with which its weights were trained."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"gelu": nn.GELU, "quick_gelu": QuickGELU}


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q kᵀ / √d) v over (B, H, L, d); `mask`, which broadcasts to (B, H, L, L), is True where a token (row) may look (column)."""
    if q.is_cuda:  # one fused kernel; on a CPU the plain products are as fast in fp32 and faster in bf16
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(dim=-1) @ v


class Attention(nn.Module):
    """Multi-head self-attention, (B, L, W) -> (B, L, W)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b l (three h d) -> three b h l d", three=3, h=self.heads)
        return self.out(rearrange(attend(q, k, v, mask), "b h l d -> b l (h d)"))

    def one(self, x: Tensor, chosen: Tensor) -> Tensor:
        """What `forward` gives for token `chosen` (B,) of each row under a causal mask, (B, L, W) -> (B, 1, W)."""
        width, weight, bias = x.shape[2], self.qkv.weight, self.qkv.bias
        rows, positions = torch.arange(len(x), device=x.device), torch.arange(x.shape[1], device=x.device)
        q = rearrange(F.linear(x[rows, chosen], weight[:width], bias[:width]), "b (h d) -> b h 1 d", h=self.heads)
        k, v = rearrange(F.linear(x, weight[width:], bias[width:]), "b l (two h d) -> two b h l d", two=2, h=self.heads)
        mask = (positions <= chosen[:, None])[:, None, None, :]
        return self.out(rearrange(attend(q, k, v, mask), "b h 1 d -> b 1 (h d)"))


class MLP(nn.Module):
    """Two layers with four times the width between them, (B, L, W) -> (B, L, W)."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.activation = ACTIVATIONS[activation]()
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x)): the norm stands before, so that the sum runs through untouched."""

    def __init__(self, width: int, heads: int, activation: str) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, activation)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.attention(self.norm1(x), mask)
        return x + self.mlp(self.norm2(x))

    def one(self, x: Tensor, chosen: Tensor) -> Tensor:
        """What `forward` gives for token `chosen` (B,) of each row under a causal mask, (B, L, W) -> (B, W)."""
        rows = torch.arange(len(x), device=x.device)
        y = x[rows, chosen][:, None] + self.attention.one(self.norm1(x), chosen)
        return (y + self.mlp(self.norm2(y)))[:, 0]


class Transformer(nn.Module):
    """`layers` blocks, (B, L, W) -> (B, L, W)."""

    def __init__(self, width: int, layers: int, heads: int, activation: str) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, activation) for _ in range(layers))
        # OpenAI's initialisation: what adds to the residual sum starts smaller, by the number of additions
        residual = width**-0.5 * (2 * layers) ** -0.5
        for block in self.blocks:
            nn.init.normal_(block.attention.qkv.weight, std=width**-0.5)
            nn.init.normal_(block.attention.out.weight, std=residual)
            nn.init.normal_(block.mlp.up.weight, std=(2 * width) ** -0.5)
            nn.init.normal_(block.mlp.down.weight, std=residual)
            for linear in (block.attention.qkv, block.attention.out, block.mlp.up, block.mlp.down):
                nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.blocks:
            x = block(x, mask)
        return x

    def one(self, x: Tensor, mask: Tensor, chosen: Tensor) -> Tensor:
        """`forward` under a causal mask, and only token `chosen` (B,) of it: the last block leaves the others out."""
        for block in self.blocks[:-1]:
            x = block(x, mask)
        return self.blocks[-1].one(x, chosen)

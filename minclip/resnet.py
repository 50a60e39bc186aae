"""ModifiedResNet, CLIP's other image tower, with attention pooling (paper, section 2.4), and SmallResNet for few, small pictures."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import MinclipError, VisionConfig
from .training.checkpointing import run
from .transformer import Attention
from .vision import resize_positions


class ModifiedResNet(nn.Module):
    """Images (B, 3, S, S), float and normalised by the config's mean and std, to (B, D): attention pooling projects, too.

    Three convolutions instead of one begin it; where a stage halves the picture, the mean of 2 × 2 pixels is taken before
    a convolution of stride 1, so that no pixel is skipped (Zhang 2019); attention pools the last grid (`AttentionPool`).
    """

    def __init__(self, config: VisionConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.stem = nn.Sequential(
            ConvNorm(3, width // 2, 3, stride=2), ConvNorm(width // 2, width // 2, 3), ConvNorm(width // 2, width, 3)
        )
        self.stages, channels = nn.ModuleList(), width
        for i, blocks in enumerate(config.stages):
            stage = nn.Sequential()
            for j in range(blocks):
                stage.append(Bottleneck(channels, width * 2**i, stride=2 if i > 0 and j == 0 else 1))
                channels = 4 * width * 2**i
            self.stages.append(stage)
        self.pool = AttentionPool(channels, (config.image_size // 32) ** 2, config.heads, embed_dim)
        # in training: compute each block's inside again in the backward pass instead of keeping it
        self.checkpointing = False
        self.to(memory_format=torch.channels_last)  # a CPU's and a tensor core's favourite order for convolutions

    def embed(self, images: Tensor) -> Tensor:
        """The last stage's grid, (B, 3, S, S) -> (B, 32 · width, S/32, S/32)."""
        size = self.config.image_size
        if images.shape[1:] != (3, size, size):
            raise MinclipError(f"images of shape {tuple(images.shape)}: this tower takes (B, 3, {size}, {size})")
        x = images.contiguous(memory_format=torch.channels_last)
        for layer in self.stem:
            x = layer(x).relu()
        x = F.avg_pool2d(x, 2)
        for block in (block for stage in self.stages for block in stage):
            x = run(block, self.checkpointing, x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        return self.pool(self.embed(images))

    def attention_maps(self, images: Tensor) -> Tensor:
        """Where the pooling looks, (B, 3, S, S) -> (1, B, H, 1, 1 + P): at the grid's mean, then at its P places."""
        return self.pool.attention.weights(self.pool.embed(self.embed(images)))[None, :, :, :1]

    @torch.no_grad()
    def resize(self, image_size: int) -> None:
        """Makes this a tower for images of another size: the pooling's learned positions are interpolated."""
        self.config = replace(self.config, image_size=image_size)
        self.pool.positional_embedding = nn.Parameter(
            resize_positions(self.pool.positional_embedding, image_size // 32, 1)
        )


class ConvNorm(nn.Sequential):
    """A convolution without bias, and BatchNorm."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(after)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions beside a shortcut, (B, C, h, w) -> (B, 4 · width, h/stride, w/stride) (He et al. 2016)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.reduce = ConvNorm(channels, width, 1)
        self.spatial = ConvNorm(width, width, 3)
        self.expand = ConvNorm(width, 4 * width, 1)
        self.shortcut = ConvNorm(channels, 4 * width, 1) if stride > 1 or channels != 4 * width else nn.Identity()
        nn.init.zeros_(self.expand.norm.weight)  # a new block begins as its shortcut (Goyal et al. 2017)

    def forward(self, x: Tensor) -> Tensor:
        y = self.spatial(self.reduce(x).relu()).relu()
        if self.stride > 1:  # anti-aliased: the mean of what a strided convolution would skip
            x, y = F.avg_pool2d(x, self.stride), F.avg_pool2d(y, self.stride)
        return (self.shortcut(x) + self.expand(y)).relu()


class AttentionPool(nn.Module):
    """The grid's mean asks, the mean and the grid answer: (B, W, h, w) -> (B, D), one attention instead of an average."""

    def __init__(self, width: int, places: int, heads: int, embed_dim: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(1 + places, width))
        self.attention = Attention(width, heads, embed_dim)
        for linear in (self.attention.qkv, self.attention.out):
            nn.init.normal_(linear.weight, std=width**-0.5)
            nn.init.zeros_(linear.bias)

    def embed(self, x: Tensor) -> Tensor:
        """The mean and the places as tokens with positions, (B, W, h, w) -> (B, 1 + P, W)."""
        x = rearrange(x, "b w h v -> b (h v) w")
        return torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.attention(x, query=x[:, :1])[:, 0]


class SmallResNet(nn.Module):
    """Small images (B, 3, S, S), float and normalised, to (B, 8 · width) for S = 32 and more: a ResNet that learns from a few thousand.

    Blocks of two 3×3 convolutions (He et al. 2016, the ResNet-18's) in four stages of `width` to 8 · `width` channels.  The
    picture is halved by the first convolution and by each later stage, and never pooled before: details are scarce at
    64 pixels.  The feature is the mean of the last grid, so that pictures of any size do.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = ConvNorm(3, config.width, 3, stride=2)
        self.blocks, channels = nn.ModuleList(), config.width
        for i, blocks in enumerate(config.stages):
            for j in range(blocks):
                self.blocks.append(BasicBlock(channels, config.width * 2**i, stride=2 if i > 0 and j == 0 else 1))
                channels = config.width * 2**i
        self.dropout = nn.Dropout(config.dropout)
        self.checkpointing = False  # as in ModifiedResNet
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise MinclipError(f"images of shape {tuple(images.shape)}: this tower takes (B, 3, S, S)")
        x = self.stem(images.contiguous(memory_format=torch.channels_last)).relu()
        for block in self.blocks:
            x = run(block, self.checkpointing, x)
        return self.dropout(x.mean(dim=(2, 3)))

    def resize(self, image_size: int) -> None:
        """Makes this a tower for images of another size: nothing in it depends on the size."""
        self.config = replace(self.config, image_size=image_size)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut, (B, C, h, w) -> (B, width, h/stride, w/stride)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first, self.second = ConvNorm(channels, width, 3), ConvNorm(width, width, 3)
        self.shortcut = ConvNorm(channels, width, 1) if stride > 1 or channels != width else nn.Identity()
        nn.init.zeros_(self.second.norm.weight)  # a new block begins as its shortcut

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:  # anti-aliased, as in the Bottleneck
            x = F.avg_pool2d(x, self.stride)
        return (self.shortcut(x) + self.second(self.first(x).relu())).relu()

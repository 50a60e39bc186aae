"""ModifiedResNet, CLIP's other image tower (paper, section 2.4), and SmallResNet, for training on few images.

Shapes: B batch, S side of the image in pixels, C channels, h × w the grid, D embedding.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import MinclipError, VisionConfig
from .transformer import Attention
from .vision import check_images, resize_positions


class ModifiedResNet(nn.Module):
    """Images (B, 3, S, S), float and normalized by the config's mean and std, -> (B, D); the pooling also projects.

    Three changes to the ResNet of He et al. 2016: three convolutions instead of one at the start; average pooling where
    a stage halves the grid, so that no pixel is skipped (Zhang 2019); attention instead of the mean at the end.
    """

    projects = True  # its feature is already the embedding

    def __init__(self, config: VisionConfig, embed_dim: int) -> None:
        super().__init__()
        self.config, self.width = config, embed_dim
        width, half = config.width, config.width // 2
        self.stem = nn.Sequential(ConvNorm(3, half, 3, stride=2), ConvNorm(half, half, 3), ConvNorm(half, width, 3))
        self.stages, channels = nn.ModuleList(), width
        for i, blocks in enumerate(config.stages):
            self.stages.append(nn.Sequential())
            for j in range(blocks):
                self.stages[-1].append(Bottleneck(channels, width * 2**i, stride=2 if i > 0 and j == 0 else 1))
                channels = 4 * width * 2**i  # out of this Bottleneck, into the next one
        self.blocks = [block for stage in self.stages for block in stage]  # a plain list, as in VisionTransformer
        self.pool = AttentionPool(channels, (config.image_size // 32) ** 2, config.heads, embed_dim=embed_dim)
        self.to(memory_format=torch.channels_last)  # the fastest memory order for convolutions, on CPU and GPU

    def embed(self, images: Tensor) -> Tensor:
        """The last stage's grid, (B, 3, S, S) -> (B, 32 · width, S/32, S/32)."""
        check_images(images, self.config.image_size)
        x = images.contiguous(memory_format=torch.channels_last)
        for layer in self.stem:  # (B, width, S/2, S/2)
            x = layer(x).relu()
        x = F.avg_pool2d(x, 2)  # (B, width, S/4, S/4)
        for block in self.blocks:  # each stage but the first halves the grid again
            x = block(x)
        return x

    def forward(self, images: Tensor) -> Tensor:
        return self.pool(self.embed(images))

    def attention_maps(self, images: Tensor) -> Tensor:
        """The pooling's attention weights, (B, 3, S, S) -> (1, B, H, 1, 1 + P): the grid's mean, then its P cells."""
        return self.pool.attention.weights(self.pool.embed(self.embed(images)))[None, :, :, :1]

    @torch.no_grad()
    def resize(self, image_size: int) -> None:
        """Switches to another image size; the pooling's learned positions are interpolated."""
        self.config = replace(self.config, image_size=image_size)
        positions = resize_positions(self.pool.positional_embedding, image_size // 32, 1)
        self.pool.positional_embedding = nn.Parameter(positions)


class ConvNorm(nn.Sequential):
    """Convolution and BatchNorm, whose shift replaces a bias: (B, C, h, w) -> (B, after, h/stride, w/stride)."""

    def __init__(self, before: int, after: int, kernel: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(after)


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolutions and a shortcut, (B, C, h, w) -> (B, 4 · width, h/stride, w/stride) (He et al.)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.reduce = ConvNorm(channels, width, 1)
        self.spatial = ConvNorm(width, width, 3)
        self.expand = ConvNorm(width, 4 * width, 1)  # no relu: it is added to the shortcut first
        self.shortcut = ConvNorm(channels, 4 * width, 1) if stride > 1 or channels != 4 * width else nn.Identity()
        # Each block starts as its shortcut alone, so that depth does no harm early in training (Goyal et al. 2017)
        nn.init.zeros_(self.expand.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        y = self.spatial(self.reduce(x).relu()).relu()  # (B, width, h, w): 3×3 is cheap on few channels
        if self.stride > 1:  # the mean of the pixels that a strided convolution would skip (anti-aliasing)
            x, y = F.avg_pool2d(x, self.stride), F.avg_pool2d(y, self.stride)
        return (self.shortcut(x) + self.expand(y)).relu()  # (B, 4 · width, h/stride, w/stride)


class AttentionPool(nn.Module):
    """Attention with the grid's mean as the only query, (B, C, h, w) -> (B, D), in place of average pooling."""

    def __init__(self, width: int, cells: int, heads: int, *, embed_dim: int) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(width**-0.5 * torch.randn(1 + cells, width))
        self.attention = Attention(width, heads, embed_dim)
        for layer in (self.attention.qkv, self.attention.out):
            nn.init.normal_(layer.weight, std=width**-0.5)
            nn.init.zeros_(layer.bias)

    def embed(self, x: Tensor) -> Tensor:
        """The mean and the P = h · w cells as tokens with positions, (B, C, h, w) -> (B, 1 + P, C)."""
        x = rearrange(x, "b w h v -> b (h v) w")  # (B, P, C)
        return torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding  # (B, 1 + P, C)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        first = torch.zeros(len(x), dtype=torch.long, device=x.device)  # only the mean has a query
        return self.attention.pooled(x, first)[:, 0]  # (B, D)


class SmallResNet(nn.Module):
    """Images (B, 3, S, S), float and normalized, S at least 32, -> (B, 8 · width); a few thousand images train it.

    ResNet-18's blocks (He et al. 2016) in four stages of `width` to 8 · `width` channels; the first convolution and
    each later stage halve the grid.  The stem has no pooling, because small images have no detail to spare.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config, self.width = config, 8 * config.width
        self.stem = ConvNorm(3, config.width, 3, stride=2)
        self.blocks, channels = nn.ModuleList(), config.width
        for i, blocks in enumerate(config.stages):
            for j in range(blocks):
                self.blocks.append(BasicBlock(channels, config.width * 2**i, stride=2 if i > 0 and j == 0 else 1))
                channels = config.width * 2**i
        self.dropout = nn.Dropout(config.dropout)
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3:
            raise MinclipError(f"images of shape {tuple(images.shape)}: this tower takes (B, 3, S, S)")
        x = self.stem(images.contiguous(memory_format=torch.channels_last)).relu()  # (B, width, S/2, S/2)
        for block in self.blocks:
            x = block(x)
        return self.dropout(x.mean(dim=(2, 3)))  # (B, 8 · width); a mean takes a grid of any size


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut, (B, C, h, w) -> (B, width, h/stride, w/stride)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first, self.second = ConvNorm(channels, width, 3), ConvNorm(width, width, 3)
        self.shortcut = ConvNorm(channels, width, 1) if stride > 1 or channels != width else nn.Identity()
        nn.init.zeros_(self.second.norm.weight)  # as in the Bottleneck

    def forward(self, x: Tensor) -> Tensor:
        if self.stride > 1:  # anti-aliased, as in the Bottleneck
            x = F.avg_pool2d(x, self.stride)
        return (self.shortcut(x) + self.second(self.first(x).relu())).relu()

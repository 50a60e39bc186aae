"""VisionTransformer: an image as a sequence of patches (Dosovitskiy et al. 2021), with CLIP's norm before the blocks.

Shapes: B batch, S side of the image in pixels, P patches, L = P + 1 tokens with a class token, W width.
"""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from .config import VisionConfig, need
from .transformer import Transformer


class VisionTransformer(nn.Module):
    """Images (B, 3, S, S), float and normalized by the config's mean and std, -> features (B, W).

    The feature is the class token's (`pool="cls"`, as in CLIP) or, without a class token, the mean of the patches.
    """

    def __init__(self, config: VisionConfig, activation: str = "gelu") -> None:
        super().__init__()
        self.config, self.width = config, config.width
        self.patch_dropout = config.patch_dropout  # an attribute, because the training loop turns it off near the end
        patches, scale = (config.image_size // config.patch_size) ** 2, config.width**-0.5  # P, and OpenAI's std
        self.stem = ConvStem(config) if config.stem == "conv" else PatchStem(config)
        if config.pool == "cls":
            self.class_embedding = nn.Parameter(scale * torch.randn(config.width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(patches + (config.pool == "cls"), config.width))
        self.norm_pre = nn.LayerNorm(config.width)  # CLIP's addition to ViT (paper, section 2.4)
        options = {"activation": activation, "mlp_width": config.mlp_width, "dropout": config.dropout}
        self.transformer = Transformer(config.width, config.layers, config.heads, **options)
        self.blocks = [*self.transformer.blocks]  # a plain list: the modules are registered above
        self.norm_post = nn.LayerNorm(config.width)

    def embed(self, images: Tensor) -> Tensor:
        """Patches plus their positions, after the class token if there is one: (B, 3, S, S) -> (B, L, W)."""
        check_images(images, self.config.image_size)
        x = self.stem(images)  # (B, P, W)
        x = x + self.positional_embedding[-x.shape[1] :]  # the class token's position comes first
        if self.training and self.patch_dropout > 0:
            x = drop_patches(x, self.patch_dropout)  # after the positions: a patch that stays keeps its own
        if self.config.pool == "cls":
            first = repeat(self.class_embedding + self.positional_embedding[0], "w -> b 1 w", b=len(x))  # learned
            x = torch.cat([first.to(x.dtype), x], dim=1)
        return self.norm_pre(x)  # (B, L, W)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images)
        if self.config.pool == "cls":
            x = self.transformer.pooled(x, torch.zeros(len(x), dtype=torch.long, device=x.device))
        else:
            x = self.transformer(x).mean(dim=1)  # (B, L, W) -> (B, W)
        return self.norm_post(x)

    def attention_maps(self, images: Tensor) -> Tensor:
        """The attention weights of all blocks, (B, 3, S, S) -> (layers, B, H, L, L); a class token comes first."""
        return self.transformer.attention_maps(self.embed(images))

    @torch.no_grad()
    def resize(self, image_size: int) -> None:
        """Switches to another image size; positions are interpolated (Dosovitskiy et al. 2021, section 3.2)."""
        self.config = replace(self.config, image_size=image_size)
        grid, extra = image_size // self.config.patch_size, int(self.config.pool == "cls")
        self.positional_embedding = nn.Parameter(resize_positions(self.positional_embedding, grid, extra))


class PatchStem(nn.Module):
    """Cuts images into patches, flattens each patch and projects it: (B, 3, S, S) -> (B, P, W).

    Equivalent to the convolution in OpenAI's code, whose stride is its kernel size, but written as a matrix product.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.projection = nn.Linear(3 * config.patch_size**2, config.width, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        x = rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=self.patch_size, q=self.patch_size)
        return self.projection(x)  # (B, P, 3 · patch²) -> (B, P, W)


class ConvStem(nn.Module):
    """Patches from 3×3 convolutions, each of which halves the image: (B, 3, S, S) -> (B, P, W) (Xiao et al. 2021).

    Convolutions have a built-in bias that neighboring pixels belong together, which a `PatchStem` has to learn: on few
    images this stem learns several times faster.
    """

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        halvings = config.patch_size.bit_length() - 1  # the patch size is a power of 2
        channels = [3, *(config.stem_width * min(2**i, 4) for i in range(halvings))]
        layers: list[nn.Module] = []
        for before, after in zip(channels, channels[1:]):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], config.width, 1))
        self.layers.to(memory_format=torch.channels_last)  # the fastest memory order for convolutions, on CPU and GPU

    def forward(self, images: Tensor) -> Tensor:
        return rearrange(self.layers(images.contiguous(memory_format=torch.channels_last)), "b w h v -> b (h v) w")


def check_images(images: Tensor, image_size: int) -> None:
    """Raises MinclipError unless `images` is (B, 3, image_size, image_size)."""
    shape, size = tuple(images.shape), image_size
    need(shape[1:] == (3, size, size), f"images of shape {shape}: this tower takes (B, 3, {size}, {size})")


def resize_positions(positions: Tensor, grid: int, extra: int) -> Tensor:
    """Interpolates (extra + P, W) positions of a square of patches to (extra + grid², W); the first `extra` stay."""
    old = math.isqrt(len(positions) - extra)  # patches a side
    square = rearrange(positions[extra:].float(), "(h w) c -> 1 c h w", h=old)
    square = F.interpolate(square, size=(grid, grid), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([positions[:extra], rearrange(square, "1 c h w -> (h w) c").to(positions.dtype)])


def drop_patches(x: Tensor, fraction: float) -> Tensor:
    """Drops a random `fraction` of each image's patches, never all: (B, P, W) -> (B, P', W) (FLIP, Li et al. 2023)."""
    keep = max(1, round(x.shape[1] * (1 - fraction)))  # P'
    chosen = torch.rand(x.shape[:2], device=x.device).topk(keep, dim=1).indices  # (B, P'), different in each row
    return x.gather(1, repeat(chosen, "b p -> b p w", w=x.shape[2]))

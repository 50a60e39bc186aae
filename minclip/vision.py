"""VisionTransformer: an image as a sequence of patches (Dosovitskiy et al. 2021), with CLIP's extra norm before the trunk."""

import torch
from einops import rearrange, repeat
from torch import Tensor, nn

from .config import MinclipError, VisionConfig
from .transformer import Transformer


class VisionTransformer(nn.Module):
    """Images (B, 3, S, S), float and normalised by the config's mean and std, to features (B, W) of the class token."""

    def __init__(self, config: VisionConfig, activation: str = "gelu") -> None:
        super().__init__()
        self.config = config
        patches, scale = (config.image_size // config.patch_size) ** 2, config.width**-0.5
        # a linear layer on flattened patches: the same as a convolution whose stride is its kernel
        self.patch_embedding = nn.Linear(3 * config.patch_size**2, config.width, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(config.width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(patches + 1, config.width))
        self.norm_pre = nn.LayerNorm(config.width)
        self.transformer = Transformer(config.width, config.layers, config.heads, activation)
        self.norm_post = nn.LayerNorm(config.width)

    def forward(self, images: Tensor) -> Tensor:
        size, patch = self.config.image_size, self.config.patch_size
        if images.shape[1:] != (3, size, size):
            raise MinclipError(f"images of shape {tuple(images.shape)}: this tower takes (B, 3, {size}, {size})")
        x = self.patch_embedding(rearrange(images, "b c (h p) (w q) -> b (h w) (c p q)", p=patch, q=patch))
        x = x + self.positional_embedding[1:]
        if self.training and self.config.patch_dropout > 0:
            x = drop_patches(x, self.config.patch_dropout)
        first = repeat(self.class_embedding + self.positional_embedding[0], "w -> b 1 w", b=len(x))
        x = torch.cat([first.to(x.dtype), x], dim=1)
        x = self.transformer(self.norm_pre(x))
        return self.norm_post(x[:, 0])


def drop_patches(x: Tensor, share: float) -> Tensor:
    """Keeps a random (1 - share) of each image's patches, at least one: (B, P, W) -> (B, P', W) (FLIP, Li et al. 2023)."""
    keep = max(1, round(x.shape[1] * (1 - share)))
    chosen = torch.rand(x.shape[:2], device=x.device).topk(keep, dim=1).indices
    return x.gather(1, repeat(chosen, "b p -> b p w", w=x.shape[2]))

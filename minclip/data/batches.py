"""Batches for training: shuffled from the seed, one caption an image and epoch, cropped and flipped whole on the device."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import DataConfig, MinclipError, VisionConfig
from ..text import trim
from ..tokenizer import Tokenizer
from .pairs import Pairs

_SIDED = re.compile(r"\b(left|right)(ward|wards|most|side|hand|handed)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Batch:
    images: Tensor  # (B, 3, S, S) float, normalised
    ids: Tensor  # (B, L) int64, trimmed to the longest caption
    index: Tensor  # (B,) int64 image numbers, all different


@dataclass(frozen=True)
class Captions:
    """The captions of some pairs as ids, image by image: image i owns rows `first[i]` to `first[i + 1]`."""

    ids: Tensor  # (M, L) int64
    first: np.ndarray  # (N + 1,) int64
    sided: np.ndarray  # (M,) bool: says left or right, so that its image must not be flipped
    eot_id: int


def tokenize(pairs: Pairs, tokenizer: Tokenizer, context_length: int) -> Captions:
    texts = pairs.texts
    first = np.concatenate([[0], np.cumsum([len(captions) for captions in pairs.captions])])
    sided = np.array([bool(_SIDED.search(text)) for text in texts])
    return Captions(tokenizer(texts, context_length), first, sided, tokenizer.eot_id)


def batches(
    pairs: Pairs,
    captions: Captions,
    batch_size: int,
    epoch: int,
    seed: int,
    data: DataConfig,
    vision: VisionConfig,
    device: torch.device | str = "cpu",
    start: int = 0,
) -> Iterator[Batch]:
    """The batches of one epoch, from number `start` on; the last images that fill no batch come in another epoch.

    Everything random is drawn anew from (seed, epoch, batch), so that a resumed run sees what it would have seen.
    """
    n = len(pairs)
    if batch_size > n:
        raise MinclipError(f"a batch of {batch_size} is larger than the data set of {n} images: lower train.batch_size")
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(n)
    drawn = captions.first[:-1] + np.floor(rng.random(n) * np.diff(captions.first)).astype(np.int64)
    for number in range(start, n // batch_size):
        index = order[number * batch_size : (number + 1) * batch_size]
        rows = drawn[index]
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([seed, epoch, number]).generate_state(1)[0])
        )
        images = torch.from_numpy(pairs.images[index]).to(device, non_blocking=True)
        may_flip = torch.from_numpy(~captions.sided[rows]) if data.flip else torch.zeros(batch_size, dtype=torch.bool)
        yield Batch(
            normalize(augment(images, data.min_crop, may_flip, generator), vision),
            trim(captions.ids[torch.from_numpy(rows)], captions.eot_id).to(device, non_blocking=True),
            torch.from_numpy(index).to(device),
        )


def augment(images: Tensor, min_crop: float, may_flip: Tensor, generator: torch.Generator) -> Tensor:
    """Random-resized crops of (B, 3, S, S) uint8, a box of its own for each image, half of `may_flip` (B,) mirrored; float 0 to 255.

    A box covers `min_crop` to 1 of the area, its sides 3:4 to 4:3, as in torchvision's RandomResizedCrop, bilinear.
    """
    x = images.float()
    b = len(x)
    area, ratio, left, top, coin = torch.rand(5, b, generator=generator)
    flip = torch.where((coin < 0.5) & may_flip, -1.0, 1.0)
    if min_crop == 1:
        flipped = (flip < 0).to(x.device)
        return torch.where(flipped[:, None, None, None], x.flip(-1), x) if flipped.any() else x
    area = min_crop + (1 - min_crop) * area
    ratio = (1 / area).clamp(max=4 / 3) ** (2 * ratio - 1)  # a large box must be nearly square to have its area inside
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    # grid_sample counts from -1 to 1: a box of half-width w has its middle in [w - 1, 1 - w]
    theta = torch.zeros(b, 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = width * flip, (2 * left - 1) * (1 - width)
    theta[:, 1, 1], theta[:, 1, 2] = height, (2 * top - 1) * (1 - height)
    grid = F.affine_grid(theta.to(x.device), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def normalize(images: Tensor, vision: VisionConfig) -> Tensor:
    """Values 0 to 255 (B, 3, S, S) to the range that the image tower was made for."""
    mean = torch.tensor(vision.mean, device=images.device).view(3, 1, 1)
    std = torch.tensor(vision.std, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - mean) / std

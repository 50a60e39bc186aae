"""Turns pairs into batches: draws order, captions and crops from the seed, and augments a whole batch at once."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .config import DataConfig, MinclipError, VisionConfig, need
from .text import trim
from .tokenizer import Tokenizer
from .training.distributed import rank, world_size

Device = torch.device | str
SIDED = re.compile(r"\b(left|right)(ward|wards|most|side|hand|handed)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Task:
    """A zero-shot task: which of `class_names` does image `indices[i]` of a data set show?  The answer is `labels[i]`.

    Each template has one `{}` for the class name, and may have named fields ("{a} {} {b}") that `subjects[i]` fills.
    """

    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    indices: np.ndarray  # (n,) int64
    labels: np.ndarray  # (n,) int64
    subjects: tuple[dict[str, str], ...] = ()

    @property
    def chance(self) -> float:
        return 1 / len(self.class_names)


@dataclass(frozen=True)
class Pairs:
    """N images, each with one or more captions.  MinclipError: the lengths differ, no image, or a missing caption."""

    images: np.ndarray  # (N, 3, H, W) uint8 RGB, an array or a memory map
    captions: list[list[str]]  # several people may have described the same photograph
    names: list[str]  # file names or numbers
    tasks: dict[str, Task] = field(default_factory=dict)
    notes: tuple[str, ...] = ()  # sentences about images and captions that were left out

    def __post_init__(self) -> None:
        n, captions, names = len(self.images), len(self.captions), len(self.names)
        need(n == captions == names, f"{n} images, {captions} lists of captions, {names} names: must be as many")
        need(n > 0, "a data set needs at least one image with a caption")
        if not all(self.captions):
            raise MinclipError(f"image {self.names[self.captions.index([])]} has no caption: leave it out")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def texts(self) -> list[str]:
        """All captions in one list, image by image."""
        return [caption for captions in self.captions for caption in captions]

    @property
    def text_to_image(self) -> np.ndarray:
        """(len(texts),) int64: the image that each text describes."""
        return np.repeat(np.arange(len(self)), [len(captions) for captions in self.captions])


@dataclass(frozen=True)
class Captions:
    """The token ids of all captions, computed once before training; image i has rows `first[i]:first[i + 1]`."""

    ids: Tensor  # (M, L) int64
    first: np.ndarray  # (N + 1,) int64
    may_flip: Tensor  # (M,) bool; a mirrored image would make "on the left" false
    eot_id: int


def tokenize(pairs: Pairs, tokenizer: Tokenizer, context_length: int) -> Captions:
    first = np.cumsum([0] + [len(captions) for captions in pairs.captions])
    may_flip = torch.tensor([not SIDED.search(text) for text in pairs.texts])
    return Captions(tokenizer(pairs.texts, context_length), first, may_flip, tokenizer.eot_id)


@dataclass(frozen=True)
class RawBatch:
    """The input of `assemble`; its images are bytes, so copying them to a GPU takes a quarter of the time of floats."""

    images: Tensor  # (B, 3, H, W) uint8
    ids: Tensor  # (B, L) int64, trimmed to the longest caption
    may_flip: Tensor  # (B,) bool
    random_numbers: Tensor  # (8, B) in [0, 1): area, shape, x, y, flip, brightness, contrast, saturation

    def pin_memory(self) -> "RawBatch":
        """A copy in page-locked memory, from which a GPU copies asynchronously; a DataLoader calls this method, too."""
        return RawBatch(*(x.pin_memory() for x in vars(self).values()))


def random_numbers(count: int, *seeds: int) -> Tensor:
    """(8, count) in [0, 1), determined by `seeds`: a resumed run draws the same numbers as an uninterrupted one."""
    seed = int(np.random.SeedSequence(seeds).generate_state(1)[0])
    # always on the CPU, whose generator gives the same numbers on every machine
    return torch.rand(8, count, generator=torch.Generator().manual_seed(seed))


def raw_batches(
    pairs: Pairs, captions: Captions, *, batch_size: int, epoch: int, seed: int, start: int = 0, multiple: int = 1
) -> Iterator[RawBatch]:
    """Yields the batches of one epoch from number `start` on: each image once, with one of its captions.

    Each process gets its rows of each batch: together they see the batch that a single process would see.
    An incomplete last batch is dropped.  `multiple` is that of `trim`.  MinclipError: too few images for a batch.
    """
    need(batch_size <= len(pairs), f"train.batch_size {batch_size} exceeds the {len(pairs)} images: lower it")
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(pairs))  # no image twice in a batch: the second copy would be a false negative
    chosen = captions.first[:-1] + np.floor(rng.random(len(pairs)) * np.diff(captions.first)).astype(np.int64)  # (N,)
    rows = batch_size // world_size()
    mine = slice(rank() * rows, (rank() + 1) * rows)
    for number in range(start, len(pairs) // batch_size):
        index = order[number * batch_size : (number + 1) * batch_size][mine]
        chosen_rows, on_gpu = torch.from_numpy(chosen[index]), isinstance(pairs.images, Tensor)  # see move_to_gpu_once
        image_rows = to_device(torch.from_numpy(index), pairs.images.device) if on_gpu else index
        images = torch.as_tensor(pairs.images[image_rows])
        ids = trim(captions.ids[chosen_rows], captions.eot_id, multiple=multiple)
        numbers = random_numbers(batch_size, seed, epoch, number)[:, mine]
        yield RawBatch(images, ids, captions.may_flip[chosen_rows], numbers)


@dataclass(frozen=True)
class Batch:
    images: Tensor  # (B, 3, S, S) float32, normalized
    ids: Tensor  # (B, L) int64


def assemble(
    raw: RawBatch, data: DataConfig, vision: VisionConfig, *, image_size: int | None = None, device: Device = "cpu"
) -> Batch:
    """Makes every batch, from memory and from shards; S is `image_size` or else `data.image_size`."""
    # all copies start at once, and nothing below reads a value back from the GPU, so the host never waits
    images, ids, may_flip, numbers = (to_device(x, device) for x in vars(raw).values())
    size, may_flip = image_size or data.image_size, may_flip if data.flip else None
    x = augment(images, numbers[:5], image_size=size, min_crop=data.min_crop, may_flip=may_flip)
    if data.color:
        x = recolor(x, numbers[5:], strength=data.color)
    return Batch(normalize(x, vision), ids)


def to_device(x: Tensor, device: Device) -> Tensor:
    """A copy on the device; to a GPU, an asynchronous one through page-locked memory."""
    to_gpu = torch.device(device).type == "cuda" and not x.is_cuda
    return x.pin_memory().to(device, non_blocking=True) if to_gpu else x.to(device)


def augment(
    images: Tensor, random_numbers: Tensor, *, image_size: int, min_crop: float = 1.0, may_flip: Tensor | None = None
) -> Tensor:
    """Random-resized crops, (B, 3, H, H) uint8 -> (B, 3, S, S) float32 from 0 to 255; S is `image_size`.

    `random_numbers` (5, B) in [0, 1) decide area, shape, x, y and flip.  As in torchvision's RandomResizedCrop, a box
    has `min_crop` to 1 of the area, and sides of 3:4 to 4:3.  Half of the images with `may_flip` (B,) are mirrored.
    """
    area, ratio, x, y, flip = random_numbers
    pixels = images.to(torch.float32, memory_format=torch.contiguous_format)
    flipped = (flip < 0.5) & (False if may_flip is None else may_flip)
    if min_crop == 1 and image_size == images.shape[-1]:
        return torch.where(flipped[:, None, None, None], pixels.flip(-1), pixels)
    area = min_crop + (1 - min_crop) * area
    ratio = (1 / area).clamp(max=4 / 3) ** (2 * ratio - 1)  # a large box must be nearly square to fit inside
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)  # (B,) fractions of the side
    # Resizing is linear in the pixels along y and along x: one matrix per image and direction, without a loop over
    # images, crops and resizes in one step.  Mirroring reverses the rows of a matrix.
    rows = resize_matrices(y * (1 - height), height, images.shape[-1], image_size=image_size)  # (B, S, H)
    columns = resize_matrices(x * (1 - width), width, images.shape[-1], image_size=image_size)
    columns = torch.where(flipped[:, None, None], columns.flip(1), columns)
    return torch.einsum("bys,bcst,bxt->bcyx", rows, pixels, columns)


def resize_matrices(start: Tensor, length: Tensor, size: int, *, image_size: int) -> Tensor:
    """(B, S, H): weights of H = `size` pixels in S output pixels; a crop's `start`, `length` (B,) are parts of H."""
    step = (length * size / image_size)[:, None, None]  # pixels from one output pixel to the next
    center = (start * size)[:, None, None] + (torch.arange(image_size, device=step.device)[:, None] + 0.5) * step
    distance = (center - torch.arange(size, device=step.device) - 0.5).abs()
    # bilinear: a tent over the two nearest pixels; when shrinking, over more of them, to avoid aliasing
    tent = (1 - distance / step.clamp(min=1)).clamp(min=0)
    return tent / tent.sum(dim=-1, keepdim=True)


def recolor(images: Tensor, random_numbers: Tensor, *, strength: float) -> Tensor:
    """Multiplies brightness, contrast and saturation of images (B, 3, S, S), 0 to 255, by factors in 1 ± `strength`.

    `random_numbers` (3, B) in [0, 1) decide the factors.  Contrast is the distance from the image's mean, saturation
    the distance from the pixel's gray, the mean of its colors.
    """
    brightness, contrast, saturation = (1 + strength * (2 * random_numbers - 1))[:, :, None, None, None]
    # all three are linear, so one weighted sum is enough: of the pixels, their gray, and the image's mean
    mean, gray = images.mean(dim=(1, 2, 3), keepdim=True), images.mean(dim=1, keepdim=True)
    gain = brightness * contrast
    return (gain * saturation * images + gain * (1 - saturation) * gray + (brightness - gain) * mean).clamp(0, 255)


def normalize(images: Tensor, vision: VisionConfig) -> Tensor:
    """(B, 3, S, S) from 0 to 255 -> the values that the image tower expects, (x / 255 - mean) / std, as a copy."""
    x = images.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    for channel, mean, std in zip(x.unbind(1), vision.mean, vision.std):
        channel.mul_(1 / (255 * std)).sub_(mean / std)  # Python floats: a tensor would have to be copied to the GPU
    return x

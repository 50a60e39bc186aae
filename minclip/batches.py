"""Batches for training: shuffled from the seed, one caption an image and epoch, cropped and flipped whole on the device."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .config import DataConfig, MinclipError, VisionConfig
from .text import trim
from .tokenizer import Tokenizer

T = TypeVar("T")
SIDED = re.compile(r"\b(left|right)(ward|wards|most|side|hand|handed)?\b", re.IGNORECASE)


@dataclass(frozen=True)
class Task:
    """A zero-shot question over some of a data set's images: which of `class_names` does image `indices[i]` show?

    `labels[i]` is the right class of image `indices[i]`.  Each template holds one `{}` for the class name.  Where the
    question is about an image's own objects ("{a} {} {b}": which relation?), `subjects[i]` fills the named fields.
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
    """N images and their captions.

    `images` is (N, 3, H, W) uint8 RGB, an array or a memory map; `captions[i]` lists the captions of image i, at least
    one; `names[i]` is its file name or number; `tasks` maps a task's name to a Task; `notes` tells what was left out.
    """

    images: np.ndarray
    captions: list[list[str]]
    names: list[str]
    tasks: dict[str, Task] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.captions) == len(self.names):
            raise MinclipError(
                f"{len(self.images)} images, {len(self.captions)} lists of captions and {len(self.names)} names are not the same number"
            )
        if len(self.images) == 0:
            raise MinclipError("a data set needs at least one image with a caption")
        if not all(self.captions):
            bare = next(name for name, captions in zip(self.names, self.captions) if not captions)
            raise MinclipError(f"image {bare} has no caption: leave it out")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def texts(self) -> list[str]:
        """All captions in one list, image by image."""
        return [caption for captions in self.captions for caption in captions]

    @property
    def text_to_image(self) -> np.ndarray:
        """(number of captions,) int64: the image that each entry of `texts` belongs to."""
        return np.repeat(np.arange(len(self)), [len(captions) for captions in self.captions])


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
    sided = np.array([bool(SIDED.search(text)) for text in texts])
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
    share: tuple[int, int] = (0, 1),
    images: np.ndarray | Tensor | None = None,
) -> Iterator[Batch]:
    """The batches of one epoch, from number `start` on; the last images that fill no batch come in another epoch.

    Everything random is drawn anew from (seed, epoch, batch), so that a resumed run sees what it would have seen.  With
    `share` = (rank, W), of each batch's rows only that process's W-th: all W together see what one process would have
    seen.  `images` are those of the pairs where they lie elsewhere (see `resident`).
    """
    n, (rank, processes) = len(pairs), share
    images = pairs.images if images is None else images
    rows_each = batch_size // processes
    mine = slice(rank * rows_each, (rank + 1) * rows_each)
    if batch_size > n:
        raise MinclipError(f"a batch of {batch_size} is larger than the data set of {n} images: lower train.batch_size")
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(n)
    drawn = captions.first[:-1] + np.floor(rng.random(n) * np.diff(captions.first)).astype(np.int64)
    for number in range(start, n // batch_size):
        index = order[number * batch_size : (number + 1) * batch_size]
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([seed, epoch, number]).generate_state(1)[0])
        )
        luck = torch.rand(5, batch_size, generator=generator)[:, mine]
        index, rows = index[mine], drawn[index[mine]]
        pixels = images[index] if isinstance(images, np.ndarray) else images[torch.from_numpy(index).to(images.device)]
        may_flip = torch.from_numpy(~captions.sided[rows]) if data.flip else torch.zeros(len(rows), dtype=torch.bool)
        x = augment(to_device(pixels, device), data.min_crop, may_flip, luck)
        if data.color:
            x = recolor(x, data.color, torch.rand(3, batch_size, generator=generator)[:, mine])
        yield Batch(
            normalize(x, vision),
            to_device(trim(captions.ids[torch.from_numpy(rows)], captions.eot_id), device),
            torch.from_numpy(index).to(device),
        )


def to_device(x: np.ndarray | Tensor, device: torch.device | str) -> Tensor:
    """A copy on the device; to a GPU through pinned memory, so that nobody waits for the copy."""
    x = torch.from_numpy(x) if isinstance(x, np.ndarray) else x
    on_gpu = torch.device(device).type == "cuda" and not x.is_cuda
    return x.pin_memory().to(device, non_blocking=True) if on_gpu else x.to(device)


def resident(images: np.ndarray, device: torch.device) -> np.ndarray | Tensor:
    """The images on a GPU as a whole where they take at most half of its free memory; else where they are."""
    if device.type != "cuda" or images.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return images
    out = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for i in range(0, len(images), 1024):  # a map may be larger than the memory
        out[i : i + 1024] = torch.from_numpy(np.array(images[i : i + 1024]))
    return out


def ahead(iterator: Iterator[T], count: int = 2) -> Iterator[T]:
    """The same items, of which a thread makes up to `count` before they are asked for; its error is raised here."""
    ready: Queue[Any] = Queue(count)
    stop = Event()

    def put(item: Any) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except Full:
                pass
        return False

    def work() -> None:
        try:
            for item in iterator:
                if not put((item, None)):
                    return
            put((None, StopIteration()))
        except BaseException as error:
            put((None, error))

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
    finally:
        stop.set()
        thread.join()


def augment(images: Tensor, min_crop: float, may_flip: Tensor, luck: Tensor) -> Tensor:
    """Random-resized crops of (B, 3, S, S) uint8, a box of its own for each image, half of `may_flip` (B,) mirrored; float 0 to 255.

    `luck` (5, B) are numbers in [0, 1) that decide all of it: area, shape, place and side.  A box covers `min_crop` to 1 of
    the area, its sides 3:4 to 4:3, as in torchvision's RandomResizedCrop, bilinear.
    """
    area, ratio, left, top, coin = luck
    mirrored = (coin < 0.5) & may_flip
    if min_crop == 1:
        x = images.float()
        return torch.where(mirrored.to(x.device)[:, None, None, None], x.flip(-1), x) if mirrored.any() else x
    area = min_crop + (1 - min_crop) * area
    ratio = (1 / area).clamp(max=4 / 3) ** (2 * ratio - 1)  # a large box must be nearly square to have its area inside
    width, height = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    crop = _crop_pixels if images.device.type == "cpu" else _crop
    return crop(images, left, top, width, height, mirrored).float()


def _crop(images: Tensor, left: Tensor, top: Tensor, width: Tensor, height: Tensor, mirrored: Tensor) -> Tensor:
    """All boxes at once; sides are shares of the picture, places (0 to 1) shares of the room that a box has in it."""
    # grid_sample counts from -1 to 1: a box of half-width w has its middle in [w - 1, 1 - w]
    theta = torch.zeros(len(images), 2, 3)
    theta[:, 0, 0], theta[:, 0, 2] = torch.where(mirrored, -width, width), (2 * left - 1) * (1 - width)
    theta[:, 1, 1], theta[:, 1, 2] = height, (2 * top - 1) * (1 - height)
    grid = F.affine_grid(theta.to(images.device), list(images.shape), align_corners=False)
    return F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _crop_pixels(images: Tensor, left: Tensor, top: Tensor, width: Tensor, height: Tensor, mirrored: Tensor) -> Tensor:
    """The same on a CPU, boxes rounded to whole pixels: resizing bytes one by one is several times as fast as grid_sample."""
    size = torch.tensor(images.shape[-2:])
    sides = (torch.stack([height, width], 1) * size).round().clamp(min=1).long()
    starts = (torch.stack([top, left], 1) * (size - sides + 1)).long()
    boxes = torch.cat([starts, starts + sides, mirrored[:, None]], 1).tolist()

    def crop(first: int) -> list[Tensor]:
        out = []
        for i, (y0, x0, y1, x1, flip) in enumerate(boxes[first : first + share], first):
            x = F.interpolate(images[i : i + 1, :, y0:y1, x0:x1], images.shape[-2:], mode="bilinear")
            out.append(x.flip(-1) if flip else x)
        return out

    share = -(-len(images) // torch.get_num_threads())
    with ThreadPoolExecutor() as pool:
        return torch.cat([x for part in pool.map(crop, range(0, len(images), share)) for x in part])


def recolor(images: Tensor, most: float, luck: Tensor) -> Tensor:
    """Brightness, contrast and saturation of each image (B, 3, S, S) from 0 to 255 times a factor of its own, within 1 ± `most`.

    `luck` (3, B) are numbers in [0, 1) that decide the three.  Contrast is the distance from the image's mean, saturation
    that from the mean of the colours at a place.
    """
    brightness, contrast, saturation = (1 + most * (2 * luck - 1)).to(images.device)[:, :, None, None, None]
    # all three are linear: one product for the pixels, one for their grey, one number an image
    mean, grey = images.mean(dim=(1, 2, 3), keepdim=True), images.mean(dim=1, keepdim=True)
    gain = brightness * contrast
    return (gain * saturation * images + gain * (1 - saturation) * grey + (brightness - gain) * mean).clamp(0, 255)


def shrink(images: Tensor, side: int) -> Tensor:
    """(B, 3, S, S) -> (B, 3, side, side), anti-aliased."""
    if side == images.shape[-1]:
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True)


def normalize(images: Tensor, vision: VisionConfig) -> Tensor:
    """Values 0 to 255 (B, 3, S, S) to the range that the image tower was made for."""
    mean = torch.tensor(vision.mean, device=images.device).view(3, 1, 1)
    std = torch.tensor(vision.std, device=images.device).view(3, 1, 1)
    x = images.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    return x.mul_(1 / (255 * std)).sub_(mean / std)  # (x / 255 - mean) / std, in place

"""What the training loop reads: batches without end, from pairs in memory or from shards that are streamed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..batches import Batch, Captions, Pairs, RawBatch, assemble, raw_batches, tokenize
from ..config import MinclipError, TrainConfig
from ..tokenizer import Tokenizer
from ..training.distributed import on_each_machine_once, rank, world_size
from . import OpenData, open_data

T = TypeVar("T")
TOKENIZER_TEXTS = 200_000  # captions of shards that train the tokenizer; all would be without end


class Batches:
    """One process's batches: `next` assembles the next one; `tally` counts skipped samples, None where none can be."""

    def __init__(self, raw: Iterable[RawBatch], config: TrainConfig, device: torch.device) -> None:
        self.raw, self.config, self.device, self.tally = iter(raw), config, device, getattr(raw, "tally", None)

    def next(self, image_size: int | None = None) -> Batch:
        """Images `image_size` pixels a side, `data.image_size` by default.

        The side is asked for with each batch, not foreseen: with train.minutes it depends on the clock.  Only what
        does not depend on it is prefetched, so that the batches are the same however far ahead they are read.
        """
        config = self.config
        return assemble(next(self.raw), config.data, config.model.vision, image_size=image_size, device=self.device)


@dataclass(frozen=True)
class Stream:
    """A run's data.  `start(tokenizer, device, step)` gives this process's Batches from `step` on, as if never stopped.

    `texts()` are the captions that train the tokenizer: of shards, up to 200,000 that are downloaded when asked for.
    `names` are those of the training photographs; empty for shapes and shards, which no list splits.
    """

    texts: Callable[[], list[str]]
    names: list[str]
    validation: Pairs
    notes: tuple[str, ...]
    start: Callable[[Tokenizer, torch.device, int], Batches]
    opened: OpenData

    def evaluation(self) -> dict[str, Pairs]:
        """The splits of the final figures, from the root that is open already."""
        splits = self.opened.evaluation_splits
        return {split: self.validation if split == "val" else self.opened.load(split) for split in splits}


def open_stream(config: TrainConfig) -> Stream:
    """The data of a run; raises MinclipError if they don't fit its batch size or its processes."""
    data, size, processes, micro = config.data, config.train.batch_size, world_size(), config.train.micro_batch
    if size % processes:
        raise MinclipError(f"train.batch_size {size} is not divisible by the number of processes, {processes}")
    if micro and (size // processes) % micro:
        raise MinclipError(f"train.micro_batch {micro} does not divide the {size // processes} pairs of each process")
    if data.name == "shards":
        return _of_shards(config, open_data(data))
    # photographs are packed by each machine's first process, and found by the others; shapes are painted by all at once
    with nullcontext() if data.name == "shapes" else on_each_machine_once():
        opened = open_data(data)
        pairs, validation = opened.load("train", size=data.size or None), opened.load("val")
    if config.train.overfit:
        pairs = all_different(pairs, config.train.overfit)
    if size > len(pairs):
        raise MinclipError(f"train.batch_size {size} exceeds the data set's {len(pairs)} images: lower it")

    def start(tokenizer: Tokenizer, device: torch.device, step: int) -> Batches:
        captions = tokenize(pairs, tokenizer, config.model.text.context_length)
        images = move_to_gpu_once(pairs.images, device)
        raw = _endless(replace(pairs, images=images), captions, size, config.train.seed, step)
        # on a CPU the thread would take the time that it saves
        ahead = device.type == "cuda" and images is pairs.images
        return Batches(prefetch(x.pin_memory() for x in raw) if ahead else raw, config, device)

    names = [] if data.name == "shapes" else pairs.names
    notes = (*pairs.notes, *validation.notes)
    return Stream(lambda: pairs.texts, names, validation, notes, start, opened)


def _endless(pairs: Pairs, captions: Captions, size: int, seed: int, step: int) -> Iterator[RawBatch]:
    epoch, start = divmod(step, len(pairs) // size)
    while True:
        mine = {"rank": rank(), "world_size": world_size()}
        yield from raw_batches(pairs, captions, batch_size=size, epoch=epoch, seed=seed, start=start, **mine)
        epoch, start = epoch + 1, 0


def _of_shards(config: TrainConfig, opened: OpenData) -> Stream:
    """All shards but the last one are for training; the first pairs of that are the validation split."""
    from .shard_batches import ShardBatches
    from .shards import texts

    data, loop, shards = config.data, config.train, opened.shards[:-1]
    if not shards:
        raise MinclipError(f"data.root {data.root} is one shard: at least two are needed, the last for validation")
    if data.size:
        raise MinclipError("data.size works with in-memory data sets only: name fewer shards in data.root")
    if loop.overfit:
        raise MinclipError("train.overfit works with in-memory data sets only, not with shards")

    def start(tokenizer: Tokenizer, device: torch.device, step: int) -> Batches:
        raw = ShardBatches(
            shards,
            tokenizer,
            context_length=config.model.text.context_length,
            batch_size=loop.batch_size // world_size(),
            image_size=data.image_size,
            seed=loop.seed,
            step=step,
            rank=rank(),
            world_size=world_size(),
            workers=data.workers,
            pin_memory=device.type == "cuda",
        )
        return Batches(raw, config, device)

    validation, captions = opened.load("val"), lambda: texts(shards, count=TOKENIZER_TEXTS)
    return Stream(captions, [], validation, validation.notes, start, opened)


def all_different(pairs: Pairs, count: int) -> Pairs:
    """The first `count` pairs, one caption each, no caption twice: a model can learn these without an error."""
    chosen: dict[str, int] = {}  # caption -> image
    for i, captions in enumerate(pairs.captions):
        new = next((caption for caption in captions if caption not in chosen), None)
        if new is not None and len(chosen) < count:
            chosen[new] = i
    if len(chosen) < count:
        raise MinclipError(f"train.overfit {count}: only {len(chosen)} pairs have a caption of their own: lower it")
    index = list(chosen.values())
    names = [pairs.names[i] for i in index]
    return replace(pairs, images=pairs.images[index], captions=[[text] for text in chosen], names=names, tasks={})


def move_to_gpu_once(images: np.ndarray, device: torch.device) -> np.ndarray | Tensor:
    """All images on the GPU if they take at most half of its free memory, else (and on other devices) as they are."""
    if device.type != "cuda" or images.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return images
    out = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for i in range(0, len(images), 1024):  # a memory map may be larger than the memory
        out[i : i + 1024] = torch.from_numpy(np.array(images[i : i + 1024]))
    return out


def prefetch(items: Iterable[T], *, count: int = 2) -> Iterator[T]:
    """The same items, up to `count` of them made ahead by a thread; its errors are raised here."""
    items, end = iter(items), object()
    pool = ThreadPoolExecutor(1)
    try:
        ahead = deque(pool.submit(next, items, end) for _ in range(count))
        while (item := ahead.popleft().result()) is not end:
            ahead.append(pool.submit(next, items, end))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)

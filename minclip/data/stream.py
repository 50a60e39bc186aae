"""What the training loop reads: batches without end, from pairs in memory or from shards that are streamed."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..batches import Batch, Captions, Pairs, RawBatch, assemble, raw_batches, tokenize
from ..config import LoopConfig, MinclipError, TrainConfig
from ..tokenizer import Tokenizer
from ..training.distributed import on_each_machine_once, rank, world_size
from . import open_data, shards
from .shard_batches import ShardBatches

T = TypeVar("T")
TOKENIZER_TEXTS = 200_000  # captions of shards that train the tokenizer; all would be without end


@dataclass
class Batches:
    """One process's batches: `next` assembles the next one; `tally` counts skipped samples, None where none can be."""

    raw: Iterator[RawBatch]
    config: TrainConfig
    device: torch.device
    tally: shards.Tally | None = None

    def next(self, image_size: int | None = None) -> Batch:
        """Images `image_size` pixels a side, `data.image_size` by default.

        The side is asked for with each batch, not foreseen: with train.minutes it depends on the clock.  Only what
        does not depend on it is prefetched, so that the batches are the same however far ahead they are read.
        """
        config = self.config
        return assemble(next(self.raw), config.data, config.model.vision, image_size=image_size, device=self.device)


class Stream:
    """A run's data, opened once; raises MinclipError if they don't fit its batch size or its processes.

    `names` are those of the training photographs; empty for shapes and shards, which no list splits.
    """

    def __init__(self, config: TrainConfig) -> None:
        data, loop = config.data, config.train
        streamed, painted = data.name == "shards", data.name == "shapes"
        each, rest = divmod(loop.batch_size, world_size())
        if rest:
            raise MinclipError(f"train.batch_size {loop.batch_size} is not divisible by the {world_size()} processes")
        if loop.micro_batch and each % loop.micro_batch:
            raise MinclipError(f"train.micro_batch {loop.micro_batch} does not divide the {each} pairs of each process")
        if streamed and (data.size or loop.overfit):
            raise MinclipError("data.size and train.overfit work with in-memory data sets only, not with shards")
        # photographs are packed by each machine's first process, and found by the others
        with nullcontext() if streamed or painted else on_each_machine_once():
            self.config, self.opened = config, open_data(data)
            if streamed and not self.opened.shards:
                raise MinclipError(
                    f"data.root {data.root} is one shard: at least two are needed, the last for validation"
                )
            self.pairs = None if streamed else self.opened.load("train", size=data.size)
            self.validation = self.opened.load("val")
        self.notes = [note for part in (self.pairs, self.validation) if part for note in part.notes]
        if not streamed and loop.overfit:
            self.pairs = all_different(self.pairs, loop.overfit)
        if not streamed and loop.batch_size > len(self.pairs):
            raise MinclipError(f"train.batch_size {loop.batch_size} exceeds the data set's {len(self.pairs)} images")
        self.names = [] if streamed or painted else self.pairs.names

    def texts(self) -> list[str]:
        """The captions that train the tokenizer: of shards, up to 200,000 that are downloaded now."""
        return self.pairs.texts if self.pairs else shards.texts(self.opened.shards, count=TOKENIZER_TEXTS)

    def start(self, tokenizer: Tokenizer, device: torch.device, step: int) -> Batches:
        """This process's batches from `step` on, as if never stopped."""
        config, on_gpu = self.config, device.type == "cuda"
        if not self.pairs:
            streamed = ShardBatches(self.opened.shards, tokenizer, config, step=step, pin_memory=on_gpu)
            return Batches(streamed.stream(), config, device, streamed.tally)
        captions = tokenize(self.pairs, tokenizer, config.model.text.context_length)
        images = move_to_gpu_once(self.pairs.images, device)
        raw = _endless(replace(self.pairs, images=images), captions, config.train, step)
        # on a CPU the thread would take the time that it saves
        ahead = on_gpu and images is self.pairs.images
        return Batches(prefetch(x.pin_memory() for x in raw) if ahead else raw, config, device)

    def evaluation(self) -> dict[str, Pairs]:
        """The splits of the final figures, from the root that is open already."""
        splits = self.opened.evaluation_splits
        return {split: self.validation if split == "val" else self.opened.load(split) for split in splits}


def _endless(pairs: Pairs, captions: Captions, loop: LoopConfig, step: int) -> Iterator[RawBatch]:
    options = {"batch_size": loop.batch_size, "seed": loop.seed, "rank": rank(), "world_size": world_size()}
    first, start = divmod(step, len(pairs) // loop.batch_size)
    for epoch in itertools.count(first):
        yield from raw_batches(pairs, captions, epoch=epoch, start=start if epoch == first else 0, **options)


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

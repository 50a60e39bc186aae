"""The training loop's data: endless batches, from pairs in memory or from streamed shards."""

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from ..batches import Batch, Captions, Pairs, RawBatch, assemble, raw_batches, tokenize
from ..config import MinclipError, TrainConfig, need
from ..tokenizer import Tokenizer
from ..training.distributed import on_each_machine_once, rank, world_size
from . import OpenData, open_data, shards
from .photos.pack import same_images
from .shard_batches import ShardBatches

T = TypeVar("T")
TOKENIZER_TEXTS = 200_000  # most captions of shards to train a tokenizer on: reading all could take days


class Stream:
    """A run's data, opened once; raises MinclipError if the batch size doesn't fit them or the number of processes.

    `names` are those of the training photographs; empty for shapes and shards, which are split without lists.
    """

    tally: shards.Tally | None = None  # the skipped samples, for shards only

    def __init__(self, config: TrainConfig) -> None:
        data, loop = config.data, config.train
        streamed, painted = data.name == "shards", data.name == "shapes"
        each, rest = divmod(loop.batch_size, world_size())
        need(not rest, f"train.batch_size {loop.batch_size} is not divisible by the {world_size()} processes")
        if loop.micro_batch and each % loop.micro_batch:
            raise MinclipError(f"train.micro_batch {loop.micro_batch} does not divide the {each} pairs of each process")
        if streamed and (data.size or loop.overfit):
            raise MinclipError("data.size and train.overfit need data in memory: name fewer shards in data.root")
        # the first process of each machine packs photographs; the others wait and open its pack
        with nullcontext() if streamed or painted else on_each_machine_once():
            self.config, self.opened = config, open_data(data)
            if streamed and not self.opened.shards:
                raise MinclipError(f"data.root {data.root} is one shard: two are needed, the last for validation")
            self.pairs = None if streamed else self.opened.load("train", size=data.size)
            self.validation = self.opened.load("val")
            # photographs are packed now, so that a broken test split is found before training, not hours later
            self.evaluated = {} if streamed or painted or loop.overfit else evaluation(self.opened, self.validation)
        parts = {"val": self.validation, **self.evaluated}
        notes = [note for pairs in (self.pairs, *parts.values()) if pairs for note in pairs.notes]
        notes += [doubt for split in parts if self.evaluated for doubt in doubtful(self.pairs, parts[split], split)]
        self.notes = list(dict.fromkeys(notes))
        if not streamed and loop.overfit:
            self.pairs = all_different(self.pairs, loop.overfit)
        if not streamed and loop.batch_size > len(self.pairs):
            raise MinclipError(f"train.batch_size {loop.batch_size} exceeds the {len(self.pairs)} images: lower it")
        self.names = [] if streamed or painted else self.pairs.names

    def texts(self) -> list[str]:
        """The captions to train a tokenizer on: all, or the first 200,000 of shards, which are downloaded now."""
        options = {"count": TOKENIZER_TEXTS, "caption_column": self.config.data.caption_column}
        return self.pairs.texts if self.pairs else shards.texts(self.opened.shards, **options)

    def start(self, tokenizer: Tokenizer, device: torch.device, step: int) -> None:
        """Makes `next` return this process's batches from `step` on, as in an uninterrupted run."""
        self.device, loop = device, self.config.train
        # few lengths of text on a GPU: its products like multiples of 8, and each new shape costs something there
        multiple = 8 if device.type == "cuda" or loop.compile else 1
        if not self.pairs:
            streamed = ShardBatches(self.opened.shards, tokenizer, self.config, step=step, multiple=multiple)
            self.raw, self.tally = streamed.stream(), streamed.tally
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the first long caption: all are counted instead
                captions = tokenize(self.pairs, tokenizer, self.config.model.text.context_length)
            if tokenizer.truncated and rank() == 0:
                tqdm.write(f"note: {cut_captions(self.pairs.texts, tokenizer)}")
            images = move_to_gpu_once(self.pairs.images, device, on_gpu=self.config.data.on_gpu)
            pairs, options = replace(self.pairs, images=images), {"batch_size": loop.batch_size, "seed": loop.seed}
            self.raw = endless(pairs, captions, step=step, multiple=multiple, **options)
            if device.type == "cuda" and pairs.images is self.pairs.images:  # on a CPU a thread would save no time
                self.raw = prefetch(x.pin_memory() for x in self.raw)

    def next(self, image_size: int | None = None) -> Batch:
        """The next batch, with images of `image_size` pixels a side (default: `data.image_size`).

        The loop asks for the size with each batch, since with train.minutes it depends on the clock.  Only what does
        not depend on the size is prefetched, so that the batches are the same however far ahead they are read.
        """
        config = self.config
        return assemble(next(self.raw), config.data, config.model.vision, image_size=image_size, device=self.device)

    def evaluation(self) -> dict[str, Pairs]:
        """The Pairs of each split of the final evaluation, from the open data set."""
        return self.evaluated or evaluation(self.opened, self.validation)


def evaluation(opened: OpenData, validation: Pairs | None = None) -> dict[str, Pairs]:
    """The Pairs of each split to evaluate; if one can't be read, those of val instead, with a note on the reason."""
    try:
        splits = opened.evaluation_splits
        return {split: validation if validation and split == "val" else opened.load(split) for split in splits}
    except MinclipError as error:
        if isinstance(error.__context__, OSError):  # the user can free the disk now
            raise
        val = validation or opened.load("val")
        return {"val": replace(val, notes=(*val.notes, f"{error}; the final figures are those of val instead"))}


def doubtful(train: Pairs, pairs: Pairs, split: str) -> Iterator[str]:
    """Why the figures of a split of photographs may mislead: some are training images, too, or there are only a few."""
    if same := same_images(train.images, pairs.images):
        some = ", ".join(f"{pairs.names[j]} = {train.names[i]}" for i, j in same[:5]) + " …" * (len(same) > 5)
        yield f"{len(same)} of the {len(pairs)} {split} images are also in train, so its figures are too high: {some}"
    if len(pairs) <= 10:
        yield f"{split} has so few images ({len(pairs)}) that the text-to-image recall@10 of any model is 100 % there"


def cut_captions(texts: list[str], tokenizer: Tokenizer) -> str:
    """A sentence on how many of the `texts`, which were tokenized, are longer than the tokenizer's context."""
    longest, cut = max(texts, key=len), f"{tokenizer.truncated} of {len(texts)} captions"
    ids = tokenizer(longest, 4 * len(longest) + 16)  # long enough: UTF-8 has at most four bytes per character
    tokens, share = int((ids == tokenizer.eot_id).nonzero()[0, 1]) + 1, tokenizer.truncated / len(texts)
    longer = f"({share:.1%}) are longer than model.text.context_length {tokenizer.context_length} and are cut"
    return f"{cut} {longer}; a new run with {tokens} would keep the longest whole"


def endless(pairs: Pairs, captions: Captions, *, batch_size: int, step: int, **options: int) -> Iterator[RawBatch]:
    """`raw_batches` of all epochs, from `step` on."""
    epoch, start = divmod(step, len(pairs) // batch_size)
    while True:
        yield from raw_batches(pairs, captions, batch_size=batch_size, epoch=epoch, start=start, **options)
        epoch, start = epoch + 1, 0


def move_to_gpu_once(images: np.ndarray, device: torch.device, *, on_gpu: str = "auto") -> np.ndarray | Tensor:
    """All images on the GPU; unchanged on other devices, with `on_gpu` "no", and with "auto" if they take over half of
    its free memory.  MinclipError: "yes", and they don't fit."""
    if device.type != "cuda" or on_gpu == "no":
        return images
    free = torch.cuda.mem_get_info(device)[0]
    if on_gpu == "auto" and images.nbytes > free // 2:
        return images
    size = f"{images.nbytes / 1e9:.1f} GB of images, and the GPU has {free / 1e9:.1f} GB free"
    need(images.nbytes < free, f"data.on_gpu yes: {size}; choose auto or no")
    out = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for i in range(0, len(images), 1024):  # in parts: a memory map may be larger than RAM
        out[i : i + 1024] = torch.from_numpy(np.array(images[i : i + 1024]))
    return out


def all_different(pairs: Pairs, count: int) -> Pairs:
    """The first `count` pairs with one caption each, all different, so that a model can fit them without an error."""
    chosen: dict[str, int] = {}  # caption -> image
    for i, captions in enumerate(pairs.captions):
        if new := [caption for caption in captions if caption not in chosen][:1]:
            chosen[new[0]] = i
    need(len(chosen) >= count, f"train.overfit {count}: only {len(chosen)} pairs have different captions: lower it")
    texts, index = list(chosen)[:count], list(chosen.values())[:count]
    return Pairs(pairs.images[index], [[text] for text in texts], [pairs.names[i] for i in index], notes=pairs.notes)


def prefetch(items: Iterable[T], *, count: int = 2) -> Iterator[T]:
    """The same items; a thread prepares up to `count` of them ahead.  Errors of `items` are raised here."""
    items, end = iter(items), object()
    pool = ThreadPoolExecutor(1)
    try:
        futures = deque(pool.submit(next, items, end) for _ in range(count))
        while (item := futures.popleft().result()) is not end:
            futures.append(pool.submit(next, items, end))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)

"""What the training loop reads: batches without end, of pairs that lie in memory or of shards that flow past."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from ..batches import Batch, Pairs, ahead, batches, resident, tokenize
from ..config import MinclipError, TrainConfig
from ..tokenizer import Tokenizer
from ..training.distributed import on_each_machine_once, rank, world_size
from . import load_pairs

TOKENIZER_TEXTS = 200_000  # of shards, whose texts have no end


@dataclass(frozen=True)
class Stream:
    """`texts` train the tokenizer; `start(tokenizer, device, step)` gives this process's batches from `step` on.

    What it gives counts the samples that could not be used as `skipped`, where there can be such.  `names` are those of
    the photographs that are learnt from; none of painted scenes and of shards, where no list of splits decides.
    """

    texts: Callable[[], list[str]]
    names: list[str]
    validation: Pairs
    notes: tuple[str, ...]
    start: Callable[[Tokenizer, torch.device, int], Iterable[Batch]]


def open_stream(config: TrainConfig) -> Stream:
    """The data of a run; a MinclipError where they don't fit its batch or its processes."""
    data, size, processes = config.data, config.train.batch_size, world_size()
    if size % processes:
        raise MinclipError(f"train.batch_size {size} can't be shared evenly among {processes} processes")
    if config.train.micro_batch and (size // processes) % config.train.micro_batch:
        raise MinclipError(
            f"train.micro_batch {config.train.micro_batch} doesn't divide the {size // processes} pairs of each process"
        )
    if data.name == "shards":
        return _of_shards(config)
    with on_each_machine_once():  # photographs are packed by the first process; the others find them packed
        columns = data.image_column, data.caption_column
        pairs = load_pairs(data.name, "train", data.image_size, data.root, data.size or None, columns=columns)
        validation = load_pairs(data.name, "val", data.image_size, data.root, columns=columns)
    if config.train.overfit:
        pairs = all_different(pairs, config.train.overfit)
    if size > len(pairs):
        raise MinclipError(
            f"a batch of {size} is larger than the data set of {len(pairs)} images: lower train.batch_size"
        )

    def start(tokenizer: Tokenizer, device: torch.device, step: int) -> Iterator[Batch]:
        captions = tokenize(pairs, tokenizer, config.model.text.context_length)
        images = resident(pairs.images, device)
        per_epoch = len(pairs) // size

        def endless() -> Iterator[Batch]:
            number = step
            while True:
                epoch, first = divmod(number, per_epoch)
                given = (pairs, captions, size, epoch, config.train.seed, data, config.model.vision, device)
                for batch in batches(*given, start=first, share=(rank(), processes), images=images):
                    yield batch
                    number += 1

        # on a CPU the thread would take the time that it saves
        return ahead(endless()) if device.type == "cuda" and images is pairs.images else endless()

    names = [] if data.name == "shapes" else pairs.names
    return Stream(lambda: pairs.texts, names, validation, (*pairs.notes, *validation.notes), start)


def all_different(pairs: Pairs, count: int) -> Pairs:
    """The first `count` pairs with one caption each, all of which differ: what can be learned by heart without a doubt."""
    chosen, seen = [], set()
    for i, captions in enumerate(pairs.captions):
        new = next((caption for caption in captions if caption not in seen), None)
        if new is not None and len(chosen) < count:
            chosen.append((i, new))
            seen.add(new)
    if len(chosen) < count:
        raise MinclipError(f"only {len(chosen)} of the pairs have a caption of their own: lower train.overfit {count}")
    index = [i for i, _ in chosen]
    return replace(
        pairs,
        images=pairs.images[index],
        captions=[[c] for _, c in chosen],
        names=[pairs.names[i] for i in index],
        tasks={},
    )


def _of_shards(config: TrainConfig) -> Stream:
    """All shards but the last one are trained on; of that the first pairs are the validation split."""
    from .shard_batches import ShardBatches
    from .shards import find_shards, texts

    data, loop = config.data, config.train
    shards = find_shards(data.root)
    if len(shards) < 2:
        raise MinclipError(f"{data.root} is one shard: at least two are needed, the last one for validation")
    if data.size:
        raise MinclipError(
            "data.size takes the first images of a data set in memory; of shards, name fewer in data.root"
        )
    if loop.overfit:
        raise MinclipError("train.overfit takes pairs that lie in memory: try it on another data set")

    def start(tokenizer: Tokenizer, device: torch.device, step: int) -> Iterable[Batch]:
        return ShardBatches(
            shards[:-1],
            tokenizer,
            config.model.text.context_length,
            loop.batch_size // world_size(),
            loop.seed,
            data,
            config.model.vision,
            device,
            step,
            rank(),
            world_size(),
            data.workers,
        )

    validation = load_pairs("shards", "val", data.image_size, data.root)
    return Stream(lambda: texts(shards[:-1], TOKENIZER_TEXTS), [], validation, validation.notes, start)

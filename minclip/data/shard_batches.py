"""Raw batches of WebDataset shards: an endless shuffled stream, split by process and worker, that resumes exactly."""

import itertools
import random
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..batches import SIDED, RawBatch, random_numbers
from ..config import MinclipError, TrainConfig
from ..text import trim
from ..tokenizer import Tokenizer
from ..training import distributed
from .shards import Sample, Tally, read_shard, webdataset


@dataclass(eq=False)
class ShardBatches(IterableDataset):
    """Endless batches from number `step` on, the same for the same (train.seed, rank, world_size, data.workers).

    Each of `world_size` processes reads its own shards and makes its part of each batch.  `data.workers` processes (0:
    none) read and decode, each with a shuffle buffer of `shuffle` samples.  An epoch shows each sample once; its last
    samples share a batch with the first ones of the next epoch, and a sample that would be there twice waits.  `tally`
    counts a sample that can't be decoded; one of the next batch replaces it, and is then shown twice.  So the samples
    of a batch are known without decoding, and a run that starts at `step` decodes nothing before it.

    Raises MinclipError if there are fewer shards than processes, one can't be opened, or all hold less than a batch.
    """

    shards: Sequence[str]
    tokenizer: Tokenizer
    config: TrainConfig
    step: int = 0
    shuffle: int = 1000
    rank: int = field(default_factory=distributed.rank)
    world_size: int = field(default_factory=distributed.world_size)
    tally: Tally = field(default_factory=Tally)
    multiple: int = 1  # of the batches' text length: see `trim`

    def __post_init__(self) -> None:
        n, processes = len(self.shards), self.world_size
        if n < processes:
            raise MinclipError(f"{n} shards are too few for {processes} processes: start fewer, or make more shards")
        webdataset()  # if it is missing, raise here and not in a worker
        self.workers, self.seed = min(self.config.data.workers, n // processes), self.config.train.seed
        self.batch_size = self.config.train.batch_size // processes

    def stream(self) -> Iterator[RawBatch]:
        """The batches, made by the workers, or in this process if there are none."""
        # a generator of its own, since the loader would use the global one; a copy of self, since reading changes it
        options = {"num_workers": self.workers, "generator": torch.Generator(), "worker_init_fn": _ignore_interrupts}
        reader = replace(self, tally=Tally())
        for read in DataLoader(reader, batch_size=None, pin_memory=torch.cuda.is_available(), **options):
            if isinstance(read, MinclipError):
                raise read
            batch, skipped, reasons = read
            self.tally.add(*reasons, skipped=skipped)
            yield batch

    def __iter__(self) -> Iterator[tuple[RawBatch, int, list[str]] | MinclipError]:
        """Runs in each worker: its batches, each with the number of samples just skipped, and the reasons."""
        # worker w makes the batches w, w + workers, …; the loader always asks its worker 0 first, so shift by the step
        info, workers, self.made = get_worker_info(), max(self.workers, 1), 0
        self.worker = ((info.id if info else 0) + self.step) % workers
        try:
            for samples in self.batches(skip=len(range(self.worker, self.step, workers))):
                captions = [s.caption for s in samples]
                ids = self.tokenizer(captions, self.config.model.text.context_length)
                may_flip = torch.tensor([not SIDED.search(caption) for caption in captions])
                numbers = random_numbers(len(samples), self.seed, self.worker + self.made * workers, self.rank)
                images = torch.from_numpy(np.stack([s.pixels for s in samples]))
                ids = trim(ids, self.tokenizer.eot_id, multiple=self.multiple)
                batch = RawBatch(images, ids, may_flip, numbers)
                yield batch, self.tally.skipped, self.tally.reasons
                self.tally.skipped, self.tally.reasons = 0, []
        except MinclipError as error:
            yield error  # raised here, it would reach the user with a worker's traceback in its text

    def samples(self) -> Iterator[Sample]:
        """This worker's samples, shuffled, epoch after epoch; MinclipError if all shards hold less than a batch."""
        empty: set[str] = set()
        for epoch in itertools.count():
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.shards))
            mine = [self.shards[i] for i in order[self.rank :: self.world_size][self.worker :: max(self.workers, 1)]]
            rng, made = random.Random(f"{self.seed} {epoch} {self.rank} {self.worker}"), self.made
            shuffled = webdataset().filters.shuffle(self.shuffle, initial=self.shuffle, rng=rng)
            column = self.config.data.caption_column
            yield from shuffled(s for tar in mine for s in read_shard(tar, self.tally, caption_column=column))
            # the next epoch may assign other shards; but once all of them gave no batch, none ever will
            empty = empty.union(mine) if self.made == made else set()
            if len(empty) == len(set(self.shards)):
                few = f"{len(empty)} shards hold fewer samples than one batch of {self.batch_size}"
                raise MinclipError(f"{few}: lower train.batch_size, or add shards; {self.tally}")

    def batches(self, skip: int) -> Iterator[list[Sample]]:
        """Lists of `batch_size` different decoded samples, from batch number `skip` on."""
        samples, waiting, size, side = self.samples(), deque(), self.batch_size, self.config.data.image_size
        while True:
            source = (waiting.popleft() if waiting else next(samples) for _ in itertools.count())
            chosen, later = {}, []
            while len(chosen) < size:
                sample = next(source)
                if chosen.setdefault(sample.place, sample) is not sample:
                    later.append(sample)
            if self.made >= skip:
                good = {place: s for place, s in chosen.items() if s.decoded(side, self.tally)}
                while len(good) < size:
                    later.append(sample := next(source))
                    if sample.decoded(side, self.tally):
                        good[sample.place] = sample
                yield list(good.values())
            self.made += 1
            waiting.extendleft(reversed(later))


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches workers too; they ignore it, so that the loop can finish its step and then stop them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

"""Raw batches of WebDataset shards: streamed without end, shuffled, split by process and worker, resumed exactly."""

import itertools
import random
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..batches import SIDED, RawBatch, random_numbers
from ..config import MinclipError
from ..text import trim
from ..tokenizer import Tokenizer
from .shards import MAX_REASONS, Sample, Tally, read_shard, webdataset


@dataclass
class ShardBatches:
    """Endless batches from number `step` on, the same for the same (seed, rank, world_size, workers).

    Each of `world_size` processes reads shards of its own and makes `batch_size` pairs of each batch, with `workers`
    processes that read and decode (0: none), each shuffling among `shuffle` samples.  An epoch shows each sample once;
    its last ones share a batch with the first of the next epoch, and one that would be there twice waits.

    Which samples belong to a batch does not depend on what can be decoded, so that starting at `step` decodes nothing
    before it.  A broken sample is replaced by one of the next batch, which is then shown twice.

    `tally` counts the bad samples of the current iteration.  Raises MinclipError if there are fewer shards than
    processes, a shard can't be opened, or all shards together don't fill one batch.
    """

    shards: Sequence[str]
    tokenizer: Tokenizer
    context_length: int
    batch_size: int
    image_size: int
    seed: int = 0
    step: int = 0
    rank: int = 0
    world_size: int = 1
    workers: int = 0
    shuffle: int = 1000
    pin_memory: bool = False
    tally: Tally = field(default_factory=Tally)

    def __post_init__(self) -> None:
        n, processes = len(self.shards), self.world_size
        if n < processes:
            few = f"{n} shards are too few for {processes} processes, each of which reads its own"
            raise MinclipError(f"{few}: make {processes} shards or more, or start at most {n} processes")
        webdataset()  # if it is missing, this says so before a worker does
        self.workers = min(self.workers, n // processes)

    def __iter__(self) -> Iterator[RawBatch]:
        own = torch.Generator()  # else the loader draws from the global one
        options = {"num_workers": self.workers, "pin_memory": self.pin_memory, "worker_init_fn": _ignore_interrupts}
        self.tally.skipped, self.tally.reasons = 0, []
        for read in DataLoader(_Reader(self), batch_size=None, generator=own, **options):
            if isinstance(read, MinclipError):
                raise read
            batch, skipped, reasons = read
            self.tally.skipped += skipped
            self.tally.reasons = [*self.tally.reasons, *reasons][:MAX_REASONS]
            yield batch


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches the whole group of processes; the loop ends its step and then the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Reader(IterableDataset):
    """What a worker does; it yields a RawBatch, the number of newly skipped samples, and their reasons."""

    def __init__(self, run: ShardBatches) -> None:
        self.run = run

    def __iter__(self) -> Iterator[tuple[RawBatch, int, list[str]] | MinclipError]:
        # worker w makes the batches w, w + workers, …; the loader asks its worker 0 first, whatever the step
        run, info = self.run, get_worker_info()
        self.workers, self.tally, self.made = max(run.workers, 1), Tally(), 0
        self.worker = ((info.id if info else 0) + run.step) % self.workers
        try:
            for samples in self.batches(skip=len(range(self.worker, run.step, self.workers))):
                captions = [s.caption for s in samples]
                ids = trim(run.tokenizer(captions, run.context_length), run.tokenizer.eot_id)
                may_flip = torch.tensor([not SIDED.search(caption) for caption in captions])
                numbers = random_numbers(len(samples), run.seed, self.worker + self.made * self.workers, run.rank)
                images = torch.from_numpy(np.stack([s.pixels for s in samples]))
                yield RawBatch(images, ids, may_flip, numbers), self.tally.skipped, self.tally.reasons
                self.tally.skipped, self.tally.reasons = 0, []
        except MinclipError as error:
            yield error  # raised here, it would reach the user with a worker's traceback in its text

    def samples(self) -> Iterator[Sample]:
        """Epoch after epoch this worker's part of the shards, shuffled; MinclipError if all don't make a batch."""
        run, empty = self.run, set()
        for epoch in itertools.count():
            order = np.random.default_rng([run.seed, epoch]).permutation(len(run.shards))[run.rank :: run.world_size]
            mine = [run.shards[i] for i in order[self.worker :: self.workers]]
            rng, made = random.Random(f"{run.seed} {epoch} {run.rank} {self.worker}"), self.made
            shuffled = webdataset().filters.shuffle(run.shuffle, initial=run.shuffle, rng=rng)
            yield from shuffled(s for shard in mine for s in read_shard(shard, self.tally))
            # the next epoch may bring other shards; but if no shard has made a batch by then, none ever will
            empty = empty.union(mine) if self.made == made else set()
            if len(empty) == len(set(run.shards)):
                few = f"{len(empty)} shards hold too little for one batch of {run.batch_size}"
                raise MinclipError(f"{few}; {self.tally}")

    def batches(self, skip: int) -> Iterator[list[Sample]]:
        """`batch_size` decoded samples each, all different, from number `skip` on."""
        samples, waiting, size = self.samples(), deque(), self.run.batch_size
        while True:
            source = (waiting.popleft() if waiting else next(samples) for _ in itertools.count())
            chosen: dict[tuple[str, int], Sample] = {}
            later: list[Sample] = []
            while len(chosen) < size:
                sample = next(source)
                if chosen.setdefault(sample.place, sample) is not sample:
                    later.append(sample)
            if self.made >= skip:
                good = {place: s for place, s in chosen.items() if s.decoded(self.run.image_size, self.tally)}
                while len(good) < size:
                    later.append(sample := next(source))
                    if sample.decoded(self.run.image_size, self.tally):
                        good[sample.place] = sample
                yield list(good.values())
            self.made += 1
            waiting.extendleft(reversed(later))

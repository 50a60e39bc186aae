"""Batches of WebDataset shards: streamed without end, shuffled, split by process and worker, resumed exactly."""

import itertools
import random
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..batches import SIDED, Batch, augment, normalize, to_device
from ..config import DataConfig, MinclipError, VisionConfig
from ..text import trim
from ..tokenizer import Tokenizer
from .shards import MAX_REASONS, Sample, Tally, read_shard, webdataset


@dataclass
class ShardBatches:
    """Endless batches from number `step` on, the same from the same (seed, rank, world_size, workers).

    Each of `world_size` processes reads shards of its own and makes its share, `batch_size` pairs of each batch;
    `workers` processes read and decode for it (0: it does so itself), each shuffling among `shuffle` samples.  In an
    epoch a sample is seen once, by one of all.  The last of an epoch share a batch with the first of the next; one that
    would be in it twice waits for another batch.

    Which samples belong to batch k does not depend on what can be decoded, so that `step=k` decodes nothing before it.
    The place of a broken one is taken by one that belongs to the next batch, which is shown there again.

    `skipped` counts the bad samples since the iteration began, `reasons` are the first few.  MinclipError: fewer shards
    than processes, a shard that can't be opened, or all shards together don't fill one batch.
    """

    shards: Sequence[str]
    tokenizer: Tokenizer
    context_length: int
    batch_size: int
    seed: int
    data: DataConfig
    vision: VisionConfig
    device: torch.device | str
    step: int = 0
    rank: int = 0
    world_size: int = 1
    workers: int = 0
    shuffle: int = 1000

    def __post_init__(self) -> None:
        n, processes = len(self.shards), self.world_size
        if n < processes:
            few = f"{n} shards are too few for {processes} processes, each of which reads its own"
            raise MinclipError(f"{few}: make {processes} shards or more, or start at most {n} processes")
        webdataset()  # where it is missing, that is said now and not in a worker
        self.workers = min(self.workers, n // processes)
        self.skipped, self.reasons = 0, []

    def __iter__(self) -> Iterator[Batch]:
        pin, own = torch.device(self.device).type == "cuda", torch.Generator()  # or the loader draws from everybody's
        loader = DataLoader(
            _Reader(self),
            batch_size=None,
            num_workers=self.workers,
            pin_memory=pin,
            generator=own,
            worker_init_fn=_ignore_interrupts,
        )
        self.skipped, self.reasons = 0, []
        for number, read in enumerate(loader, self.step):
            if isinstance(read, MinclipError):
                raise read
            pixels, ids, sided, skipped, reasons = read
            self.skipped, self.reasons = self.skipped + skipped, [*self.reasons, *reasons][:MAX_REASONS]
            draw = np.random.SeedSequence([self.seed, number, self.rank]).generate_state(1)[0]
            luck = torch.rand(5, self.batch_size, generator=torch.Generator().manual_seed(int(draw)))
            may_flip = ~sided if self.data.flip else torch.zeros_like(sided)
            images = augment(to_device(pixels, self.device), self.data.min_crop, may_flip, luck)
            ids = to_device(trim(ids, self.tokenizer.eot_id), self.device)
            first = (number * self.world_size + self.rank) * self.batch_size
            yield Batch(
                normalize(images, self.vision), ids, torch.arange(first, first + self.batch_size).to(self.device)
            )


def _ignore_interrupts(worker: int) -> None:
    """Ctrl-C reaches the whole group of processes; the loop ends its step and then the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Reader(IterableDataset):
    """What a worker does: (pixels (B, 3, S, S) uint8, ids (B, L), says a side (B,) bool, newly skipped, reasons) a batch."""

    def __init__(self, run: ShardBatches) -> None:
        self.run = run

    def __iter__(self) -> Iterator[tuple | MinclipError]:
        # worker w makes the batches w, w + workers, …; the loader asks its worker 0 first, whatever the step
        run, info = self.run, get_worker_info()
        self.lanes, self.tally, self.made = max(run.workers, 1), Tally(), 0
        self.lane = ((info.id if info else 0) + run.step) % self.lanes
        try:
            for samples in self.batches(skip=len(range(self.lane, run.step, self.lanes))):
                captions = [s.caption for s in samples]
                pixels = torch.from_numpy(np.stack([s.pixels for s in samples]))
                sided = torch.tensor([SIDED.search(caption) is not None for caption in captions])
                ids = run.tokenizer(captions, run.context_length)
                yield pixels, ids, sided, self.tally.skipped, self.tally.reasons
                self.tally.skipped, self.tally.reasons = 0, []
        except MinclipError as error:
            yield error  # raised here, it would reach the user with a worker's traceback in its text

    def samples(self) -> Iterator[Sample]:
        """Epoch after epoch this worker's part of the shards, shuffled; a MinclipError where all don't make a batch."""
        run, barren = self.run, set()
        for epoch in itertools.count():
            order = np.random.default_rng([run.seed, epoch]).permutation(len(run.shards))[run.rank :: run.world_size]
            mine = [run.shards[i] for i in order[self.lane :: self.lanes]]
            rng, made = random.Random(f"{run.seed} {epoch} {run.rank} {self.lane}"), self.made
            shuffled = webdataset().filters.shuffle(run.shuffle, initial=run.shuffle, rng=rng)
            yield from shuffled(s for shard in mine for s in read_shard(shard, self.tally))
            # the next epoch may bring other shards; but what none of them filled never gets full
            barren = barren.union(mine) if self.made == made else set()
            if len(barren) == len(set(run.shards)):
                few = f"{len(barren)} shards hold too little for one batch of {run.batch_size}"
                raise MinclipError(f"{few}; {self.tally}")

    def batches(self, skip: int) -> Iterator[list[Sample]]:
        """`batch_size` decoded samples each, all different, from number `skip` on."""
        samples, waiting = self.samples(), deque()

        def take() -> Sample:
            return waiting.popleft() if waiting else next(samples)

        while True:
            own: dict[tuple[str, int], Sample] = {}
            later: list[Sample] = []
            while len(own) < self.run.batch_size:
                sample = take()
                if own.setdefault(sample.place, sample) is not sample:
                    later.append(sample)
            if self.made >= skip:
                good = {place: s for place, s in own.items() if s.decoded(self.run.data.image_size, self.tally)}
                while len(good) < self.run.batch_size:
                    later.append(sample := take())
                    if sample.decoded(self.run.data.image_size, self.tally):
                        good[sample.place] = sample
                yield list(good.values())
            self.made += 1
            waiting.extendleft(reversed(later))

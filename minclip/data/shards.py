"""WebDataset shards, as img2dataset writes them: web-scale pairs, streamed, shuffled, split by process and worker."""

import itertools
import json
import random
import tarfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import IO
from urllib.request import urlopen

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..config import DataConfig, MinclipError, VisionConfig
from ..text import trim
from ..tokenizer import Tokenizer
from .batches import _SIDED, Batch, augment, normalize, to_device
from .pack import decode
from .pairs import Pairs

WEB, IMAGES = ("http://", "https://"), ("jpg", "jpeg", "png", "webp")
TIMEOUT, PAUSES = 60, (1, 5, 20)  # seconds until a silent server is given up, and before it is asked again
REASONS = 5  # how many bad samples are told one by one


def find_shards(root: str) -> list[str]:
    """Sorted paths or URLs of the shards at `root`: a folder with *.tar, one tar, or a pattern `…/{00000..00099}.tar`.

    URLs are not asked for here.  A MinclipError where a shard is not there.
    """
    shards = sorted(map(str, Path(root).glob("*.tar"))) or [f"{root}/*.tar"] if Path(root).is_dir() else [root]
    if "{" in root and not Path(root).exists():
        try:
            shards = sorted(_webdataset().shardlists.expand_urls(root))
        except ValueError as error:
            raise MinclipError(f"{root} is no pattern such as {{00000..00099}}.tar: {error}") from None
    missing = [shard for shard in shards if not (shard.startswith(WEB) or Path(shard).is_file())]
    if missing:
        looked = f"looked for {', '.join(missing[:3])}{' …' if missing[3:] else ''}"
        give = (
            "give a folder with *.tar, one tar, a pattern such as {00000..00099}.tar, or such a pattern of http(s) URLs"
        )
        raise MinclipError(f"{len(missing)} of {len(shards)} shards are not there: {looked}; {give}")
    return shards


def first_pairs(shards: Sequence[str], image_size: int, count: int) -> Pairs:
    """The first `count` samples that can be decoded, (N, 3, S, S) uint8 with a caption each; fewer where there are fewer.

    Pairs.notes tells what was skipped on the way.  A MinclipError where nothing is left.
    """
    tally = Tally()
    good = (s for shard in shards for s in read_shard(shard, tally) if s.decoded(image_size, tally))
    if not (first := list(itertools.islice(good, count))):
        raise MinclipError(f"no pair can be read from {len(shards)} shards; {tally}")
    images, notes = np.stack([s.pixels for s in first]), (str(tally),) if tally.skipped else ()
    return Pairs(images, [[s.caption] for s in first], [s.name for s in first], notes=notes)


def texts(shards: Sequence[str], count: int) -> list[str]:
    """Up to `count` captions of the first samples, no image decoded: enough to train a tokenizer on."""
    tally = Tally()
    captions = (s.caption for shard in shards for s in read_shard(shard, tally))
    if not (first := list(itertools.islice(captions, count))):
        raise MinclipError(f"no caption can be read from {len(shards)} shards; {tally}")
    return first


# ---- reading


@dataclass
class Tally:
    """What was met while reading: the number of bad samples, and the first few of them as "shard: key (why)"."""

    skipped: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, name: str, why: object) -> None:
        self.skipped += 1
        self.reasons += [f"{name} ({why})"] if len(self.reasons) < REASONS else []

    def __str__(self) -> str:
        return f"{self.skipped} samples were skipped: {', '.join(self.reasons) or 'none'}{' …' if self.skipped > REASONS else ''}"


@dataclass
class Sample:
    """A pair as it stands in a shard; when decoded, `encoded` has become `pixels` (3, S, S) uint8, unless it is broken."""

    place: tuple[str, int]  # its shard, and its number there
    name: str  # "shard: key"
    caption: str
    encoded: bytes
    pixels: np.ndarray | None = None

    def decoded(self, image_size: int, tally: Tally) -> bool:
        """Whether the image can be decoded, which is tried once."""
        if self.encoded:
            try:
                self.pixels = decode(self.encoded, image_size)
            except Exception as error:  # on what the web holds, Pillow's many readers raise anything
                tally.add(self.name, error)
            self.encoded = b""
        return self.pixels is not None


def read_shard(shard: str, tally: Tally) -> Iterator[Sample]:
    """The samples of one tar that have an image and a caption, in its order; the others are counted.

    A tar that is cut off or damaged ends there, and is counted.  A MinclipError where it can't be opened.
    """
    short = Path(shard.split("?")[0] if shard.startswith(WEB) else shard).name  # a URL's query may hold a password
    last, cut = "its beginning", False

    def files() -> Iterator[dict]:
        nonlocal last, cut
        try:
            # webdataset's own reader takes a tar that was cut between two files for a whole one
            with _open(shard) as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_Strict) as tar:
                for member in iter(tar.next, None):
                    if member.isfile():
                        yield {"fname": member.name, "data": tar.extractfile(member).read(), "__url__": shard}
                        last = member.name
                    tar.members.clear()  # it would remember them all
        except (tarfile.TarError, OSError, HTTPException) as error:
            cut = True
            tally.add(f"{short}: {last}", f"cut off or damaged after it: {error}")

    def go_on(error: Exception) -> bool:
        tally.add(f"{short}: {last}", f"after it: {error.args[0]}")
        return True

    for number, found in enumerate(_webdataset().tariterators.group_by_keys(files(), handler=go_on)):
        name = f"{short}: {found['__key__']}"
        try:
            sample = Sample((shard, number), name, _caption(found), _image(found))
        except ValueError as error:
            if not cut:  # else it is the one that was cut, and counted
                tally.add(name, error)
        else:
            yield sample


def _image(found: dict[str, bytes]) -> bytes:
    """Encoded, from a sample's files by extension; a ValueError where there is none."""
    for kind in IMAGES:
        if found.get(kind):
            return found[kind]
    raise ValueError("no image")


def _caption(found: dict[str, bytes]) -> str:
    """From a sample's files by extension; a ValueError tells why there is none."""
    if "txt" in found:
        caption = found["txt"].decode("utf-8")
    else:
        described = json.loads(found.get("json", b"{}"))
        caption = described.get("caption") if isinstance(described, dict) else None
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError("no caption")
    caption.encode("utf-8")  # JSON can spell half a character, which no tokenizer takes
    return caption.strip()


class _Strict(tarfile.TarInfo):
    """tarfile takes a missing or damaged header for the end, without a word; only a block of zeros is one."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf == bytes(tarfile.BLOCKSIZE):
                raise
            raise tarfile.ReadError(str(error)) from None


def _open(shard: str) -> IO[bytes]:
    for pause in itertools.chain(PAUSES, [None]):
        try:
            return urlopen(shard, timeout=TIMEOUT) if shard.startswith(WEB) else open(shard, "rb")
        except (OSError, HTTPException) as error:
            code = getattr(error, "code", 503)  # a server's answer has one; without an answer, ask again
            if pause is None or not shard.startswith(WEB) or (code < 500 and code != 429):
                raise MinclipError(f"the shard {shard} can't be read: {error}") from None
        time.sleep(pause)


def _webdataset() -> ModuleType:
    try:
        import webdataset  # here, since most runs need none
    except ImportError:
        raise MinclipError("shards are read with webdataset, which is not installed: pip install webdataset") from None
    return webdataset


# ---- batches


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
        _webdataset()  # where it is missing, that is said now and not in a worker
        self.workers = min(self.workers, n // processes)
        self.skipped, self.reasons = 0, []

    def __iter__(self) -> Iterator[Batch]:
        pin, own = torch.device(self.device).type == "cuda", torch.Generator()  # or the loader draws from everybody's
        loader = DataLoader(_Reader(self), batch_size=None, num_workers=self.workers, pin_memory=pin, generator=own)
        self.skipped, self.reasons = 0, []
        for number, read in enumerate(loader, self.step):
            if isinstance(read, MinclipError):
                raise read
            pixels, ids, sided, skipped, reasons = read
            self.skipped, self.reasons = self.skipped + skipped, [*self.reasons, *reasons][:REASONS]
            draw = np.random.SeedSequence([self.seed, number, self.rank]).generate_state(1)[0]
            luck = torch.rand(5, self.batch_size, generator=torch.Generator().manual_seed(int(draw)))
            may_flip = ~sided if self.data.flip else torch.zeros_like(sided)
            images = augment(to_device(pixels, self.device), self.data.min_crop, may_flip, luck)
            ids = to_device(trim(ids, self.tokenizer.eot_id), self.device)
            first = (number * self.world_size + self.rank) * self.batch_size
            yield Batch(
                normalize(images, self.vision), ids, torch.arange(first, first + self.batch_size).to(self.device)
            )


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
                sided = torch.tensor([_SIDED.search(caption) is not None for caption in captions])
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
            shuffled = _webdataset().filters.shuffle(run.shuffle, initial=run.shuffle, rng=rng)
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

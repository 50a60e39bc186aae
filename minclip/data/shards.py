"""WebDataset shards, as img2dataset writes them: found, opened, and read sample by sample."""

import functools
import itertools
import math
import re
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.request import urlopen

import numpy as np

from ..batches import Pairs
from ..config import MinclipError, need
from ..weights.config_json import parse_json
from ..weights.towers import library
from .photos.images import decode
from .photos.tables import KNOWN, captions_in, key_of

WEB, IMAGES, TEXTS = ("http://", "https://"), ("jpg", "jpeg", "png", "webp"), ("txt", "text", "caption")
TIMEOUT, PAUSES = 60, (1, 5, 20)  # seconds to wait for a silent server, and before each new attempt
MAX_SHARDS = 1_000_000  # in a pattern; LAION-5B has a quarter of that
MAX_IMAGE, MAX_TEXT = 2**28, 2**20  # bytes that an image, and a caption or a header, may declare
MAX_MEMBER = 2**32  # bytes that an unused member may declare: tarfile takes minutes to skip a terabyte past the end
LIMITS = {**dict.fromkeys(IMAGES, MAX_IMAGE), **dict.fromkeys((*TEXTS, "json"), MAX_TEXT)}
HEADERS = (b"x", b"g", b"X", b"L", b"K")  # tarfile's types of pax headers, and of GNU's for long names
MAX_REASONS = 5  # skipped samples that are reported one by one
VALIDATION_PAIRS = 1000  # from the last shard
webdataset = functools.partial(library, "webdataset", "reading shards", "webdataset")


def find_shards(root: str) -> list[str]:
    """Sorted paths or URLs of the shards at `root`: a folder with *.tar, one tar, or a pattern `…/{00000..00099}.tar`.

    URLs are not checked here.  Raises MinclipError if a shard is missing or the pattern names too many.
    """
    give = "give a folder with *.tar, one tar, or a pattern such as {00000..00099}.tar, of files or of http(s) URLs"
    need(bool(root), f"data set 'shards' needs data.root: {give}")
    shards = (sorted(map(str, Path(root).glob("*.tar"))) or [f"{root}/*.tar"]) if Path(root).is_dir() else [root]
    if "{" in root and not Path(root).exists():
        try:
            need((count := _count(root)) <= MAX_SHARDS, f"it names {count:,} shards, more than {MAX_SHARDS:,}")
            shards = sorted(webdataset().shardlists.expand_urls(root))
        except ValueError as error:
            raise MinclipError(f"data.root {root} is no pattern such as {{00000..00099}}.tar: {error}") from None
    if missing := [shard for shard in shards if not (shard.startswith(WEB) or Path(shard).is_file())]:
        looked = f"looked for {', '.join(missing[:3])}{' …' if missing[3:] else ''}"
        raise MinclipError(f"data.root: {len(missing)} of {len(shards)} shards are missing: {looked}; {give}")
    return shards


def _count(pattern: str) -> int:
    """The number of shards that `pattern` names, or an upper bound, without expanding it."""
    ranges = re.findall(r"\{(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?\}", pattern)
    numbers = (abs(int(last) - int(first)) // (int(step or 1) or 1) + 1 for first, last, step in ranges)
    lists = (1 + part.count(",") for part in re.split("[{}]", pattern))  # {left,right}
    return math.prod(numbers) * math.prod(lists) * 52 ** len(re.findall(r"\{[A-Za-z]\.\.", pattern))  # {a..z}


def load_shards(
    shards: Sequence[str], split: str = "val", *, image_size: int, size: int | None = None, caption_column: str = ""
) -> Pairs:
    """The first `size` samples that can be decoded, (N, 3, S, S) uint8, one caption each; fewer if the shards end.

    Pairs.notes reports skipped samples.  Raises MinclipError if there is no usable sample, or the split isn't "val".
    """
    need(split == "val", f"shards can't be loaded as split {split!r}, only as 'val': training streams them")
    tally = Tally()
    samples = (sample for shard in shards for sample in read_shard(shard, tally, caption_column=caption_column))
    decoded = (sample for sample in samples if sample.decoded(image_size, tally))
    first = _first(decoded, size or VALIDATION_PAIRS, shards, tally)
    images, notes = np.stack([s.pixels for s in first]), (str(tally),) if tally.skipped else ()
    return Pairs(images, [[s.caption] for s in first], [s.name for s in first], notes=notes)


def texts(shards: Sequence[str], *, count: int, caption_column: str = "") -> list[str]:
    """Up to `count` captions of the first samples, to train a tokenizer on; no image is decoded."""
    tally = Tally()
    samples = (sample for shard in shards for sample in read_shard(shard, tally, caption_column=caption_column))
    return _first((sample.caption for sample in samples), count, shards, tally)


def _first(items: Iterator, count: int, shards: Sequence[str], tally: "Tally") -> list:
    if not (first := list(itertools.islice(items, count))):
        first_reason = Tally(tally.skipped, tally.reasons[:1])  # most often that of all
        raise MinclipError(f"no pair can be read from {len(shards)} shards; {first_reason}")
    return first


# ---- reading


@dataclass
class Tally:
    """The number of skipped samples, and the first few of them as "shard: key (reason)"."""

    skipped: int = 0
    reasons: list[str] = field(default_factory=list)

    def add(self, *reasons: str, skipped: int = 1) -> None:
        self.skipped, self.reasons = self.skipped + skipped, [*self.reasons, *reasons][:MAX_REASONS]

    def __str__(self) -> str:
        more = " …" if self.skipped > len(self.reasons) else ""
        return f"{self.skipped} samples were skipped: {', '.join(self.reasons) or 'none'}{more}"


@dataclass
class Sample:
    """A pair of a shard.  Decoding replaces `encoded` by `pixels` (3, S, S) uint8, unless the image is broken."""

    place: tuple[str, int]  # the shard, and the sample's number in it
    name: str  # "shard: key"
    caption: str
    encoded: bytes
    pixels: np.ndarray | None = None

    def decoded(self, image_size: int, tally: Tally) -> bool:
        """Decodes the image at the first call; returns whether that worked."""
        if self.encoded:
            try:
                self.pixels = decode(self.encoded, image_size)
            except Exception as error:  # Pillow's many readers raise anything on files from the web
                tally.add(f"{self.name} ({error})")
            self.encoded = b""
        return self.pixels is not None


def read_shard(shard: str, tally: Tally, *, caption_column: str = "") -> Iterator[Sample]:
    """The samples of one tar that have an image and a caption, in the tar's order; `tally` counts the others.

    `caption_column` names the caption's file by its extension, or its field in the .json; "" tries known ones.
    A tar that is cut off or damaged ends there, and counts as one skipped sample.  MinclipError if it can't be opened.
    """
    short = Path(shard.split("?")[0] if shard.startswith(WEB) else shard).name  # a URL's query may hold a password
    opened, last, cut = _open(shard), "its beginning", False
    limits = {caption_column.split(".")[-1].lower(): MAX_TEXT, **LIMITS}

    def files() -> Iterator[dict]:
        nonlocal last, cut
        try:
            # webdataset's own reader doesn't notice that a tar was cut between two files
            with opened as stream, tarfile.open(fileobj=stream, mode="r|", tarinfo=_Strict) as tar:
                for member in iter(tar.next, None):
                    if member.size > MAX_MEMBER and not member.issparse():
                        raise tarfile.ReadError(f"a member of {member.size:,} bytes")
                    if member.isfile():
                        # a sparse file of a few bytes may declare a terabyte of zeros
                        limit = -1 if member.issparse() else limits.get(member.name.split(".")[-1].lower(), -1)
                        content = tar.extractfile(member).read() if member.size <= limit else b""
                        yield {"fname": member.name, "data": content, "__url__": shard}
                        last = member.name
                    tar.members.clear()  # else tarfile keeps the headers of all
        # tarfile raises ValueError for garbage in a sparse map, and follows headers of headers by recursion
        except (tarfile.TarError, OSError, HTTPException, ValueError, RecursionError) as error:
            cut = True
            tally.add(f"{short}: {last} (cut off or damaged after it: {error})")

    def note(error: Exception) -> bool:
        tally.add(f"{short}: {last} (after it: {error.args[0]})")
        return True

    for number, found in enumerate(webdataset().tariterators.group_by_keys(files(), handler=note)):
        name = f"{short}: {found['__key__']}"
        try:
            yield Sample((shard, number), name, *_pair(found, caption_column))
        except ValueError as error:
            if not cut:  # else it is the sample that was cut, already counted
                tally.add(f"{name} ({error})")


def _pair(found: dict[str, bytes], asked: str) -> tuple[str, bytes]:
    """Caption and encoded image of a sample, given as extension -> content; ValueError says what is missing."""
    files = {kind: content for kind, content in found.items() if isinstance(content, bytes)}  # not webdataset's __key__
    values = parse_json(files.get("json") or b"{}", "its .json")
    fields = {key_of(name): value for name, value in values.items()} if isinstance(values, dict) else {}
    names = [asked.lower(), key_of(asked)] if asked else [*TEXTS, *KNOWN["caption"]]
    cell = next((part[name] for name in names for part in (files, fields) if name in part), None)
    caption = (captions_in(cell.decode("utf-8") if isinstance(cell, bytes) else cell) or [None])[0]
    there = f"found .{', .'.join(files)}{' with ' * bool(fields)}{', '.join([*fields][:9])}"
    if not isinstance(caption, str) or not caption.strip():
        where = f"{repr(asked) if asked else 'a .txt or .json'} of up to {MAX_TEXT:,} bytes"
        raise ValueError(f"no caption in {where}, {there}; data.caption_column names one")
    caption.encode("utf-8")  # raises for half a character (a lone surrogate), which JSON can hold
    others = [kind for kind in files if kind.rpartition(".")[2] in IMAGES]  # such as input.jpg, if it is the only one
    images = [kind for kind in (*IMAGES, *(others if len(others) == 1 else ())) if files.get(kind)]
    if not images:
        raise ValueError(f"no image in a .{', .'.join(IMAGES)} of up to {MAX_IMAGE:,} bytes, {there}")
    return caption.strip(), files[images[0]]


class _Strict(tarfile.TarInfo):
    """tarfile takes any missing or damaged header for the end of the tar; here, only a block of zeros is the end."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        try:
            info = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf == bytes(tarfile.BLOCKSIZE):
                raise
            raise tarfile.ReadError(str(error)) from None
        if info.size > MAX_TEXT and info.type in HEADERS:
            raise tarfile.ReadError(f"a header of {info.size:,} bytes")
        return info


def _open(shard: str) -> IO[bytes]:
    web = shard.startswith(WEB)
    for pause in (*PAUSES, None):
        try:
            return urlopen(shard, timeout=TIMEOUT) if web else open(shard, "rb")
        except (OSError, HTTPException) as error:
            code = getattr(error, "code", 503 if web else 404)  # without a server's answer, try again
            if pause is None or (code < 500 and code != 429):
                raise MinclipError(f"the shard {shard} can't be read: {error}") from None
        time.sleep(pause)

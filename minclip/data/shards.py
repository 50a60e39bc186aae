"""WebDataset shards, as img2dataset writes them: found, opened, and read sample by sample."""

import itertools
import json
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import IO
from urllib.request import urlopen

import numpy as np

from ..batches import Pairs
from ..config import MinclipError
from .photos.images import decode

WEB, IMAGES = ("http://", "https://"), ("jpg", "jpeg", "png", "webp")
TIMEOUT, PAUSES = 60, (1, 5, 20)  # seconds until a silent server is given up, and before it is asked again
REASONS = 5  # how many bad samples are told one by one


def find_shards(root: str) -> list[str]:
    """Sorted paths or URLs of the shards at `root`: a folder with *.tar, one tar, or a pattern `…/{00000..00099}.tar`.

    URLs are not asked for here.  A MinclipError where a shard is not there.
    """
    if not root:
        raise MinclipError(
            "shards need their place: --data.root FOLDER, or a pattern such as 'there/{00000..00099}.tar'"
        )
    shards = sorted(map(str, Path(root).glob("*.tar"))) or [f"{root}/*.tar"] if Path(root).is_dir() else [root]
    if "{" in root and not Path(root).exists():
        try:
            shards = sorted(webdataset().shardlists.expand_urls(root))
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

    for number, found in enumerate(webdataset().tariterators.group_by_keys(files(), handler=go_on)):
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


def webdataset() -> ModuleType:
    """The library, imported here since most runs need none."""
    try:
        import webdataset
    except ImportError:
        raise MinclipError("shards are read with webdataset, which is not installed: pip install webdataset") from None
    return webdataset

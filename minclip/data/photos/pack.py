"""Photographs decoded once into one uint8 file, which is then read in place (a memory map), never loaded whole."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ...config import MinclipError
from ...weights.config_json import parse_json
from ...weights.hub import data_folder
from .images import BROKEN, decode

_VERSION = 4  # of what `decode` makes of a file; raise it and packs are made anew
_BLOCK = 2**23  # bytes of pixels for each line of the list: what a kill costs
_SMALL = 2**28  # bytes that are checked at every start: a few tenths of a second


def pack(
    names: Sequence[str], read: Callable[[str], bytes], image_size: int, *, place: str, stamps: Sequence[str] = ()
) -> tuple[np.memmap, list[str], list[str]]:
    """A memory map (n, 3, S, S) uint8 of the images that can be decoded, their names, and "name (why)" of the others.

    `read(name)` gives the encoded bytes, to several threads at once.  `stamps` change with the images' contents; a new
    pack replaces the earlier ones of the same `place` and size.  MinclipError: too little disk, or nothing to decode.

    A pack is two files in the data folder's cache: the pixels (.u8, channels last), and a list (.jsonl) with each
    block's checksum and broken images.  A line is written after its pixels, so that a killed process is continued after
    the last line.  At each start the size is checked, and a small file's pixels; a damaged pack is made anew.
    """
    count = max(1, _BLOCK // (3 * image_size**2))
    blocks = [list(names[i : i + count]) for i in range(0, len(names), count)]
    group, key = _digest([place, image_size]), _digest([_VERSION, *names, *stamps])
    made = _Pack(data_folder() / "cache" / f"photos-{group}-{key}.u8", blocks, image_size)
    lines, good = made.state()
    images = made.map(lines) if good == len(blocks) else None
    if images is None:
        made.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(made.path.parent):
            lines = made.finish(read)
            images = made.map(lines)
            for path in made.path.parent.glob(f"photos-{group}-*"):
                if path.stem != made.path.stem:
                    # a process that has it mapped keeps its pixels; Windows refuses, then the next pack removes it
                    with contextlib.suppress(OSError):
                        path.unlink()
    broken = {name for line in lines for name in line["broken"]}
    return images, [name for name in names if name not in broken], _reasons(lines)


@dataclass(frozen=True)
class _Pack:
    path: Path  # of the pixels
    blocks: list[list[str]]  # the names of the images that each line of the list stands for
    image_size: int

    def sizes(self, lines: list[dict]) -> list[int]:
        """The bytes of pixels of each block."""
        return [3 * self.image_size**2 * (len(b) - len(line["broken"])) for b, line in zip(self.blocks, lines)]

    def state(self) -> tuple[list[dict], int]:
        """The lines of the list, up to the first damaged one, and how many leading blocks have their pixels."""
        lines: list[dict] = []
        with contextlib.suppress(FileNotFoundError, MinclipError, AttributeError, KeyError):
            for block, line in zip(self.blocks, self.path.with_suffix(".jsonl").read_bytes().splitlines(keepends=True)):
                values = parse_json(line, "")
                if not (
                    line.endswith(b"\n") and values.keys() == {"sum", "broken"} and values["broken"].keys() <= {*block}
                ):
                    break
                lines.append(values)
        sizes, finished = self.sizes(lines), len(lines) == len(self.blocks)
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if finished and (size != sum(sizes) or size > _SMALL):
                return lines, len(lines) if size == sum(sizes) else 0
            sound = [zlib.crc32(file.read(size)) == line["sum"] for size, line in zip(sizes, lines)]
            return lines, [*sound, False].index(False)
        return lines, 0

    def map(self, lines: list[dict]) -> np.memmap | None:
        """(n, 3, S, S) of a finished pack; None where another process has replaced it meanwhile."""
        side, size = self.image_size, sum(self.sizes(lines))
        if size == 0:
            count = sum(map(len, self.blocks))
            raise MinclipError(f"none of the {count} images can be decoded: {'; '.join(_reasons(lines)[:5])}")
        with contextlib.suppress(FileNotFoundError):
            images = np.memmap(self.path, np.uint8, "r", shape=(size // (3 * side**2), side, side, 3))
            return images.transpose(0, 3, 1, 2)

    def finish(self, read: Callable[[str], bytes]) -> list[dict]:
        """Packs the blocks that have no good line yet, and returns all lines."""
        lines, good = self.state()
        if len(lines) == len(self.blocks) > good:
            tqdm.write(f"note: {self.path} is not what was written, so it is made anew")
            good = 0
            try:
                for path in (self.path.with_suffix(".jsonl"), self.path):
                    path.unlink(missing_ok=True)  # not overwritten: a process that has it mapped keeps its pixels
            except PermissionError as error:  # Windows
                raise MinclipError(f"a damaged pack is open in another process: close that one ({error})") from None
        try:
            self.check_room()
            return lines if good == len(self.blocks) else self.append(lines[:good], read)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                self.check_room()
            raise

    def check_room(self) -> None:
        """MinclipError where the disk has too little room for what is not packed yet."""
        have = self.path.stat().st_size if self.path.exists() else 0
        needed = 3 * self.image_size**2 * sum(map(len, self.blocks)) - have
        if needed > (free := shutil.disk_usage(self.path.parent).free):
            room = f"{needed / 1e6:,.0f} MB more in {self.path.parent}, where {free / 1e6:,.0f} MB are free"
            todo = "free some and start again (what is packed is kept), lower data.image_size, or set MINCLIP_DATA"
            raise MinclipError(f"the photographs take {room}: {todo}")

    def append(self, lines: list[dict], read: Callable[[str], bytes]) -> list[dict]:
        """Decodes the blocks after those of `lines`, and writes them and their lines."""

        def one(name: str) -> np.ndarray | str:
            try:
                return np.ascontiguousarray(decode(read(name), self.image_size).transpose(1, 2, 0))
            except BROKEN as error:
                return str(error) or type(error).__name__

        todo = self.blocks[len(lines) :]
        names = [name for block in todo for name in block]
        # appended, not written through the map: a full disk is then an error and not a crash
        with (
            self.path.open("ab") as array,
            self.path.with_suffix(".jsonl").open("ab") as listed,
            ThreadPoolExecutor(os.cpu_count()) as pool,  # decoding and resizing release Python's lock
            tqdm(_in_order(pool, one, names), "decoding", len(names), unit=" images", leave=False) as results,
        ):
            array.truncate(sum(self.sizes(lines)))
            listed.truncate(sum(len(_encoded(line)) for line in lines))
            decoded = iter(results)
            for block in todo:
                line = {"sum": 0, "broken": {}}
                for name in block:
                    if isinstance(pixels := next(decoded), str):
                        line["broken"][name] = pixels
                    else:
                        array.write(pixels)
                        line["sum"] = zlib.crc32(pixels, line["sum"])
                array.flush()
                if block is todo[-1]:
                    os.fsync(array.fileno())  # a finished list is never older than its pixels, even after a power cut
                lines.append(line)
                listed.write(_encoded(line))
                listed.flush()
        return lines


def _in_order(pool: ThreadPoolExecutor, function: Callable[[str], Any], items: Iterable[str]) -> Iterator[Any]:
    """The results in the items' order, only a few of them waiting: this bounds the memory."""
    waiting = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) == 4 * (os.cpu_count() or 1):
            yield waiting.popleft().result()
    yield from (future.result() for future in waiting)


def _alone(folder: Path) -> contextlib.AbstractContextManager:
    """One process packs at a time, the others wait; the system takes the lock from one that was killed."""
    lock = FileLock(folder / "packing.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        tqdm.write("note: another process is packing photographs: waiting for it")
        return lock.acquire()


def _reasons(lines: list[dict]) -> list[str]:
    return [f"{name} ({why})" for line in lines for name, why in line["broken"].items()]


def _encoded(line: dict) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _digest(values: list) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]

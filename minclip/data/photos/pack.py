"""Photographs decoded once into one uint8 file, which is then read in place (a memory map), never loaded whole."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from ...config import MinclipError, data_folder
from ...weights.config_json import parse_json
from .images import BROKEN, decode

_VERSION = 4  # of what `decode` makes of a file; raise it and packs are made anew
_BLOCK = 2**23  # bytes of pixels for each line of the list: what a kill costs
_SMALL = 2**28  # bytes that may be checked at every start: a few tenths of a second


def pack(
    names: Sequence[str],
    read: Callable[[str], bytes],
    image_size: int,
    *,
    place: str,
    stamps: Sequence[str] | None = None,
) -> tuple[np.memmap, list[str], list[str]]:
    """A memory map (n, 3, S, S) uint8 of the images that can be decoded, their names, and "name (why)" of the others.

    `read(name)` gives the encoded bytes, to several threads at once.  `stamps` change with the images' contents; a new
    pack replaces the earlier ones of the same `place` and size.

    A pack is three files in the data folder's cache: pixels (.u8, channels last), a list (.jsonl) with the checksum and
    the broken images of each block, and those to read (`broken_list`).  A line is written after its pixels, so a process
    that was killed is continued after the last line.  At each start, the size is checked, and the checksums too where the
    file is small or was written to since; a damaged pack is made anew.
    MinclipError: too little disk, or nothing that can be decoded.
    """
    row = 3 * image_size**2
    group, key = _digest([place, image_size]), _digest([_VERSION, *names, *(stamps or ())])
    count = max(1, _BLOCK // row)
    blocks = [list(names[i : i + count]) for i in range(0, len(names), count)]
    made = _Pack(data_folder() / "cache" / f"photos-{group}-{key}.u8", blocks, image_size)
    lines, good = made.state()
    images = made.map(lines) if good == len(blocks) else None
    if images is None:
        made.path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(made.path.parent):
            lines = made.finish(read)
            images = made.map(lines)
            # also another process's half-made ones; a process that has one mapped keeps its pixels (or, on Windows, it)
            for path in made.path.parent.glob(f"photos-{group}-*"):
                if not path.name.startswith(made.path.stem):
                    with contextlib.suppress(OSError):
                        path.unlink()
    broken = {name for line in lines for name in line["broken"]}
    return images, [name for name in names if name not in broken], _reasons(lines)


def broken_list(images: np.memmap) -> Path:
    """The text file beside a pack's pixels with a line "name (why)" for each image that was left out."""
    return Path(images.filename).with_suffix(".broken.txt")


@dataclass(frozen=True)
class _Pack:
    path: Path  # of the pixels
    blocks: list[list[str]]  # the names of the images that each line of the list stands for
    image_size: int

    @property
    def listed(self) -> Path:
        return self.path.with_suffix(".jsonl")

    def sizes(self, lines: list[dict]) -> list[int]:
        """The bytes of pixels of each block."""
        return [3 * self.image_size**2 * (len(b) - len(line["broken"])) for b, line in zip(self.blocks, lines)]

    def state(self) -> tuple[list[dict], int]:
        """The lines of the list, up to the first damaged one, and how many blocks from the first on have their pixels."""
        lines: list[dict] = []
        with contextlib.suppress(FileNotFoundError, MinclipError, TypeError, KeyError, AttributeError):
            for block, line in zip(self.blocks, self.listed.read_bytes().splitlines(keepends=True)):
                values = parse_json(line, "")
                if not (line.endswith(b"\n") and values["broken"].keys() <= set(block)):
                    break
                lines.append({"sum": values["sum"], "broken": values["broken"]})
        sizes, finished = self.sizes(lines), len(lines) == len(self.blocks)
        try:
            stat = self.path.stat()
            # the last line is written after all pixels
            untouched = finished and stat.st_mtime_ns < self.listed.stat().st_mtime_ns
            if finished and stat.st_size != sum(sizes):
                return lines, 0
            if untouched and stat.st_size > _SMALL:
                return lines, len(lines)
            good = self.sound(lines)
        except FileNotFoundError:
            return lines, 0
        if good == len(self.blocks) and not untouched:
            with contextlib.suppress(OSError):  # a cache may be read-only
                self.listed.touch()
        return lines, good

    def sound(self, lines: list[dict]) -> int:
        with self.path.open("rb") as file:
            for number, (size, line) in enumerate(zip(self.sizes(lines), lines)):
                pixels = file.read(size)
                if len(pixels) != size or zlib.crc32(pixels) != line["sum"]:
                    return number
        return len(lines)

    def map(self, lines: list[dict]) -> np.memmap | None:
        """(n, 3, S, S) of a finished pack; None where another process has replaced it meanwhile."""
        side, size = self.image_size, sum(self.sizes(lines))
        if size == 0:
            raise MinclipError(
                f"none of the {sum(map(len, self.blocks))} images can be decoded: {'; '.join(_reasons(lines)[:5])}"
            )
        with contextlib.suppress(FileNotFoundError):
            images = np.memmap(self.path, np.uint8, "r", shape=(size // (3 * side**2), side, side, 3))
            return images.transpose(0, 3, 1, 2)
        return None

    def finish(self, read: Callable[[str], bytes]) -> list[dict]:
        """Packs the blocks that have no line yet, and returns all lines."""
        lines, good = self.state()
        if good == len(self.blocks):  # another process has packed them meanwhile
            return lines
        if len(lines) == len(self.blocks):
            tqdm.write(f"note: {self.path} is not what was written, so it is made anew")
            for path in (self.listed, self.path):  # removed, not overwritten: a process that has it mapped keeps its pixels
                try:
                    path.unlink(missing_ok=True)
                except PermissionError as error:  # Windows removes no mapped file
                    raise MinclipError(
                        f"{path} is damaged and still open in another process ({error}): close that process and start again"
                    ) from None
        lines, full = lines[:good], 3 * self.image_size**2 * sum(map(len, self.blocks))
        _check_room(self.path.parent, full - 3 * self.image_size**2 * sum(map(len, self.blocks[: len(lines)])))
        try:
            return self.append(lines, read)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                _check_room(self.path.parent, full - self.path.stat().st_size)
            raise

    def append(self, lines: list[dict], read: Callable[[str], bytes]) -> list[dict]:
        """Decodes the blocks after those of `lines`, with a thread a core, and writes them and their lines."""
        done, total = sum(map(len, self.blocks[: len(lines)])), sum(map(len, self.blocks))

        def one(name: str) -> np.ndarray | str:
            try:
                return np.ascontiguousarray(decode(read(name), self.image_size).transpose(1, 2, 0))
            except BROKEN as error:
                return str(error) or type(error).__name__

        # appended, not written through the map: a full disk is then an error and not a crash
        with (
            self.path.open("ab") as array,
            self.listed.open("ab") as listed,
            ThreadPoolExecutor(os.cpu_count()) as pool,  # decoding and resizing release Python's lock
            tqdm(desc="decoding", total=total, initial=done, unit=" images", leave=False) as bar,
        ):
            array.truncate(sum(self.sizes(lines)))
            listed.truncate(len(b"".join(map(_encoded, lines))))
            for block, results in _submitted(pool, one, self.blocks[len(lines) :]):
                line = {"sum": 0, "broken": {}}
                for name, result in zip(block, results):
                    if isinstance(pixels := result.result(), str):
                        line["broken"][name] = pixels
                    else:
                        array.write(pixels)
                        line["sum"] = zlib.crc32(pixels, line["sum"])
                    bar.update()
                lines.append(line)
                array.flush()
                if len(lines) == len(self.blocks):
                    os.fsync(array.fileno())  # a finished list is never older than its pixels, even after a power cut
                    if reasons := _reasons(lines):
                        text = "\n".join(reasons) + "\n"
                        self.path.with_suffix(".broken.txt").write_text(text, encoding="utf-8", errors="replace")
                listed.write(_encoded(line))
                listed.flush()
        return lines


def _submitted(
    pool: ThreadPoolExecutor, one: Callable[[str], np.ndarray | str], blocks: list[list[str]]
) -> Iterator[tuple[list[str], list[Future]]]:
    """Each block with its results, while the next one is decoded; no more than that, which bounds the memory."""
    waiting: deque[tuple[list[str], list[Future]]] = deque()
    for block in blocks:
        waiting.append((block, [pool.submit(one, name) for name in block]))
        if len(waiting) == 2:
            yield waiting.popleft()
    yield from waiting


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process packs at a time, the others wait; the system takes the lock from one that was killed."""
    lock = FileLock(folder / "packing.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        tqdm.write("note: another process is packing photographs: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MinclipError(
            f"the photographs take {needed / 1e6:,.0f} MB more in {folder}, where {free / 1e6:,.0f} MB are free: free some "
            "and start again (what is packed is kept), lower data.image_size, or name another folder in MINCLIP_DATA"
        )


def _reasons(lines: list[dict]) -> list[str]:
    return [f"{name} ({why})" for line in lines for name, why in line["broken"].items()]


def _encoded(line: dict) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _digest(values: list) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]

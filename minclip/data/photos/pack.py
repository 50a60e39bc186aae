"""Photographs decoded once into one uint8 file, which is then read in place (a memory map), never loaded whole."""

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from ...config import MinclipError, data_folder
from ...preprocess import eight_bits
from .source import BROKEN

_VERSION = 3  # of what `decode` makes of a file; raise it and caches are made anew
_BLOCK = 2**23  # bytes of pixels from one line of the list to the next: what a kill costs, and what memory holds
_SMALL = 2**28  # bytes that may be read through at every start: a few tenths of a second


def decode(jpeg: bytes, image_size: int) -> np.ndarray:
    """One encoded photograph as (3, S, S) uint8 RGB: upright, short side resized, centre kept.  OSError where it is broken."""
    with Image.open(io.BytesIO(jpeg)) as image:
        whole, pixels = image.size, None
        image.draft("RGB", (2 * image_size, 2 * image_size))  # a JPEG may be decoded at a half, a quarter, an eighth
        if image.size == whole and image.format == "JPEG":
            pixels = _by_torchvision(jpeg)
        if pixels is None:
            pixels = np.asarray(ImageOps.exif_transpose(eight_bits(image)).convert("RGB"))  # grey and CMYK become RGB
    height, width, _ = pixels.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    # the axis for the batch before the permutation: else torch doesn't see that channels come last, and its kernel is slow
    square = torch.from_numpy(np.array(pixels[None, top : top + side, left : left + side], order="C"))
    size = (image_size, image_size)
    return F.interpolate(square.permute(0, 3, 1, 2), size, mode="bicubic", antialias=True)[0].numpy()


def _by_torchvision(jpeg: bytes) -> np.ndarray | None:
    """The photograph at its full size (H, W, 3), faster than by Pillow; None where Pillow must say what is wrong with it."""
    from torchvision.io import ImageReadMode, decode_jpeg  # takes long to import, and a finished pack never needs it

    with contextlib.suppress(RuntimeError):
        encoded = torch.from_numpy(np.frombuffer(jpeg, np.uint8).copy())
        return decode_jpeg(encoded, ImageReadMode.RGB, apply_exif_orientation=True).permute(1, 2, 0).numpy()


def pack(
    names: list[str], read: Callable[[str], bytes], image_size: int, source: str
) -> tuple[np.memmap, list[str], list[str]]:
    """A memory map (n, 3, S, S) uint8 of the images that can be decoded, their names, and "name (why)" of those that can't.

    `read(name)` gives the encoded bytes, to several threads at once; `source` tells the photographs' place and age.

    Three files in the data folder's cache, under a name made of all that went into them: the pixels (.u8), image by image
    and channels last; a list with a line a block of them (.jsonl), their checksum and what was broken; and, where anything
    was, the same to read (`broken_list`).  A line is written after its pixels, so a process that was killed is gone on
    with after the last line.  At each start the size is checked, and the checksums of a file that is small or that was
    written to since it was packed (touch it to have it read); one that is not what it was is made anew.
    MinclipError: too little disk, or nothing that can be decoded.
    """
    key = hashlib.sha256(json.dumps([_VERSION, source, image_size, names]).encode()).hexdigest()[:16]
    path = data_folder() / "cache" / f"{key}.u8"
    row = 3 * image_size**2
    count = max(1, _BLOCK // row)
    blocks = [names[i : i + count] for i in range(0, len(names), count)]
    lines = _lines(path, blocks)
    if not (len(lines) == len(blocks) and _is_whole(path, blocks, lines, row)):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.parent):
            lines = _finish(path, blocks, read, image_size)
    broken = {name for line in lines for name in line["broken"]}
    kept = [name for name in names if name not in broken]
    if not kept:
        raise MinclipError(f"none of the {len(names)} images can be decoded: {'; '.join(_told(lines)[:5])}")
    images = np.memmap(path, np.uint8, "r", shape=(len(kept), image_size, image_size, 3))
    return images.transpose(0, 3, 1, 2), kept, _told(lines)


def broken_list(images: np.memmap) -> Path:
    """The text file beside a pack's pixels with a line "name (why)" for each image that was left out."""
    return Path(images.filename).with_suffix(".broken.txt")


def _lines(path: Path, blocks: list[list[str]]) -> list[dict]:
    """The lines of the list beside `path`, up to the first that is cut off or damaged."""
    lines = []
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, KeyError):
        for block, line in zip(blocks, path.with_suffix(".jsonl").read_bytes().splitlines(keepends=True)):
            values = json.loads(line)
            if not line.endswith(b"\n") or not values["broken"].keys() <= set(block):
                break
            lines.append({"sum": values["sum"], "broken": values["broken"]})
    return lines


def _rows(blocks: list[list[str]], lines: list[dict]) -> int:
    return sum(len(block) - len(line["broken"]) for block, line in zip(blocks, lines))


def _is_whole(path: Path, blocks: list[list[str]], lines: list[dict], row: int) -> bool:
    """Whether a finished pack's pixels are those that were written."""
    if not path.exists() or path.stat().st_size != _rows(blocks, lines) * row:
        return False
    listed = path.with_suffix(".jsonl")
    untouched = path.stat().st_mtime_ns < listed.stat().st_mtime_ns  # the last line comes after all pixels
    if untouched and path.stat().st_size > _SMALL:
        return True
    if _sound(path, blocks, lines, row) < len(lines):
        return False
    if not untouched:
        with contextlib.suppress(OSError):  # a cache may be for reading only
            listed.touch()
    return True


def _sound(path: Path, blocks: list[list[str]], lines: list[dict], row: int) -> int:
    """How many blocks from the first on have the checksums of their lines."""
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for number, (block, line) in enumerate(zip(blocks, lines)):
            pixels = file.read(_rows([block], [line]) * row)
            if len(pixels) != _rows([block], [line]) * row or zlib.crc32(pixels) != line["sum"]:
                return number
        return len(lines)
    return 0


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


def _finish(path: Path, blocks: list[list[str]], read: Callable[[str], bytes], image_size: int) -> list[dict]:
    """Packs what the list does not yet tell of, and returns all its lines."""
    row, lines = 3 * image_size**2, _lines(path, blocks)
    if len(lines) == len(blocks):
        if _is_whole(path, blocks, lines, row):  # another process has packed it meanwhile
            return lines
        tqdm.write(f"note: {path} is not what was written, so it is made anew")
        for file in (path.with_suffix(".jsonl"), path):  # away, not overwritten: who has it mapped keeps the old one
            file.unlink(missing_ok=True)
    lines = lines[: _sound(path, blocks, lines, row)]
    full = row * sum(map(len, blocks))
    _check_room(path.parent, full - row * sum(map(len, blocks[: len(lines)])))
    try:
        return _append(path, blocks, lines, lambda name: _one(name, read, image_size), row)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _check_room(path.parent, full - path.stat().st_size)
        raise


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MinclipError(
            f"the photographs take {needed / 1e6:,.0f} MB more in {folder}, where {free / 1e6:,.0f} MB are free: free some and start "
            f"again (what is packed is kept), lower data.image_size, or name another folder in MINCLIP_DATA"
        )


def _one(name: str, read: Callable[[str], bytes], image_size: int) -> np.ndarray | str:
    """One photograph (S, S, 3), or why it can't be decoded."""
    try:
        return np.ascontiguousarray(decode(read(name), image_size).transpose(1, 2, 0))
    except BROKEN as error:
        return re.sub(r" <_io\..*>", "", str(error)) or type(error).__name__


def _append(
    path: Path, blocks: list[list[str]], lines: list[dict], one: Callable[[str], np.ndarray | str], row: int
) -> list[dict]:
    """Decodes the blocks after those of `lines`, with a thread a core, and writes them and their lines."""
    before, total = sum(map(len, blocks[: len(lines)])), sum(map(len, blocks))
    # appended, not written through the map: a full disk is then an error and not a crash
    with (
        path.open("ab") as array,
        path.with_suffix(".jsonl").open("ab") as listed,
        ThreadPoolExecutor(os.cpu_count()) as pool,  # decoding and resizing run outside of Python's lock
        tqdm(desc="decoding", total=total, initial=before, unit=" images", leave=False) as bar,
    ):
        array.truncate(_rows(blocks, lines) * row)
        listed.truncate(len(b"".join(map(_encoded, lines))))
        for block, results in _submitted(pool, one, blocks[len(lines) :]):
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
            if len(lines) == len(blocks):
                # a list with all its lines is never older than the pixels, not even after a power cut
                os.fsync(array.fileno())
                if told := _told(lines):
                    path.with_suffix(".broken.txt").write_text("\n".join(told) + "\n", encoding="utf-8")
            listed.write(_encoded(line))
            listed.flush()
    return lines


def _told(lines: list[dict]) -> list[str]:
    return [f"{name} ({why})" for line in lines for name, why in line["broken"].items()]


def _encoded(line: dict) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _submitted(
    pool: ThreadPoolExecutor, one: Callable[[str], np.ndarray | str], blocks: list[list[str]]
) -> Iterator[tuple[list[str], list[Future]]]:
    """Each block with its results, the next one being decoded meanwhile; no more, so that memory stays small."""
    waiting: deque[tuple[list[str], list[Future]]] = deque()
    for block in blocks:
        waiting.append((block, [pool.submit(one, name) for name in block]))
        if len(waiting) == 2:
            yield waiting.popleft()
    yield from waiting

"""Decodes photographs once into one uint8 file, which is then memory-mapped and never loaded into memory whole."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from ...config import MinclipError
from ...training.bars import tqdm
from ...weights.config_json import parse_json
from ...weights.hub import data_folder
from .images import BROKEN, decode

_VERSION = 6  # of the pack format: raising it rebuilds all packs
_SMALL = 2**28  # the checksum of packs up to this size (bytes) is verified at every start: a few tenths of a second
_CHUNK = 128  # most decoded images that wait to be written: this bounds the memory


def pack(
    names: Sequence[str], read: Callable[[str], bytes], image_size: int, *, place: str, stamps: Sequence[str] = ()
) -> tuple[np.memmap, list[str], list[str]]:
    """A memory map (n, 3, S, S) uint8 of the images that can be decoded, their names, and "name (why)" of the others.

    `read(name)` returns the encoded bytes; several threads call it.  `stamps` change with the images' contents; a new
    pack replaces the earlier ones of the same `place` and size.  MinclipError if the disk is full or nothing decodes.

    A pack is two files in the data folder's cache: the pixels (.u8, channels last), then a list (.json) with the
    checksums and the broken images.  A damaged pack, or one that a killed process left without its list, is rebuilt.
    """
    about = ([place, image_size], [_VERSION, *names, *stamps])
    group, key = (hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16] for values in about)
    path = data_folder() / "cache" / f"photos-{group}-{key}.u8"
    if not (made := _open(path, names, image_size)):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _packing_lock(path.parent):  # another process may have made it meanwhile
                made = _open(path, names, image_size) or _make(path, names, read, image_size)
                for old in path.parent.glob(f"photos-{group}-*"):
                    if old.stem != path.stem:
                        # a process that has it mapped keeps its pixels; Windows refuses, then the next pack removes it
                        with contextlib.suppress(OSError):
                            old.unlink()
        except OSError as error:
            what = f"the photographs ({3 * image_size**2 * len(names) / 1e6:,.0f} MB) can't be packed in {path.parent}"
            todo = "free some space, close the program that has the file open, or set MINCLIP_DATA to another folder"
            raise MinclipError(f"{what} ({error}): {todo}") from None
    images, broken = made
    return images, [name for name in names if name not in broken], [f"{name} ({why})" for name, why in broken.items()]


def _open(path: Path, names: Sequence[str], size: int) -> tuple[np.memmap, dict[str, str]] | None:
    """The images of a finished pack, and why the others are broken; None if the pack is missing or damaged."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
        made, pixels = parse_json(path.with_suffix(".json").read_bytes(), ""), np.memmap(path, np.uint8, "r")
        images = pixels.reshape(len(names) - len(made["broken"].keys() & {*names}), size, size, 3)
        if pixels.size > _SMALL or made.pop("sum") == zlib.crc32(json.dumps(made).encode(), zlib.crc32(pixels)):
            return images.transpose(0, 3, 1, 2), made["broken"]
    return None


def same_images(some: np.memmap, others: np.memmap) -> list[tuple[int, int]]:
    """Where the images of two packs have equal pixels: pairs (i, j) of `some[i]` and `others[j]`, each j once."""
    first = {digest: i for i, digest in enumerate(_digests(some))}
    return [(first[digest], j) for j, digest in enumerate(_digests(others)) if digest in first]


def _digests(images: np.memmap) -> list[str]:
    """A digest of each image, from the pack's list; none if another process has replaced the pack."""
    with contextlib.suppress(FileNotFoundError):
        return parse_json(Path(images.filename).with_suffix(".json").read_bytes(), "")["digests"]
    return []


def _make(path: Path, names: Sequence[str], read: Callable, size: int) -> tuple[np.memmap, dict[str, str]]:
    """Decodes all images; the list is written after the pixels, so that a pack with a list is complete."""

    def one(name: str) -> np.ndarray | str:
        try:
            return np.ascontiguousarray(decode(read(name), size).transpose(1, 2, 0))
        except BROKEN as error:
            return str(error) or type(error).__name__

    listed, checksum, made = path.with_suffix(".json"), 0, {"broken": {}, "digests": []}
    try:
        if path.exists() or listed.exists():
            tqdm.write(f"note: {path} is damaged or was never finished: rebuilding it")
            for old in (listed, path):
                old.unlink(missing_ok=True)  # not overwritten: a process that has it mapped keeps its pixels
        if 3 * size**2 * len(names) > (free := shutil.disk_usage(path.parent).free):
            raise OSError(errno.ENOSPC, f"{free / 1e6:,.0f} MB are free")
        # written as a file, not through the map, so that a full disk raises an error instead of crashing
        with path.open("wb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding releases the GIL
            chunks = (names[i : i + _CHUNK] for i in range(0, len(names), _CHUNK))
            results = (pixels for chunk in chunks for pixels in pool.map(one, chunk))
            for name, pixels in zip(tqdm(names, "decoding", unit=" images", leave=False), results):
                if isinstance(pixels, str):
                    made["broken"][name] = pixels
                else:
                    file.write(pixels)
                    checksum = zlib.crc32(pixels, checksum)
                    made["digests"].append(hashlib.blake2b(pixels, digest_size=8).hexdigest())
            file.flush()
            os.fsync(file.fileno())  # the list is never older than its pixels, even after a power cut
        if not made["digests"]:
            path.unlink()
            reasons = "; ".join(f"{name} ({why})" for name, why in list(made["broken"].items())[:5])
            raise MinclipError(f"none of the {len(names)} images can be decoded: {reasons}")
        checksum = zlib.crc32(json.dumps(made).encode(), checksum)
        listed.write_text(json.dumps({"sum": checksum, **made}))
        return _open(path, names, size)
    except OSError:  # such as a full disk, which gets its room back
        path.unlink(missing_ok=True)
        raise


def _packing_lock(folder: Path) -> contextlib.AbstractContextManager:
    """One process packs at a time, the others wait; the system releases the lock of a killed process."""
    lock = FileLock(folder / "packing.lock")
    with contextlib.suppress(Timeout):
        return lock.acquire(timeout=0)
    tqdm.write("note: another process is packing photographs: waiting for it")
    return lock.acquire()

"""Photographs decoded once into one uint8 file, which is then read in place (a memory map), never loaded whole."""

import hashlib
import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from ..config import MinclipError, data_folder

_VERSION = 1  # of what `decode` makes of a file; raise it and caches are made anew


def decode(jpeg: bytes, image_size: int) -> np.ndarray:
    """One encoded photograph as (3, S, S) uint8 RGB: upright, short side resized, centre kept.  OSError where it is broken."""
    with Image.open(io.BytesIO(jpeg)) as image:
        image.draft("RGB", (2 * image_size, 2 * image_size))  # a JPEG may be decoded at a half, a quarter, an eighth
        image = ImageOps.exif_transpose(image).convert("RGB")  # grey and CMYK become RGB
        image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BICUBIC)
        return np.asarray(image).transpose(2, 0, 1)


def pack(
    names: list[str], read: Callable[[str], bytes], image_size: int, source: str
) -> tuple[np.ndarray, list[str], list[str]]:
    """A memory map (n, 3, S, S) uint8 of the images that can be decoded, their names, and "name (why)" of those that can't.

    `read(name)` gives the encoded bytes; `source` tells the photographs' place and age.  The file is kept in the data
    folder's cache, under a name made of all that went into it: the second call opens it at once.
    """
    key = hashlib.sha256(json.dumps([_VERSION, source, image_size, names]).encode()).hexdigest()[:16]
    array_path, list_path = data_folder() / "cache" / f"{key}.npy", data_folder() / "cache" / f"{key}.json"
    if not (list_path.exists() and array_path.exists()):
        _write(names, read, image_size, array_path, list_path)
    kept, broken = json.loads(list_path.read_text(encoding="utf-8")).values()
    return np.load(array_path, mmap_mode="r"), kept, broken


def _write(names: list[str], read: Callable[[str], bytes], image_size: int, array_path: Path, list_path: Path) -> None:
    def one(name: str) -> np.ndarray | str:
        try:
            return decode(read(name), image_size)
        except (
            OSError,
            ValueError,
            SyntaxError,
            EOFError,
            struct.error,
            zlib.error,
            zipfile.BadZipFile,
            Image.DecompressionBombError,
        ) as error:  # what Pillow and zipfile raise on broken files
            return f"{name} ({error or type(error).__name__})"

    array_path.parent.mkdir(parents=True, exist_ok=True)
    kept, broken = [], []
    temporary = array_path.with_suffix(f".{os.getpid()}.tmp")
    try:
        # written front to back, not through the map: a full disk is then an error and not a crash
        with temporary.open("w+b") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
            _write_header(file, len(names), image_size)
            for name, result in zip(
                names, tqdm(pool.map(one, names), "decoding", len(names), unit=" images", leave=False)
            ):
                if isinstance(result, str):
                    broken.append(result)
                else:
                    kept.append(name)
                    file.write(result.tobytes())
            file.seek(0)
            _write_header(file, len(kept), image_size)
        if not kept:
            raise MinclipError(f"none of the {len(names)} images can be decoded: {'; '.join(broken[:5])}")
        temporary.replace(array_path)
        # the list comes last: where it stands, the array is whole
        temporary.write_text(json.dumps({"kept": kept, "broken": broken}), encoding="utf-8")
        temporary.replace(list_path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_header(file: io.BufferedRandom, count: int, image_size: int) -> None:
    """A .npy header, padded by NumPy to a length that does not depend on `count`."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, 3, image_size, image_size)}
    np.lib.format.write_array_header_1_0(file, header)

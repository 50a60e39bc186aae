"""Opens image files and checks them first: a broken or oversized file is an error before it takes memory."""

import contextlib
import functools
import io
import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from ...config import MinclipError
from ...preprocess import eight_bits
from ...weights.files import errors_naming

# those of Pillow's formats that are photographs: no video, and no EPS, which Pillow gives to another program
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000", "HEIF")
UNREAD = {  # endings of other files that hold pictures, and of folders that can't be opened -> why they can't be read
    "/": "folders can't be opened",
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC files need `pip install pillow-heif`"),
    **dict.fromkeys(".avif .svg .psd .tga .jxl .raw .dng .cr2 .cr3 .nef .arw".split(), "files need conversion to JPEG"),
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm"), "videos can't be read without extracting frames"),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".gz", ".7z", ".rar"), "archives have to be unpacked"),
}
MAX_BYTES = 2**29  # of an image file: an uncompressed TIFF of MAX_PIXELS fits
MAX_PIXELS = 2**27  # 134 million, about 0.5 GB decoded; a JPEG counts at the size it is decoded at
# raised on reading or decoding files that are damaged, encrypted, too large, or of an unknown kind
BROKEN = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, OverflowError, struct.error)
BROKEN += (zlib.error, lzma.LZMAError, zipfile.BadZipFile)


@functools.cache
def endings() -> tuple[str, ...]:
    """The extensions of the image files that can be read here, in lower case; those of HEIC only with pillow-heif."""
    from PIL import Image  # imported late: `import minclip` needs no Pillow

    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return tuple(sorted(end for end, kind in Image.registered_extensions().items() if kind in FORMATS))


def check_bytes(size: int, limit: int = MAX_BYTES) -> None:
    if size > limit:
        raise MinclipError(f"the file has {size / 1e9:.1f} GB, more than the limit of {limit / 1e9:.1f} GB")


def open_image(path: str | Path, side: int) -> Any:
    """`read_image` of a file; raises MinclipError if it doesn't exist or isn't an image."""
    with errors_naming(path, "can't be read as an image"):
        check_bytes(Path(path).stat().st_size)
        return read_image(Path(path).read_bytes(), side)


def read_image(data: bytes, side: int) -> Any:
    """The PIL image, upright, in RGB; a JPEG is decoded no larger than 2 × `side` needs.  MinclipError if broken."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        endings()  # registers HEIC
        image = Image.open(io.BytesIO(data), formats=[kind for kind in FORMATS if kind in Image.OPEN])
        image.draft("RGB", (2 * side, 2 * side))  # a JPEG can be decoded at a half, a quarter, an eighth
        if image.width * image.height > MAX_PIXELS:
            raise MinclipError(f"{image.width:,} × {image.height:,} pixels, more than {MAX_PIXELS:,}")
        return ImageOps.exif_transpose(eight_bits(image)).convert("RGB")
    except UnidentifiedImageError:  # whose own message holds a memory address
        raise MinclipError("not an image" if data else "the file is empty") from None
    except MemoryError:
        raise
    except Exception as error:  # on damaged files, Pillow's many readers raise anything
        raise MinclipError(str(error) or type(error).__name__) from None


def decode(data: bytes, image_size: int) -> np.ndarray:
    """An encoded photograph as (3, S, S) uint8 RGB: upright, short side resized, center kept; MinclipError if bad."""
    from PIL import Image, ImageOps

    square = ImageOps.fit(read_image(data, image_size), (image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(square).transpose(2, 0, 1)

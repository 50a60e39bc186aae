"""Where photographs lie: a folder or a zip, how to read it and them, when it changed, and which file a name means."""

import io
import os
import posixpath
import re
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageOps, UnidentifiedImageError

from ...config import MinclipError
from ...preprocess import eight_bits

IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TABLES = (".csv", ".tsv", ".parquet")
# what Pillow and zipfile raise on files that are broken, encrypted or endless
BROKEN = (OSError, ValueError, SyntaxError, EOFError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile) + (
    Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Source:
    """A folder or a zip: where its files are, by path below the root, and how to read one."""

    root: Path
    files: tuple[str, ...]

    @classmethod
    def open(cls, root: Path) -> "Source":
        """A root that is a table stands for its folder, in which it is then the only table."""
        if not root.exists():
            raise MinclipError(f"data.root {str(root)!r} is not there: give the folder or the zip of the photographs")
        if root.is_file() and root.suffix.lower() in TABLES:
            folder = cls.open(root.parent)
            return cls(folder.root, (*(p for p in folder.files if not p.lower().endswith(TABLES)), root.name))
        try:
            paths = zipfile.ZipFile(root).namelist() if root.is_file() else sorted(_below(root))
        except zipfile.BadZipFile:
            raise MinclipError(f"data.root {str(root)!r} is neither a folder nor a whole zip file") from None
        # what macOS adds to a zip is no photograph
        hidden = re.compile(r"(^|/)(\.|__MACOSX/)")
        return cls(root, tuple(p for p in paths if not p.endswith("/") and not hidden.search(p)))

    @cached_property
    def read(self) -> Callable[[str], bytes]:
        """`read(path) -> bytes`, for several threads at once."""
        if self.root.is_file():
            return zipfile.ZipFile(self.root).read  # which holds a lock of its own
        return lambda path: (self.root / path).read_bytes()

    def text(self, path: str) -> str:
        data = self.read(path)
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data[: error.start].count(b"\n") + 1
            raise MinclipError(f"{path} is not UTF-8 text (line {line}): save it as UTF-8") from None

    @property
    def images(self) -> list[str]:
        return [path for path in self.files if path.lower().endswith(IMAGES)]

    def glance(self) -> str:
        """The first few files, for a message."""
        return (", ".join(self.files[:5]) or "nothing") + (" …" if len(self.files) > 5 else "")

    @property
    def age(self) -> str:
        """Changes when the photographs change: the root's place, the number of files, and the sums of their sizes and times."""
        holders = [p for p in self.files if p.lower().endswith((*IMAGES, ".parquet"))]
        paths = [str(self.root)] if self.root.is_file() else [f"{self.root}/{p}" for p in holders]
        stats = [os.stat(p) for p in paths]
        size, time = sum(s.st_size for s in stats), sum(s.st_mtime_ns for s in stats)
        return f"{self.root.resolve()} {len(holders)} {size} {time}"


def _below(root: Path) -> Iterator[str]:
    # os.walk, since Path.rglob takes seconds for 30,000 files
    for folder, _, names in os.walk(root):
        below = Path(folder).relative_to(root).as_posix()
        yield from (n if below == "." else f"{below}/{n}" for n in names if os.path.isfile(f"{folder}/{n}"))


def file_name(path: str) -> str:
    """The last part of a path with "/"; pathlib takes seconds for 30,000."""
    return path.rpartition("/")[2]


def open_image(path: str | Path, side: int) -> Image.Image:
    """`read_image` of a file; a MinclipError tells that it isn't there or isn't one."""
    try:
        return read_image(Path(path).read_bytes(), side)
    except FileNotFoundError:
        raise MinclipError(f"{path} is not there") from None
    except BROKEN as error:
        raise MinclipError(f"{path} can't be read as an image: {error}") from None


def read_image(data: bytes, side: int) -> Image.Image:
    """An image file, upright and in RGB; a JPEG is decoded no larger than 2 × `side` needs.  One of BROKEN where it is broken."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("RGB", (2 * side, 2 * side))
            return ImageOps.exif_transpose(eight_bits(image)).convert("RGB")
    except UnidentifiedImageError:
        raise ValueError("it is no image") from None  # Pillow's message tells an address in memory
    except Image.DecompressionBombError as error:
        raise ValueError(error) from None


class Row(NamedTuple):
    """What a caption file says of one image."""

    file: str
    line: str  # "line 7"
    image: str  # a name or a path, as it is written there
    captions: list[str]
    split: str = ""
    read: Callable[[], bytes] | None = None  # where the image lies in the row itself

    @property
    def place(self) -> str:
        return f"{self.file} {self.line}"

    @property
    def folder(self) -> str:
        return self.file.rpartition("/")[0]


class Finder:
    """The images below a root, by whatever a caption file or a list may call them.

    `keys` maps each path to its key: the file's name where no other image has it, else the path below the root.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.named: dict[str, list[str]] = defaultdict(list)
        for path in (paths := list(paths)):
            name = file_name(path)
            self.named[name].append(path)
            self.named[name.rpartition(".")[0]].append(path)  # lists often leave the ending out
        self.keys = {path: file_name(path) if len(self.named[file_name(path)]) == 1 else path for path in paths}

    def find(self, written: str, folder: str = "", by_name: bool = False) -> list[str]:
        """The paths that may be meant by `written` in a file in `folder`: one, none, or several.

        A path that leads from there or from the root is that file; else a path is meant whose end it is, or which is its
        end; else, with `by_name`, any of that name, in whatever folder.
        """
        written = posixpath.normpath(written.replace("\\", "/"))
        named = self.named.get(file_name(written), [])
        for place in (posixpath.normpath(posixpath.join(folder, written)), written):
            if exact := [p for p in named if place in (p, p.rpartition(".")[0])]:
                return exact
        near = [p for p in named if _ends(written, p) or _ends(written, p.rpartition(".")[0])]
        return near or (named if by_name else [])


def _ends(one: str, other: str) -> bool:
    """Whether one path is the end of the other: "dogs/1.jpg" of "/home/me/dogs/1.jpg"."""
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")

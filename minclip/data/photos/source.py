"""A folder or a zip of photographs: lists and reads its files, sees changes, and finds the file that a name means."""

import os
import posixpath
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from posixpath import basename, splitext  # pathlib takes seconds for 30,000 paths
from typing import NamedTuple

from ...config import MinclipError, need
from .images import BROKEN, IMAGES, MAX_BYTES, check_bytes

TABLES = (".csv", ".tsv", ".parquet")
JSON = (".json", ".jsonl", ".ndjson")
CAPTIONS = (*TABLES, *JSON, ".token")
HIDDEN = re.compile(r"(^|/)(\.|__MACOSX/)")  # macOS adds such files to a zip


@dataclass(frozen=True)
class Source:
    """A folder or a zip: its files, by path below the root, and how to read one."""

    root: Path
    files: tuple[str, ...]
    archive: zipfile.ZipFile | None = None

    @classmethod
    def open(cls, root: Path) -> "Source":
        """For a table, the files beside it, without other tables; `including` adds those in subfolders."""
        need(root.exists(), f"data.root {str(root)!r} does not exist: give the folder or the zip of the photographs")
        if root.is_dir():
            return cls(root, tuple(sorted(_below(root))))
        if root.suffix.lower() in (*CAPTIONS, ".txt"):
            beside = sorted(path.name for path in root.parent.iterdir() if path.is_file())
            beside = [
                name for name in beside if not name.lower().endswith(CAPTIONS[:-1]) or name.startswith("dataset_")
            ]
            return cls(root.parent, tuple(dict.fromkeys((root.name, *beside))))
        try:
            archive = zipfile.ZipFile(root)
        except BROKEN as error:
            raise MinclipError(f"data.root {str(root)!r} is neither a folder nor a valid zip file: {error}") from None
        names = dict.fromkeys(info.filename for info in archive.infolist() if not info.is_dir())
        return cls(root, tuple(name for name in names if not HIDDEN.search(name)), archive)

    def including(self, written: Iterable[str]) -> "Source":
        """Adds the images that a table names; searches the whole folder only if one is not where the table says."""
        paths = {posixpath.normpath(path.replace("\\", "/")) for path in written}
        if not all(os.path.isfile(self.root / path) for path in paths):
            paths = {path for path in _below(self.root) if not path.lower().endswith(TABLES)}
        return replace(self, files=tuple(dict.fromkeys((*self.files, *sorted(paths)))))

    def stamp(self, path: str) -> tuple[int, int]:
        """A file's size in bytes, and its modification time or (in a zip) checksum: they change with its content."""
        if self.archive:
            info = self.archive.getinfo(path)
            return info.file_size, info.CRC
        stat = os.stat(self.root / path)
        return stat.st_size, stat.st_mtime_ns

    def read(self, path: str) -> bytes:
        """A file's content; thread-safe.  Raises one of BROKEN if the file can't be read."""
        check_bytes(self.stamp(path)[0], MAX_BYTES if path.lower().endswith(IMAGES) else 4 * MAX_BYTES)
        return self.archive.read(path) if self.archive else (self.root / path).read_bytes()

    def text(self, path: str) -> str:
        """A file's content as UTF-8 text; MinclipError if it can't be read or decoded."""
        try:
            text = (data := self.read(path)).decode("utf-8-sig")
            if (end := data.find(0)) < 0:
                return text
        except UnicodeDecodeError as error:
            end = error.start
        except BROKEN as error:
            raise MinclipError(f"{path} in {self.root} can't be read: {error}") from None
        kind = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"  # as Windows writes it
        how = f"save it as UTF-8 (if it is {kind}: iconv -f {kind} -t UTF-8)"
        raise MinclipError(f"{path} is not UTF-8 text (line {data[:end].count(10) + 1}): {how}")

    @property
    def images(self) -> list[str]:
        return [path for path in self.files if path.lower().endswith(IMAGES)]

    def first_files(self) -> str:
        """The first few files, for a message."""
        return (", ".join(self.files[:5]) or "nothing") + (" …" if len(self.files) > 5 else "")


def _below(root: Path) -> Iterator[str]:
    """The paths of the files below a folder; links to folders are followed last, and no folder is entered twice."""
    entered, tops = set(), [str(root)]
    for top in tops:
        for folder, folders, names in os.walk(top):  # Path.rglob takes seconds for 30,000 files
            if (real := os.path.realpath(folder)) in entered:
                folders.clear()
                continue
            entered.add(real)
            tops += [link for name in sorted(folders) if os.path.islink(link := f"{folder}/{name}")]
            below = Path(folder).relative_to(root).as_posix()
            paths = (name if below == "." else f"{below}/{name}" for name in names)
            yield from (path for path in paths if not HIDDEN.search(path) and os.path.isfile(root / path))


class Row(NamedTuple):
    """What a caption file says about one image."""

    file: str
    place: str  # "captions.csv line 7", for messages
    image: str  # a name or a path, as written in the file
    captions: list[str]
    split: str = ""
    read: Callable[[], bytes] | None = None  # for an image that is stored in the row itself


class Finder:
    """Finds the images below a root by the names that a caption file or a list of images uses.

    `keys` maps each path to its key: the file's name if no other image has it, else the path below the root.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.named: dict[str, list[str]] = defaultdict(list)
        for path in (paths := list(paths)):
            self.named[basename(path)].append(path)
            self.named[splitext(basename(path))[0]].append(path)  # lists often leave out the extension
        self.keys = {path: basename(path) if len(self.named[basename(path)]) == 1 else path for path in paths}

    def find(self, written: str, folder: str = "", *, by_name: bool = False) -> list[str]:
        """The paths that `written`, in a file in `folder`, may mean: one, none, or several.

        First the file at that path, from `folder` or from the root; else the files of which one path is the end of the
        other; else, with `by_name`, all files of that name.
        """
        written = posixpath.normpath(written.replace("\\", "/"))
        named = {path: (path, splitext(path)[0]) for path in self.named.get(basename(written), [])}
        for place in (posixpath.normpath(posixpath.join(folder, written)), written):
            if exact := [path for path, both in named.items() if place in both]:
                return exact
        # "dogs/1.jpg" is the end of "/home/me/dogs/1.jpg"
        ends = ((path, f"/{written}", f"/{either}") for path, both in named.items() for either in both)
        near = [path for path, mine, other in ends if mine.endswith(other) or other.endswith(mine)]
        return near or (list(named) if by_name else [])

    def find_one(self, written: str, place: str, folder: str = "", *, by_name: bool = False) -> str | None:
        """The path that `written` means, if any; a MinclipError with its `place` if it may mean several."""
        if len(paths := self.find(written, folder, by_name=by_name)) > 1:
            raise MinclipError(f"{place}: {written} could be {' or '.join(paths[:3])}: write its folder, too")
        return paths[0] if paths else None

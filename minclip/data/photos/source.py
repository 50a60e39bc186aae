"""A folder or a zip of photographs: lists and reads its files, sees changes, and finds the file that a name means."""

import os
import posixpath
import re
import unicodedata
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from posixpath import basename, splitext  # pathlib takes seconds for 30,000 paths
from typing import NamedTuple

from ...config import MinclipError
from .images import BROKEN, MAX_BYTES, UNREAD, check_bytes, endings

TABLES = (".csv", ".tsv", ".parquet")
JSON = (".json", ".jsonl", ".ndjson")
CAPTIONS = (*TABLES, *JSON, ".token", ".txt")
HIDDEN = re.compile(r"(^|/)(\.|__MACOSX/)")  # macOS adds such files to a zip


@dataclass(frozen=True)
class Source:
    """A folder or a zip: its files, by path below the root, and how to read one."""

    root: Path
    files: tuple[str, ...]
    archive: zipfile.ZipFile | None = None
    table: str = ""  # the one file of captions that counts, if it was given as the root

    @classmethod
    def open(cls, root: Path, what: str = "data.root ") -> "Source":
        """For a table, the files beside it; `including` adds those in subfolders."""
        what += repr(os.path.abspath(root))[:200]
        try:
            (os.listdir if root.is_dir() else os.stat)(root)  # fails now if it is not there, or must not be read
            if root.is_dir():
                return cls(root, tuple(sorted(_below(root))))
            if root.suffix.lower() in CAPTIONS:
                beside = sorted(path.name for path in root.parent.iterdir() if path.is_file())
                return cls(root.parent, tuple(beside), table=root.name)
            archive = zipfile.ZipFile(root)
        except BROKEN as error:  # a name may also be too long, or hold a NUL
            why = getattr(error, "strerror", None) or error
            raise MinclipError(
                f"{what} can't be opened ({why}): give a folder of photographs, or a zip of it"
            ) from None
        # with the backslashes of some Windows programs replaced
        archive.NameToInfo = {info.filename.replace("\\", "/"): info for info in archive.infolist()}
        names = (name for name in archive.NameToInfo if not (name.endswith("/") or HIDDEN.search(name)))
        return cls(root, tuple(names), archive)

    def including(self, written: Iterable[str]) -> "Source":
        """Adds the images that a table names; searches the whole folder only if one is not where the table says."""
        paths = {posixpath.normpath(path.replace("\\", "/")) for path in written}
        if not all(os.path.isfile(self.root / path) for path in paths):
            paths = {*_below(self.root)}
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
        check_bytes(self.stamp(path)[0], MAX_BYTES if path.lower().endswith(endings()) else 4 * MAX_BYTES)
        return self.archive.read(path) if self.archive else (self.root / path).read_bytes()

    def text(self, path: str, *, any_encoding: bool = False) -> str:
        """A file's content as UTF-8 text; MinclipError if it can't be read, or decoded without errors."""
        try:
            text = (data := self.read(path)).decode("utf-8-sig", "replace" if any_encoding else "strict")
            if (end := data.find(0)) < 0 or any_encoding:
                return text
        except UnicodeDecodeError as error:
            end = error.start
        except BROKEN as error:
            raise MinclipError(f"{path} in {self.root} can't be read: {error}") from None
        kind = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "cp1252"  # as Windows writes it
        how = f"save it as UTF-8, for example with iconv -f {kind} -t UTF-8"
        raise MinclipError(f"{path} is not UTF-8 text (line {data[:end].count(10) + 1}): {how}")

    @property
    def images(self) -> list[str]:
        return [path for path in self.files if path.lower().rstrip().endswith(endings())]

    @property
    def unread(self) -> dict[str, list[str]]:
        """The reason why pictures or folders can't be read -> their paths."""
        kinds, found = tuple(UNREAD.keys() - {*endings()}), defaultdict(list)
        for path in (path for path in self.files if path.lower().endswith(kinds)):
            found[UNREAD[splitext(path)[1].lower() or "/"]].append(path)
        return found

    def first_files(self) -> str:
        """The first few files, for a message, and what can't be read."""
        first = (", ".join(self.files[:5]) or "nothing") + " …" * (len(self.files) > 5)
        return "; ".join([first, *counted(self.unread)])


def counted(left_out: dict[str, list[str]]) -> list[str]:
    """A note on the names that are left out for each reason: how many, why, and the first few."""
    found = ((len(names), why, ", ".join(names[:5]) + " …" * (len(names) > 5)) for why, names in left_out.items())
    return [f"{count} {why} and were left out: {some}" for count, why, some in found if count]


def _below(root: Path) -> Iterator[str]:
    """The paths of the files below a folder, and of folders that can't be opened, which end with "/".

    Links to folders are followed last, and no folder is entered twice.
    """
    entered, tops = set(), [str(root)]
    for top in tops:
        for folder, folders, names in os.walk(top):  # Path.rglob takes seconds for 30,000 files
            if (real := os.path.realpath(folder)) in entered:
                folders.clear()
                continue
            entered.add(real)
            tops += [link for name in sorted(folders) if os.path.islink(link := f"{folder}/{name}")]
            below = Path(folder).relative_to(root).as_posix()
            files = [name for name in names if os.path.isfile(f"{folder}/{name}")]
            files += [f"{name}/" for name in folders if not os.access(f"{folder}/{name}", os.R_OK | os.X_OK)]
            paths = (name if below == "." else f"{below}/{name}" for name in files)
            yield from (path for path in paths if not HIDDEN.search(path))


class Row(NamedTuple):
    """What a caption file says about one image."""

    file: str
    place: str  # "captions.csv line 7", for messages
    image: str  # a name or a path, as written in the file
    captions: list[str]
    split: str = ""  # train, val, test, or "" if the file names none
    read: Callable[[], bytes] | None = None  # for an image that is stored in the row itself


def plain(name: str) -> str:
    """A name or path in one case and one Unicode form: "É.JPG" -> "é.jpg"."""
    return (name if name.isascii() else unicodedata.normalize("NFC", name)).casefold().strip()


class Finder:
    """Finds the images below a root by the names that a caption file or a list of images uses.

    `keys` maps each path to its key: the file's name if no other image has it, else the path below the root.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self.named: dict[str, list[str]] = defaultdict(list)
        for path in (paths := list(paths)):
            self.named[name := plain(basename(path))].append(path)
            self.named[splitext(name)[0]].append(path)  # lists often leave out the extension
        counts = Counter(map(basename, paths))
        self.keys = {path: name if counts[name := basename(path)] == 1 else path for path in paths}

    def find(self, written: str, folder: str = "", *, by_name: bool = False) -> list[str]:
        """The paths that `written`, in a file in `folder`, may mean: one, none, or several.

        First the file at that path, from `folder` or from the root; else the files of which one path is the end of the
        other; else, with `by_name`, all files of that name.  The first two as written, then regardless of case and
        Unicode form, which file systems and archives change.
        """
        written = posixpath.normpath(written.replace("\\", "/"))
        here, named = posixpath.normpath(posixpath.join(folder, written)), self.named.get(plain(basename(written)), [])
        if here in self.keys:
            return [here]
        for form in (str, plain):
            forms = [(path, form(either)) for path in dict.fromkeys(named) for either in {path, splitext(path)[0]}]
            for place in (form(here), end := form(written)):
                if exact := [path for path, either in forms if place == either]:
                    return exact
            # "dogs/1.jpg" is the end of "/home/me/dogs/1.jpg"
            ends = ((path, f"/{other}", f"/{end}") for path, other in forms)
            if near := [path for path, theirs, mine in ends if theirs.endswith(mine) or mine.endswith(theirs)]:
                return near
        same = [path for path in named if basename(written) in (basename(path), splitext(basename(path))[0])]
        return list(dict.fromkeys(same or named)) if by_name else []

    def find_one(self, written: str, place: str, folder: str = "", *, by_name: bool = False) -> str | None:
        """The path that `written` means, if any; a MinclipError with its `place` if it may mean several."""
        if len(paths := self.find(written, folder, by_name=by_name)) > 1:
            raise MinclipError(f"{place}: {written} could be {' or '.join(paths[:3])}: write its whole path")
        return paths[0] if paths else None

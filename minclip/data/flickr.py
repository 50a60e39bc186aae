"""Flickr8k and Flickr30k as Kaggle delivers them, from a folder or from the zip itself."""

import csv
import hashlib
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..config import MinclipError
from .pack import broken_list, pack
from .pairs import Pairs

IMAGES = (".jpg", ".jpeg", ".png")
LAYOUTS = ("captions.txt", "results.csv")


@dataclass(frozen=True)
class Source:
    """A folder or a zip: where its files are, by path below the root, and how to read one."""

    root: Path
    files: tuple[str, ...]

    @classmethod
    def open(cls, root: Path) -> "Source":
        if not root.exists():
            raise MinclipError(f"data.root {str(root)!r} is not there: give the folder or the zip of the photographs")
        try:
            paths = (
                zipfile.ZipFile(root).namelist()
                if root.is_file()
                else [p.relative_to(root).as_posix() for p in sorted(root.rglob("*")) if p.is_file()]
            )
        except zipfile.BadZipFile:
            raise MinclipError(f"data.root {str(root)!r} is neither a folder nor a whole zip file") from None
        # what macOS adds to a zip is no photograph
        hidden = re.compile(r"(^|/)(\.|__MACOSX/)")
        return cls(root, tuple(p for p in paths if not p.endswith("/") and not hidden.search(p)))

    def reader(self) -> Callable[[str], bytes]:
        """`read(path) -> bytes`, for several threads at once."""
        if self.root.is_file():
            archive = zipfile.ZipFile(self.root)  # holds a lock of its own around each read
            return archive.read
        return lambda path: (self.root / path).read_bytes()

    def text(self, path: str) -> str:
        try:
            return self.reader()(path).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise MinclipError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8") from None

    @property
    def age(self) -> str:
        """Changes when the photographs change: the root's place, the number of files, and the sums of their sizes and times."""
        stats = [p.stat() for p in ([self.root] if self.root.is_file() else [self.root / f for f in self.files])]
        size, time = sum(s.st_size for s in stats), sum(s.st_mtime_ns for s in stats)
        return f"{self.root.resolve()} {len(self.files)} {size} {time}"


def read_captions(source: Source) -> dict[str, list[str]]:
    """File name -> captions, from `captions.txt` (adityajn105) or `results.csv` (hsankesara), wherever it lies below the root."""
    for layout, rows in zip(LAYOUTS, (_rows_of_captions_txt, _rows_of_results_csv)):
        found = [p for p in source.files if PurePosixPath(p).name == layout]
        if found:
            captions: dict[str, list[str]] = {}
            for name, caption in rows(source.text(found[0]), found[0]):
                captions.setdefault(name, []).append(caption)
            return captions
    seen = ", ".join(source.files[:5]) or "nothing"
    raise MinclipError(
        f"{source.root} is no known layout of Flickr: looked for {' or '.join(LAYOUTS)}, found {seen}{' …' if len(source.files) > 5 else ''}"
    )


def _rows_of_captions_txt(text: str, path: str) -> Iterator[tuple[str, str]]:
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise MinclipError(f"{path} line {start}: {error}; is a quote not closed?") from None
        if row is None:
            return
        if (start == 1 and row == ["image", "caption"]) or not row:
            continue
        if reader.line_num > start:
            raise MinclipError(f"{path} line {start}: a quote is not closed: {','.join(row):.80}")
        if len(row) != 2:
            raise MinclipError(
                f"{path} line {reader.line_num}: expected 2 columns (image,caption), found {len(row)}; a caption with a comma needs quotes: {','.join(row):.80}"
            )
        yield row[0].strip(), row[1].strip()


def _rows_of_results_csv(text: str, path: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        columns = [column.strip() for column in line.split("|")]
        if columns[0] == "image_name" or not line.strip():
            continue
        # Flickr30k's row 19999 lacks a bar: its second column reads "4   A dog runs across the grass ."
        run_together = re.fullmatch(r"(\d+)\s+(.+)", columns[1]) if len(columns) == 2 else None
        if run_together:
            columns = [columns[0], *run_together.groups()]
        if len(columns) != 3:
            raise MinclipError(
                f"{path} line {number}: expected 3 columns (image_name|comment_number|comment), found {len(columns)}: {line:.80}"
            )
        yield columns[0], columns[2]


def read_splits(source: Source, names: list[str]) -> dict[str, list[str]]:
    """Split -> file names: the official lists where they lie in the root or beside it, else by a hash of the name, 90:5:5.

    A list is a .txt file named after its split ("Flickr_8k.devImages.txt", "flickr8k-val.txt", "test.txt"), a name a line.
    """
    known = {PurePosixPath(name).stem: name for name in names}
    texts = [(p, source.text) for p in source.files if p.endswith(".txt")]
    beside = sorted(source.root.absolute().parent.glob("*.txt"))
    # whatever else lies there may be in any encoding
    texts += [(p.name, lambda _, p=p: p.read_text(encoding="utf-8-sig", errors="replace")) for p in beside]
    splits: dict[str, list[str]] = {}
    for path, read in texts:
        word = re.search(r"train|val|dev|test", PurePosixPath(path).name.lower())
        if word is None:
            continue
        lines = [re.sub(r"\.(jpe?g|png)$", "", line.strip()) for line in read(path).splitlines() if line.strip()]
        listed = [known[line] for line in lines if line in known]
        if len(listed) > len(lines) / 2:  # more than a list of something else
            splits.setdefault({"dev": "val"}.get(word[0], word[0]), listed)
    if "train" in splits and "val" in splits:
        return splits
    by_hash: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name in names:
        bucket = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100
        by_hash["train" if bucket < 90 else "val" if bucket < 95 else "test"].append(name)
    return {split: members for split, members in by_hash.items() if members}


def flickr_splits(root: str | Path) -> dict[str, list[str]]:
    """The splits of the photographs at `root`, as file names."""
    source = Source.open(Path(root))
    return read_splits(source, sorted(read_captions(source)))


def load_flickr(root: str | Path, split: str = "train", image_size: int = 64, size: int | None = None) -> Pairs:
    """The photographs of one split, packed at `image_size`, with all their captions; `size` takes only the first ones.

    Captions whose image is missing, images without captions and images that can't be decoded are left out and told in
    `Pairs.notes`.
    """
    source = Source.open(Path(root))
    captions = read_captions(source)
    paths = {PurePosixPath(p).name: p for p in source.files if p.lower().endswith(IMAGES)}
    missing, silent = sorted(captions.keys() - paths.keys()), sorted(paths.keys() - captions.keys())
    notes = [_note(missing, "captioned images are missing"), _note(silent, "images have no caption")]

    splits = read_splits(source, sorted(captions))
    if split not in splits:
        raise MinclipError(f"{root} has no split {split!r}: it has {', '.join(splits)}")
    names = [name for name in splits[split] if name in paths][: size or None]
    if not names:
        raise MinclipError(
            f"{root}: of the {len(captions)} captioned images none is there for the split {split!r}"
            + (f"; {notes[0]}" if missing else "")
        )
    read = source.reader()
    images, kept, broken = pack(names, lambda name: read(paths[name]), image_size, source.age)
    notes.append(
        _note(broken, "images can't be decoded") + (f"; all of them in {broken_list(images)}" if broken else "")
    )
    return Pairs(images, [captions[name] for name in kept], kept, notes=tuple(note for note in notes if note))


def _note(names: list[str], what: str) -> str:
    return (
        f"{len(names)} {what} and were left out: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
        if names
        else ""
    )

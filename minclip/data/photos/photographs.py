"""Photographs with captions, Flickr's or your own: found once, then loaded split by split."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from posixpath import basename, dirname

from ...batches import Pairs
from ...config import MinclipError
from .captions import WORDS, read_flickr, read_own, split_of
from .pack import pack
from .source import Finder, Row, Source
from .splits import read_splits


@dataclass(frozen=True)
class Photographs:
    """What lies at a root, before an image is read.  A name is the file's, or its path where several have that name."""

    source: Source
    captions: dict[str, list[str]]  # by the image's name, at least one each
    places: dict[str, str | Row]  # a path below the root, or the row that holds the image; a missing image has none
    told: dict[str, str]  # the splits that the caption file gives
    notes: tuple[str, ...]  # about captions whose image is missing, and images without captions

    @cached_property
    def splits(self) -> dict[str, list[str]]:
        """Split -> names, missing images among them."""
        # folders named after splits count where all images lie in such: "train" alone may hold railways
        folders = {}
        for name, place in self.places.items():
            above = place.lower().split("/")[:-1] if isinstance(place, str) else []
            folders[name] = next((WORDS[folder] for folder in above if folder in WORDS), "")
        folders = folders if all(folders.values()) else {}
        return read_splits(self.source, list(self.captions), told=self.told, folders=folders)

    def read(self, name: str) -> bytes:
        place = self.places[name]
        return self.source.read(place) if isinstance(place, str) else place.read()

    def load(self, split: str, *, image_size: int, size: int | None = None) -> Pairs:
        """The photographs of one split at `image_size` (packed), with all captions; `size` takes only the first ones.

        `Pairs.notes` reports what was left out: captions whose image is missing, images without captions, images that
        can't be decoded.  MinclipError where the split is unknown or empty.
        """
        splits, root = self.splits, self.source.root
        if split not in splits:
            has = ", ".join(f"{split} ({len(members)})" for split, members in splits.items())
            raise MinclipError(f"{root} has no split {split!r}: it has {has}")
        names = [name for name in splits[split] if name in self.places][: size or None]
        if not names:
            none = f"{root}: of the {len(self.captions)} captioned images none is there for the split {split!r}"
            raise MinclipError("; ".join([none, *self.notes]))
        files = [place if isinstance(place, str) else place.file for place in map(self.places.get, names)]
        stamps = list(map({file: str(self.source.stamp(file)) for file in set(files)}.get, files))
        place = f"{root.resolve()} {split} {size or ''}"
        images, kept, broken = pack(names, self.read, image_size, place=place, stamps=stamps)
        listed = f"; all of them in {Path(images.filename).with_suffix('.json')}" if broken else ""
        notes = (*self.notes, _note(broken, "images can't be decoded") + listed)
        return Pairs(images, [self.captions[name] for name in kept], kept, notes=tuple(filter(None, notes)))


def find_photographs(name: str, root: str | Path, columns: tuple[str, str] | None = None) -> Photographs:
    """The photographs at `root` with their captions: in a layout of Flickr's, or in your own if `name` is "own".

    `columns` names the image column and the caption column of an own table; "" for either looks for the usual names.
    """
    source = Source.open(Path(root))
    if name == "own":
        finder = Finder(source.images)
        rows = read_own(source, finder.keys.values(), columns or ("", ""))
        if source.archive is None and Path(root).is_file():  # a table
            finder = Finder((source := source.including(row.image for row in rows if not row.read)).images)
    else:
        # Flickr's names are numbers: one name is one photograph, though hsankesara's zip may hold it twice
        finder = Finder({basename(path): path for path in source.images}.values())
        rows = sorted(read_flickr(source, finder.keys.values()), key=lambda row: row.image)

    places: dict[str, str | Row] = {row.image: row for row in rows if row.read}
    names = _names(rows, finder, places)
    captions: dict[str, list[str]] = {}
    told: dict[str, str] = {}
    for row in rows:
        key = row.image if row.read else names[dirname(row.file), row.image]
        captions.setdefault(key, []).extend(text.strip() for text in row.captions if text.strip())
        if row.split and told.setdefault(key, split_of(row)) != split_of(row):
            raise MinclipError(f"{row.place}: {key} is for {split_of(row)} here and for {told[key]} above")
    captions = {key: texts for key, texts in captions.items() if texts}
    if not captions:
        raise MinclipError(f"{root}: none of {len(rows)} captions has a word in it, as {rows[0].place}")
    missing = sorted(captions.keys() - places.keys())
    silent = sorted((set(finder.keys.values()) | places.keys()) - captions.keys())
    notes = [_note(missing, "captioned images are missing"), _note(silent, "images have no caption")]
    return Photographs(source, captions, places, told, tuple(filter(None, notes)))


def _names(rows: list[Row], finder: Finder, places: dict[str, str | Row]) -> dict[tuple[str, str], str]:
    """(folder of the caption file, image as written there) -> name; adds the files that are there to `places`."""
    first = {(dirname(row.file), row.image): row for row in reversed(rows) if not row.read}
    alike = Counter(basename(image) for _, image in first)
    names = {}
    for (folder, image), row in first.items():
        # a name alone is enough where only one image has it, on both sides
        path = finder.find_one(image, row.place, folder, by_name=alike[basename(image)] == 1)
        names[folder, image] = finder.keys[path] if path else image
        if path:
            places[names[folder, image]] = path
    return names


def _note(names: list[str], what: str) -> str:
    some = f"{', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
    return f"{len(names)} {what} and were left out: {some}" if names else ""

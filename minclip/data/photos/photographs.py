"""Photographs with captions, Flickr's or people's own: found, matched, split, packed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...batches import Pairs
from ...config import MinclipError
from .layouts import read_flickr, read_own
from .pack import broken_list, pack
from .source import Finder, Row, Source, file_name
from .splits import WORDS, read_splits, split_of


@dataclass(frozen=True)
class Photographs:
    """What lies at a root, before an image is read.  A name is the file's, or its path where several are called the same."""

    source: Source
    captions: dict[str, list[str]]  # by the image's name, at least one each
    places: dict[str, str | Callable[[], bytes]]  # a path below the root, or how to read it; a missing image has none
    told: dict[str, str]  # the splits that the caption file tells
    notes: tuple[str, ...]  # on captions whose image is missing, and on images without captions

    def splits(self) -> dict[str, list[str]]:
        """Split -> names, missing images among them."""
        # folders named after splits count where all images lie in such: "train" alone may hold railways
        folders = {}
        for name, place in self.places.items():
            above = place.split("/")[:-1] if isinstance(place, str) else []
            if split := next((WORDS[folder.lower()] for folder in above if folder.lower() in WORDS), ""):
                folders[name] = split
        folders = folders if len(folders) == len(self.places) else {}
        return read_splits(self.source, list(self.captions), self.told, folders)

    def load(self, split: str, *, image_size: int, size: int | None = None) -> Pairs:
        return _load(self, split, image_size, size)

    def read(self, name: str) -> bytes:
        place = self.places[name]
        return self.source.read(place) if isinstance(place, str) else place()


def find_photographs(name: str, root: str | Path, columns: tuple[str, str] = ("", "")) -> Photographs:
    """The photographs at `root` with their captions: in a layout of Flickr's, or in people's own where `name` is "own"."""
    source = Source.open(Path(root))
    if name == "own":
        finder = Finder(source.images)
        rows = read_own(source, finder.keys.values(), columns)
    else:
        # Flickr's names are numbers: one name is one photograph, though hsankesara's zip may hold it twice
        finder = Finder({file_name(path): path for path in source.images}.values())
        rows = sorted(read_flickr(source, finder.keys.values()), key=lambda row: row.image)

    places: dict[str, str | Callable[[], bytes]] = {row.image: row.read for row in rows if row.read}
    names = _names(rows, finder, places)
    captions: dict[str, list[str]] = {}
    told: dict[str, str] = {}
    for row in rows:
        key = row.image if row.read else names[row.folder, row.image]
        captions.setdefault(key, []).extend(text.strip() for text in row.captions if text.strip())
        if row.split and told.setdefault(key, split_of(row)) != split_of(row):
            raise MinclipError(f"{row.place}: {key} is for {split_of(row)} here and for {told[key]} above")
    captions = {key: texts for key, texts in captions.items() if texts}
    missing = sorted(captions.keys() - places.keys())
    silent = sorted((set(finder.keys.values()) | places.keys()) - captions.keys())
    notes = [_note(missing, "captioned images are missing"), _note(silent, "images have no caption")]
    if not captions:
        raise MinclipError(f"{root}: none of {len(rows)} captions has a word in it, as {rows[0].place}")
    return Photographs(source, captions, places, told, tuple(filter(None, notes)))


def _names(rows: list[Row], finder: Finder, places: dict[str, str | Callable[[], bytes]]) -> dict[tuple[str, str], str]:
    """(folder of the caption file, image as it is written there) -> name; `places` learns where those lie that are there."""
    first = {(row.folder, row.image): row for row in reversed(rows) if not row.read}
    alike = Counter(file_name(image) for _, image in first)
    names = {}
    for (folder, image), row in first.items():
        # a name alone is enough where only one image is called so, on both sides
        paths = finder.find(image, folder, by_name=alike[file_name(image)] == 1)
        if len(paths) > 1:
            raise MinclipError(f"{row.place}: {image} could be {' or '.join(paths[:3])}: write its folder, too")
        names[folder, image] = finder.keys[paths[0]] if paths else image
        if paths:
            places[names[folder, image]] = paths[0]
    return names


def load_photographs(
    name: str,
    root: str | Path,
    split: str = "train",
    image_size: int = 64,
    size: int | None = None,
    columns: tuple[str, str] = ("", ""),
) -> Pairs:
    """The photographs of one split, packed at `image_size`, with all their captions; `size` takes only the first ones.

    Captions whose image is missing, images without captions and images that can't be decoded are left out and told in
    `Pairs.notes`.
    """
    return _load(find_photographs(name, root, columns), split, image_size, size)


def _load(found: Photographs, split: str, image_size: int, size: int | None) -> Pairs:
    splits, root = found.splits(), found.source.root
    if split not in splits:
        has = ", ".join(f"{split} ({len(members)})" for split, members in splits.items())
        raise MinclipError(f"{root} has no split {split!r}: it has {has}")
    names = [name for name in splits[split] if name in found.places][: size or None]
    if not names:
        raise MinclipError(
            f"{root}: of the {len(found.captions)} captioned images none is there for the split {split!r}"
            + "".join(f"; {note}" for note in found.notes)
        )
    images, kept, broken = pack(names, found.read, image_size, found.source.age)
    listed = f"; all of them in {broken_list(images)}" if broken else ""
    notes = (*found.notes, _note(broken, "images can't be decoded") + listed)
    return Pairs(images, [found.captions[name] for name in kept], kept, notes=tuple(filter(None, notes)))


def _note(names: list[str], what: str) -> str:
    return (
        f"{len(names)} {what} and were left out: {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"
        if names
        else ""
    )

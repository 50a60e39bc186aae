"""Photographs with captions, Flickr's or your own: found once, split by lists or by hash, loaded split by split."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from posixpath import basename, dirname, splitext

from ...batches import Pairs
from ...config import MinclipError, need
from .captions import SPLIT_WORDS, read_flickr, read_karpathy, read_own, split_in
from .pack import pack
from .source import Finder, Source, counted, plain

SPLITS = ("train", "val", "test")
NO_CAPTION = {"", "NaN", "nan", "None", "NULL", "null", "N/A", "n/a", "NA", "<NA>"}  # as pandas writes and reads them


class Drawn(dict[str, list[str]]):
    """Splits that were drawn by hash, because the data name none."""


@dataclass(frozen=True)
class Photographs:
    """The photographs at a root, before any is read; an image's name is its file name, or its path if not unique."""

    source: Source
    captions: dict[str, list[str]]  # name -> captions, at least one
    places: dict[str, str]  # name -> path of the image file, or of the table that holds the image; not for missing ones
    stored: dict[str, Callable[[], bytes]]  # name -> how to read an image that a table holds
    splits: dict[str, list[str]]  # split -> names, missing images among them
    notes: tuple[str, ...]  # what was left out, of images, captions and other files

    def read(self, name: str) -> bytes:
        return self.stored[name]() if name in self.stored else self.source.read(self.places[name])

    def load(self, split: str, *, image_size: int, size: int | None = None) -> Pairs:
        """The photographs of one split, packed at `image_size`, with all captions; `size` limits it to the first ones.

        `Pairs.notes` reports what was left out: captions whose image is missing, images without captions, images that
        can't be decoded.  Raises MinclipError if the split is unknown or empty.
        """
        splits, root = {**self.splits, "all": list(self.captions)}, self.source.root
        has = ", ".join(f"{split} ({len(members)})" for split, members in splits.items())
        need(split in splits, f"{root} has no split {split!r}: it has {has}")
        names = [name for name in splits[split] if name in self.places][: size or None]
        if not names:
            none = f"{root}: none of the {len(self.captions)} captioned images is available for the split {split!r}"
            raise MinclipError("; ".join([none, *self.notes]))
        files = dict.fromkeys(self.places[name] for name in names)
        place, stamps = f"{root.resolve()} {split} {size or ''}", [str(self.source.stamp(file)) for file in files]
        images, kept, broken = pack(names, self.read, image_size, place=place, stamps=stamps)
        listed = f"; all are listed in {Path(images.filename).with_suffix('.json')}"
        notes = (*self.notes, *(note + listed for note in counted({"images can't be decoded": broken})))
        return Pairs(images, [self.captions[name] for name in kept], kept, notes=notes)


def find_photographs(name: str, root: str | Path, columns: tuple[str, str] = ("", "")) -> Photographs:
    """The photographs at `root` with their captions: in one of Flickr's layouts, or in your own if `name` is "own".

    `columns` names the image and the caption column of your own table; for "", the usual names are tried.
    """
    source = Source.open(root := Path(os.path.expanduser(root)))
    if name == "own":
        rows = read_own(source, columns)
        if source.table:
            source = source.including(row.image for row in rows if not row.read)
        finder = Finder(source.images)
    else:
        # Flickr's names are unique numbers: a name that hsankesara's zip holds twice is the same photograph
        finder = Finder({basename(path): path for path in source.images}.values())
        rows = sorted(read_flickr(source), key=lambda row: row.image)

    stored, places, names, texts, row_splits = {}, {}, {}, defaultdict(list), {}
    written = {(dirname(row.file), row.image) for row in rows if not row.read}
    counts = Counter(plain(basename(image)) for _, image in written)
    for row in rows:
        folder, key = dirname(row.file), row.image
        if row.read:
            stored[key], places[key] = row.read, row.file
        else:
            if (folder, key) not in names:
                # the file name alone is enough if it is unique among the captions and among the files
                path = finder.find_one(key, row.place, folder, by_name=counts[plain(basename(key))] == 1)
                names[folder, key] = finder.keys[path] if path else key
                if path:
                    places[names[folder, key]] = path
            key = names[folder, key]
        texts[key] += [text for text in map(str.strip, row.captions) if text not in NO_CAPTION]
        if row.split and row_splits.setdefault(key, row.split) != row.split:
            raise MinclipError(f"{row.place}: {key} is in split {row.split} here, but in {row_splits[key]} above")
    captions = {key: some for key, some in texts.items() if some}
    need(bool(captions), f"{root}: none of {len(rows)} captions has any text, see {rows[0].place}")
    ((text, count),) = (counts := Counter(chain(*captions.values()))).most_common(1)
    same = [f"{count} of {counts.total()} captions are {text!r:.60}"] if 2 * count > counts.total() > 9 else []
    unread = Finder(chain(*source.unread.values()))
    missing = sorted(name for name in captions.keys() - places.keys() if not unread.find(name, by_name=True))
    uncaptioned = sorted((set(finder.keys.values()) | places.keys()) - captions.keys())
    left_out = {"captioned images are missing": missing, "images have no caption": uncaptioned}

    # folders named after splits count only if they hold all images: "train" may be a folder of trains
    above = {name: place.lower().split("/")[:-1] for name, place in places.items()}
    folders = {name: next((SPLIT_WORDS[f] for f in path if f in SPLIT_WORDS), "") for name, path in above.items()}
    folders = folders if all(folders.values()) else {}
    splits = read_splits(source, list(captions), row_splits=row_splits, folders=folders)
    # a name in several lists counts in the last split: what is evaluated must not be learned
    last = {name: split for split, members in splits.items() for name in members}
    left_out["images are in several lists"] = [f"{n} from {s}" for s in splits for n in splits[s] if last[n] != s]
    left_out["captioned images are in no split"] = [name for name in captions if name not in last]
    splits |= {split: [name for name in members if last[name] == split] for split, members in splits.items()}
    return Photographs(source, captions, places, stored, splits, (*counted(left_out), *counted(source.unread), *same))


def read_splits(
    source: Source, names: list[str], *, row_splits: dict[str, str] | None = None, folders: dict[str, str] | None = None
) -> dict[str, list[str]]:
    """Split -> names of images, by the first of these that exists:

    1. `row_splits`, name -> split: what the caption file says;
    2. .txt files in the root or beside it with one name per line, named after their split (train and val at least);
    3. Karpathy's JSON;
    4. `folders`, name -> split;
    5. a hash of the name, 90:5:5.

    If no image is left for validation, it gets one in twenty of the training images, at least one.
    """
    if row_splits and (without := [name for name in names if name not in row_splits]):
        some = f"{len(without)} of {len(names)} captioned images have no split, the others do"
        raise MinclipError(f"{source.root}: {some}: give all of them one: {', '.join(without[:5])}")
    finder = Finder(names)
    if not row_splits and (lists := _lists(source, names, finder)):
        return lists
    rows = [] if row_splits else read_karpathy(source, names)
    listed = {name: row.split for row in rows for name in finder.find(row.image, by_name=True)[:1]}
    if drawn := not (chosen := row_splits or listed or folders):
        chosen = {name: "train" if bucket(name) < 90 else "val" if bucket(name) < 95 else "test" for name in names}
    splits = {split: [name for name in names if chosen.get(name) == split] for split in SPLITS}
    if not splits["val"] and len(train := splits["train"]) > 1:
        held_out = {n for n in train if 90 <= bucket(n) < 95} or {min(train, key=lambda n: (bucket(n), n))}
        splits["val"] = [n for n in train if n in held_out]
        splits["train"] = [n for n in train if n not in held_out]
    return (Drawn if drawn else dict)({split: members for split, members in splits.items() if members})


def bucket(name: str) -> int:
    """A number from 0 to 99 that depends on the name alone, so that a photograph never changes its split."""
    return int(hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest(), 16) % 100


def _lists(source: Source, names: list[str], finder: Finder) -> dict[str, list[str]]:
    beside, images = source.root.absolute().parent, {splitext(path)[0] for path in source.images}
    # below the root, a text beside an image is its caption
    texts = [(source, p) for p in source.files if p.endswith(".txt") and splitext(p)[0] not in images]
    texts += [(Source(beside, ()), path.name) for path in sorted(beside.glob("*.txt"))]
    splits: dict[str, list[str]] = {}
    for place, path in texts:
        split = split_in(basename(path))
        # a longer file is no list of these images: don't read it, it may be as large as the disk
        if not split or place.stamp(path)[0] > 10_000 + 300 * len(names):
            continue
        text = place.text(path, any_encoding=place is not source)  # a file beside the root may be anything
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if sum(bool(finder.find(line)) for line in lines) > len(lines) / 2:  # otherwise a list of something else
            found = (finder.find_one(line, path) for line in lines)
            splits.setdefault(split, list(dict.fromkeys(filter(None, found))))
    return {split: splits[split] for split in SPLITS if split in splits} if {"train", "val"} <= splits.keys() else {}

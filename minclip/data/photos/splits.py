"""Splits images into train, validation and test: by official lists where there are any, else by a hash of the name."""

import hashlib
from posixpath import basename, splitext

from ...config import MinclipError
from .captions import read_karpathy, split_in, split_of
from .source import Finder, Source


def read_splits(
    source: Source, names: list[str], *, told: dict[str, str] | None = None, folders: dict[str, str] | None = None
) -> dict[str, list[str]]:
    """Split -> names of images, by the first of these that there is:

    1. `told`, name -> split: what the caption file says;
    2. .txt files in the root or beside it with a name a line, named after their split (train and val at least);
    3. Karpathy's JSON;
    4. `folders`, name -> split;
    5. a hash of the name, 90:5:5.

    Where this leaves no image for validation, one in twenty of the training images is taken for it, at least one.
    """
    if told and (untold := [name for name in names if name not in told]):
        some = f"{len(untold)} of {len(names)} captioned images have no split, the others do"
        raise MinclipError(f"{source.root}: {some}: {', '.join(untold[:5])}")
    if not told and (lists := _lists(source, names)):
        return lists
    told = told or _karpathy(source, names) or folders or {name: by_hash(name) for name in names}
    splits = {split: [name for name in names if told.get(name) == split] for split in ("train", "val", "test")}
    if not splits["train"]:
        has = ", ".join(f"{len(members)} for {split}" for split, members in splits.items())
        raise MinclipError(f"{source.root}: none of {len(names)} captioned images is for training: {has}")
    if not splits["val"] and len(train := splits["train"]) > 1:
        held = {n for n in train if 90 <= bucket(n) < 95} or {min(train, key=lambda n: (bucket(n), n))}
        splits["val"] = [n for n in train if n in held]
        splits["train"] = [n for n in train if n not in held]
    return {split: members for split, members in splits.items() if members}


def bucket(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100


def by_hash(name: str) -> str:
    return "train" if bucket(name) < 90 else "val" if bucket(name) < 95 else "test"


def _lists(source: Source, names: list[str]) -> dict[str, list[str]]:
    finder, folder, images = Finder(names), source.root.absolute().parent, {splitext(path)[0] for path in source.images}
    around = Source(folder, tuple(sorted(path.name for path in folder.glob("*.txt"))))
    # below the root, a text beside an image is its caption
    texts = [(source, p) for p in source.files if p.endswith(".txt") and splitext(p)[0] not in images]
    splits: dict[str, list[str]] = {}
    for place, path in texts + [(around, path) for path in around.files]:
        split = split_in(basename(path))
        # no list of these images is longer; another text named "train" may be as large as the disk
        if not split or place.stamp(path)[0] > 10_000 + 300 * len(names):
            continue
        try:
            lines = [line.strip() for line in place.text(path).splitlines() if line.strip()]
        except MinclipError:
            if place is source:
                raise
            continue  # anything may lie beside the root
        if sum(bool(finder.find(line)) for line in lines) > len(lines) / 2:  # otherwise a list of something else
            found = (finder.find_one(line, path) for line in lines)
            splits.setdefault(split, list(dict.fromkeys(filter(None, found))))
    return splits if "train" in splits and "val" in splits else {}


def _karpathy(source: Source, names: list[str]) -> dict[str, str]:
    finder, rows = Finder(names), read_karpathy(source, names)
    return {name: split_of(row) for row in rows for name in finder.find(row.image, by_name=True)[:1]}

"""Who is learnt from and who is asked about: official lists where there are any, else a hash of the name that never changes."""

import hashlib
import re

from ...config import MinclipError
from .karpathy import read_karpathy
from .source import Finder, Row, Source, file_name

WORDS = {
    **dict.fromkeys(("train", "training", "restval"), "train"),  # "restval": what Karpathy left of COCO's validation
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_in(name: str) -> str:
    """The split that a word of a file's name tells ("validation-00000-of-00001.parquet"), or ""."""
    return next((WORDS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in WORDS), "")


def read_splits(
    source: Source, names: list[str], told: dict[str, str] | None = None, folders: dict[str, str] | None = None
) -> dict[str, list[str]]:
    """Split -> names of images, by the first of these that there is:

    1. `told`, name -> split: what the caption file says;
    2. lists in the root or beside it: .txt files named after their split ("Flickr_8k.devImages.txt", "flickr8k-val.txt",
       "test.txt"), a name a line, for train and val at least;
    3. Karpathy's JSON;
    4. `folders`, name -> split;
    5. a hash of the name, 90:5:5.

    Where this leaves no image for validation, one in twenty of the training images is taken for it, at least one.
    """
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    if told:
        if untold := [name for name in names if name not in told]:
            raise MinclipError(
                f"{source.root}: {len(untold)} of {len(names)} captioned images have no split, the others do: "
                f"{', '.join(untold[:5])}"
            )
    elif lists := _lists(source, names):
        return lists
    else:
        told = _karpathy(source, names) or folders or {name: by_hash(name) for name in names}
    for name in names:
        if name in told:
            splits[told[name]].append(name)
    if not splits["train"]:
        raise MinclipError(
            f"{source.root}: none of {len(names)} captioned images is for training: "
            + ", ".join(f"{len(members)} for {split}" for split, members in splits.items())
        )
    if not splits["val"] and len(splits["train"]) > 1:
        held = {n for n in splits["train"] if 90 <= bucket(n) < 95} or {
            min(splits["train"], key=lambda n: (bucket(n), n))
        }
        splits["val"] = [n for n in splits["train"] if n in held]
        splits["train"] = [n for n in splits["train"] if n not in held]
    return {split: members for split, members in splits.items() if members}


def bucket(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 100


def by_hash(name: str) -> str:
    return "train" if bucket(name) < 90 else "val" if bucket(name) < 95 else "test"


def _lists(source: Source, names: list[str]) -> dict[str, list[str]]:
    finder, images = Finder(names), {path.rpartition(".")[0] for path in source.images}
    # a text beside an image is its caption
    texts = [(p, source.text) for p in source.files if p.endswith(".txt") and p[: -len(".txt")] not in images]
    beside = sorted(source.root.absolute().parent.glob("*.txt"))
    # whatever else lies there may be in any encoding
    texts += [(p.name, lambda _, p=p: p.read_text(encoding="utf-8-sig", errors="replace")) for p in beside]
    splits: dict[str, list[str]] = {}
    for path, read in texts:
        word = re.search(r"train|val|dev|test", file_name(path).lower())
        if word is None:
            continue
        lines = [line.strip() for line in read(path).splitlines() if line.strip()]
        found = [finder.find(line) for line in lines]
        listed = [f[0] for f in found if f]
        if len(listed) > len(lines) / 2:  # more than a list of something else
            for line, several in zip(lines, found):
                if len(several) > 1:
                    raise MinclipError(f"{path}: {line} could be {' or '.join(several[:3])}: write its folder, too")
            splits.setdefault(WORDS[word[0]], list(dict.fromkeys(listed)))
    return splits if "train" in splits and "val" in splits else {}


def _karpathy(source: Source, names: list[str]) -> dict[str, str]:
    finder, told = Finder(names), {}
    for row in read_karpathy(source, names):
        for name in finder.find(row.image, by_name=True)[:1]:
            told[name] = split_of(row)
    return told


def split_of(row: Row) -> str:
    """The split that a row tells, in our words."""
    if row.split.strip().lower() not in WORDS:
        raise MinclipError(f"{row.place}: the split {row.split!r} is none of train, val, test")
    return WORDS[row.split.strip().lower()]

"""Readers of the paper's data sets: torchvision finds and checks the files, which become images and labels here."""

import inspect
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ...config import need
from ...data.photos.captions import SPLIT_WORDS
from ...data.photos.images import open_image
from ...data.photos.photographs import bucket
from ...data.photos.source import Source, counted

WHOLE = 1 << 20  # larger than any photograph's side, so that a JPEG is decoded at full size
VOC = "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person".split()
VOC += ["pottedplant", "sheep", "sofa", "train", "tvmonitor"]


@dataclass(frozen=True)
class Labeled:
    """N images of C classes: `images[i]` is a PIL image; `labels` (N,) int64, or (N, C) bool if one may show several.

    `class_names` are the C names for prompts; `notes` reports what minclip chose by itself, such as a split.
    """

    images: Sequence[Any]
    labels: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count, names = len(self.labels), len(self.class_names)
        need(len(self.images) == count > 0, f"{len(self.images)} images and {count} labels: each image needs one")
        columns, most = self.labels.shape[1] if self.labels.ndim == 2 else names, int(self.labels.max())
        fits = columns == names and 0 <= int(self.labels.min()) <= most < names
        need(fits, f"labels up to {most} in {columns} columns don't fit {names} class names")

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Lazy:
    """PIL images, opened when accessed; raises MinclipError if a file is missing or isn't an image."""

    paths: Sequence[Any]
    opened: Callable[[Any], Any] = lambda path: open_image(path, WHOLE)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Any:
        return self.opened(self.paths[i])


def class_folders(path: Path) -> dict[str, Labeled]:
    """Split -> images of class folders, or of split folders (any name in SPLIT_WORDS) that have class folders.

    All splits have the same classes, sorted.  Without split folders, "all" images are also drawn by a hash of their
    paths: about 80 % of each class for "train", the rest for "test".  MinclipError: fewer than two classes with images.
    """
    layout = "PATH/<class name>/<image>, or PATH/train/<class name>/<image> and PATH/test/<class name>/<image>"
    need(path.is_dir(), f"{path} {'is no folder' if path.exists() else 'does not exist'}: give class folders, {layout}")
    source = Source.open(path, "")
    parts = {image: image.split("/") for image in sorted(source.images)}
    tops = {p[0] for p in parts.values() if len(p) > 1}
    splits = {top: SPLIT_WORDS[top.lower()] for top in sorted(tops) if top.lower() in SPLIT_WORDS}
    if others := sorted(tops - splits.keys()):  # a class may be called "train", too
        both = f"{path} has {', '.join(splits)} beside {', '.join(others[:5])}: keep only one kind"
        need(not any(len(p) > 2 and p[0] in splits for p in parts.values()), both)
        splits = {}
    depth = 1 if splits else 0
    rows = {image: p[depth] for image, p in parts.items() if len(p) > depth + 1}  # image -> class
    classes = sorted({*rows.values()})
    inside = [folder for split in splits or ("",) for folder in (path / split).iterdir() if folder.is_dir()]
    empty = {folder.name for folder in inside if folder.name[0] != "."} - {*classes}
    left_out = {"images are outside class folders": parts.keys() - rows.keys(), "folders have no image": empty}
    notes = [f"{path}: {note}" for note in counted({why: sorted(x) for why, x in (left_out | source.unread).items()})]
    what = f"{path} has {len(classes)} class folders with images, but needs at least two: {layout}"
    need(len(classes) > 1, "; ".join([what, *notes]))
    members = {split: [i for i in rows if splits[parts[i][0]] == split] for split in splits.values()}
    if not splits:
        members = {"all": [*rows], "train": [], "test": []}
        for _, of_class in groupby(rows, key=rows.get):
            drawn = sorted((bucket(ascii(image)), image) for image in of_class)
            cut = min(max(sum(n < 80 for n, _ in drawn), 1), len(drawn) - 1)  # some of each class in both
            for i, (_, image) in enumerate(drawn):
                members["train" if i < cut else "test"].append(image)
    labels = {split: np.searchsorted(classes, [rows[i] for i in m]) for split, m in members.items() if m}
    return {s: Labeled(Lazy([path / i for i in members[s]]), y, (*classes,), (*notes,)) for s, y in labels.items()}


def read(name: str, kind: str, root: Path, *, split: str, download: bool) -> tuple[Any, ...]:
    """Images, labels (N,) (VOC 2007: (N, C) bool), the data set's class names (empty if it has numbers), notes."""
    from torchvision import datasets  # takes half a second, which `import minclip` should not

    load = getattr(datasets, kind)
    options = {"split": split, "image_set": split, "train": split == "train", "year": "2007", "download": download}
    options["folds"] = 0 if split == "train" else None  # of STL-10: the paper trains on one fold of 1,000 images
    known = inspect.signature(load).parameters
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about how torchvision reads old files
        d = load(root / "ILSVRC2012" if name == "imagenet" else root, **{k: options[k] for k in options if k in known})
    if name in SPECIAL:
        return SPECIAL[name](d, split)
    if not hasattr(d, "data"):
        return _subset(*_files(d), getattr(d, "classes", ()))
    classes = () if str(d.classes[0]).startswith("0 ") else d.classes  # MNIST's are "0 - zero" …
    return Lazy(d, itemgetter(0)), d.targets if hasattr(d, "targets") else d.labels, classes


def _files(d: Any) -> tuple[Sequence[Any], Sequence[Any]]:
    """The files and labels of a data set that keeps lists of them, as most do; decodes nothing."""
    pairs = getattr(d, "samples", None) or getattr(d, "_samples", None)
    return tuple(zip(*pairs)) if pairs else (getattr(d, "_image_files", None) or d._images, d._labels)


def _subset(paths: Sequence[Any], labels: Sequence[Any], classes: Sequence[str], rows: Any = None) -> tuple[Any, ...]:
    rows = range(len(paths)) if rows is None else rows
    return Lazy([Path(paths[i]) for i in rows]), [labels[i] for i in rows], classes


def _draw(count: int, split: str, test: float, train: float) -> np.ndarray:
    """The rows of an unpublished split: fractions `test` and `train` of a shuffle that is always the same."""
    order, first = np.random.default_rng(0).permutation(count), max(1, round(test * count))
    return np.sort(order[:first] if split == "test" else order[first : first + max(1, round(train * count))])


def fer2013(d: Any, split: str) -> tuple[Any, ...]:
    labels = [label for _, label in d._samples]
    need(None not in labels, "test.csv has no labels: use fer2013.csv or icml_face_data.csv")
    return Lazy(d, itemgetter(0)), labels, ()


def sun397(d: Any, split: str) -> tuple[Any, ...]:
    place, name = Path(d.root) / "SUN397", f"{split.title()}ing_01.txt"
    paths, labels = zip(*sorted(zip(*_files(d))))
    if lists := sorted(place.rglob(name)):
        wanted = {place / line.strip("/") for line in lists[0].read_text().split()}
        return _subset(paths, labels, d.classes, [i for i, path in enumerate(paths) if path in wanted])
    note = f"{name} of SUN397's partitions is not in {place}: the split is minclip's own, not the paper's"
    return *_subset(paths, labels, d.classes, _draw(len(paths), split, 19850 / 108754, 19850 / 108754)), note


def eurosat(d: Any, split: str) -> tuple[Any, ...]:
    return _subset(*_files(d), d.classes, _draw(len(d), split, 5000 / 27000, 10000 / 27000))


def caltech101(d: Any, split: str) -> tuple[Any, ...]:
    """All 102 folders, as in the paper, so with the background: 30 images of each to train on, the others to test."""
    data = class_folders(Path(d.root) / "101_ObjectCategories")["all"]
    labels, classes = data.labels, data.class_names
    order = np.random.default_rng(0).permutation(len(labels))
    train = np.concatenate([order[labels[order] == c][:30] for c in range(len(classes))])
    rows = np.sort(train) if split == "train" else np.setdiff1d(order, train)
    return _subset(data.images.paths, labels, classes, rows)


def voc2007(d: Any, split: str) -> tuple[Any, ...]:
    # difficult objects don't count; VOC's own kit skips an image for a class if all its objects of it are difficult
    labels = np.zeros((len(d), len(VOC)), bool)
    for row, path in zip(labels, d.annotations):
        for thing in ElementTree.parse(path).iter("object"):
            row[VOC.index(thing.findtext("name", "").strip())] |= thing.findtext("difficult", "0").strip() != "1"
    return Lazy(d.images), labels, VOC


def pcam(d: Any, split: str) -> tuple[Any, ...]:
    with d.h5py.File(d._base_folder / d._FILES[split]["targets"][0]) as file:
        return Lazy(d, itemgetter(0)), file["y"][:].reshape(-1), ()


def imagenet(d: Any, split: str) -> tuple[Any, ...]:
    return _subset(*_files(d), distinct(d.wnids, d.classes))


def distinct(ids: Sequence[str], names: Sequence[Sequence[str]]) -> list[str]:
    """The first name of each class; all, where another class has the same first one, or the id if even these agree."""
    count = Counter(of_class[0] for of_class in names)
    whole = [", ".join(of_class) if count[of_class[0]] > 1 else of_class[0] for of_class in names]
    count = Counter(whole)
    return [number if count[name] > 1 else name for number, name in zip(ids, whole)]


SPECIAL = {f.__name__: f for f in (fer2013, sun397, eurosat, caltech101, voc2007, pcam, imagenet)}  # see `read`

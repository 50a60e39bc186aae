"""How the paper's data sets are read: torchvision finds and checks the files, here they become images and labels."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ...config import need
from ...data.photos.images import open_image
from ...data.photos.source import Source

WHOLE = 1 << 20  # a side that no photograph has: a JPEG is decoded at its full size
VOC = "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person".split()
VOC += ["pottedplant", "sheep", "sofa", "train", "tvmonitor"]


@dataclass(frozen=True)
class Labeled:
    """N images of C classes: `images[i]` is a PIL image; `labels` (N,) int64, or (N, C) bool where one shows several.

    `class_names` are the C names as they stand in a prompt; `notes` says what minclip decided.
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
    """PIL images, each opened when asked for: a MinclipError names a file that is missing or no image."""

    paths: Sequence[Any]
    opened: Callable[[Any], Any] = lambda path: open_image(path, WHOLE)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> Any:
        return self.opened(self.paths[i])


def class_folders(folder: Path) -> tuple[Lazy, np.ndarray, list[str]]:
    """Images, labels (N,) and class folders of `folder/<class>/<image>`, the classes in the order of their names."""
    paths = sorted(path for path in Source.open(folder).images if "/" in path)
    names = [path.partition("/")[0] for path in paths]
    classes = sorted(set(names))
    need(len(classes) > 1, f"{folder} has {len(classes)} class folders, needs two: {folder}/<class name>/<image>")
    return Lazy([folder / path for path in paths]), np.searchsorted(classes, names), classes


def read(name: str, kind: str, root: Path, *, split: str, download: bool) -> tuple[Any, ...]:
    """Images, labels (N,) (VOC 2007: (N, C) bool), classes as the set names them (none where it has numbers), notes."""
    from torchvision import datasets  # half a second that `import minclip` should not cost

    of = getattr(datasets, kind)
    options = {"split": split, "image_set": split, "train": split == "train", "year": "2007", "download": download}
    options["folds"] = 0 if split == "train" else None  # of STL-10: the paper trains on a fold of 1,000 images
    known = inspect.signature(of).parameters
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy's, about how torchvision reads old files
        d = of(root / "ILSVRC2012" if name == "imagenet" else root, **{k: options[k] for k in options if k in known})
    if name in globals():
        return globals()[name](d, split)
    if not hasattr(d, "data"):
        return _some(*_files(d), getattr(d, "classes", ()))
    classes = () if str(d.classes[0]).startswith("0 ") else d.classes  # MNIST's are "0 - zero" …
    return Lazy(d, itemgetter(0)), d.targets if hasattr(d, "targets") else d.labels, classes


def _files(d: Any) -> tuple[Sequence[Any], Sequence[Any]]:
    """Files and labels of a set that keeps a list of them, as most do; nothing is decoded."""
    pairs = getattr(d, "samples", None) or getattr(d, "_samples", None)
    return tuple(zip(*pairs)) if pairs else (getattr(d, "_image_files", None) or d._images, d._labels)


def _some(paths: Sequence[Any], labels: Sequence[Any], classes: Sequence[str], rows: Any = None) -> tuple[Any, ...]:
    rows = range(len(paths)) if rows is None else rows
    return Lazy([Path(paths[i]) for i in rows]), [labels[i] for i in rows], classes


def _draw(count: int, split: str, test: float, train: float) -> np.ndarray:
    """The rows of a split that nobody published: shares of a shuffle that is always the same."""
    order, first = np.random.default_rng(0).permutation(count), max(1, round(test * count))
    return np.sort(order[:first] if split == "test" else order[first : first + max(1, round(train * count))])


def fer2013(d: Any, split: str) -> tuple[Any, ...]:
    labels = [label for _, label in d._samples]
    need(None not in labels, "test.csv has no labels, fer2013.csv and icml_face_data.csv have")
    return Lazy(d, itemgetter(0)), labels, ()


def sun397(d: Any, split: str) -> tuple[Any, ...]:
    place, name = Path(d.root) / "SUN397", f"{split.title()}ing_01.txt"
    paths, labels = zip(*sorted(zip(*_files(d))))
    if lists := sorted(place.rglob(name)):
        wanted = {place / line.strip("/") for line in lists[0].read_text().split()}
        return _some(paths, labels, d.classes, [i for i, path in enumerate(paths) if path in wanted])
    note = f"{name} of SUN397's partitions is not in {place}: the split is minclip's own, not the paper's"
    return *_some(paths, labels, d.classes, _draw(len(paths), split, 19850 / 108754, 19850 / 108754)), note


def eurosat(d: Any, split: str) -> tuple[Any, ...]:
    return _some(*_files(d), d.classes, _draw(len(d), split, 5000 / 27000, 10000 / 27000))


def caltech101(d: Any, split: str) -> tuple[Any, ...]:
    """All 102 folders, the background's too, as in the paper: 30 images of each to train on, the others to test."""
    files, labels, classes = class_folders(Path(d.root) / "101_ObjectCategories")
    order = np.random.default_rng(0).permutation(len(labels))
    train = np.concatenate([order[labels[order] == c][:30] for c in range(len(classes))])
    return _some(files.paths, labels, classes, np.sort(train) if split == "train" else np.setdiff1d(order, train))


def voc2007(d: Any, split: str) -> tuple[Any, ...]:
    # objects marked as difficult don't count; VOC's own kit leaves an image with only such ones out for that class
    labels = np.zeros((len(d), len(VOC)), bool)
    for row, path in zip(labels, d.annotations):
        for thing in ElementTree.parse(path).iter("object"):
            row[VOC.index(thing.findtext("name", "").strip())] |= thing.findtext("difficult", "0").strip() != "1"
    return Lazy(d.images), labels, VOC


def pcam(d: Any, split: str) -> tuple[Any, ...]:
    with d.h5py.File(d._base_folder / d._FILES[split]["targets"][0]) as file:
        return Lazy(d, itemgetter(0)), file["y"][:].reshape(-1), ()


def imagenet(d: Any, split: str) -> tuple[Any, ...]:
    # two classes of one name are told apart by all their synonyms, and "crane", which has none, by its number
    first = [names[0] for names in d.classes]
    whole = [", ".join(names) if first.count(names[0]) > 1 else names[0] for names in d.classes]
    return _some(*_files(d), [number if whole.count(name) > 1 else name for number, name in zip(d.wnids, whole)])

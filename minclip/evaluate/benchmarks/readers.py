"""How each of the paper's data sets is read: torchvision finds and checks the files, here they become images and labels.

A reader takes the data sets' folder, the set's own word for the split and whether torchvision may download; it returns the
images, (N,) labels (VOC 2007: (N, C) bool), the classes as the set calls them (none where it has numbers only) and notes.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ...config import MinclipError
from .labelled import Files, class_folders

Raw = tuple[Sequence[Any], Any, Sequence[str], tuple[str, ...]]
Reader = Callable[[Path, str, bool], Raw]

VOC = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep sofa "
    "train tvmonitor"
).split()


def _open(kind: str, root: Path, download: bool, **keywords: Any) -> Any:
    """One of torchvision's data sets."""
    from torchvision import datasets  # half a second that `import minclip` should not cost

    more = {"download": True} if download else {}  # some have no such argument
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy's, about how torchvision reads old files
        return getattr(datasets, kind)(root, **keywords, **more)


def _listed(d: Any) -> tuple[Sequence[Any], Sequence[int]]:
    """Files and labels of those that keep a list, which is most; nothing is decoded."""
    pairs = getattr(d, "samples", None) or getattr(d, "_samples", None)
    return tuple(zip(*pairs)) if pairs else (getattr(d, "_image_files", None) or d._images, d._labels)


def _draw(count: int, split: str, test: float, train: float) -> np.ndarray:
    """The numbers of a split that nobody has written down: shares of a shuffle that is always the same."""
    order, first = np.random.default_rng(0).permutation(count), max(1, round(test * count))
    return np.sort(order[:first] if split == "test" else order[first : first + max(1, round(train * count))])


def listed(kind: str) -> Reader:
    def read(root: Path, split: str, download: bool) -> Raw:
        d = _open(kind, root, download, split=split)
        paths, labels = _listed(d)
        return Files(paths), labels, getattr(d, "classes", ()), ()

    return read


def cifar(kind: str) -> Reader:
    def read(root: Path, split: str, download: bool) -> Raw:
        d = _open(kind, root, download, train=split == "train")
        return d.data.transpose(0, 3, 1, 2), d.targets, d.classes, ()

    return read


def mnist(root: Path, split: str, download: bool) -> Raw:
    d = _open("MNIST", root, download, train=split == "train")
    return _grey(d.data.numpy()), d.targets, (), ()


def fer2013(root: Path, split: str, download: bool) -> Raw:
    d = _open("FER2013", root, False, split=split)
    images, labels = zip(*d._samples)
    if None in labels:
        raise MinclipError("test.csv has no labels, fer2013.csv and icml_face_data.csv have")
    return _grey(np.stack(images)), labels, (), ()


def _grey(images: np.ndarray) -> np.ndarray:
    """(N, H, W) -> (N, 3, H, W), without a copy."""
    return np.broadcast_to(images[:, None], (len(images), 3, *images.shape[1:]))


def stl10(root: Path, split: str, download: bool) -> Raw:
    # the first of its ten folds of 1,000 images: the paper trains on that many
    d = _open("STL10", root, download, split=split, folds=0 if split == "train" else None)
    return d.data, d.labels, d.classes, ()


def sun397(root: Path, split: str, download: bool) -> Raw:
    d = _open("SUN397", root, download)
    place, name = root / "SUN397", f"{split.title()}ing_01.txt"
    paths, labels = zip(*sorted(zip(*_listed(d))))
    notes: tuple[str, ...] = ()
    if lists := sorted(place.rglob(name)):
        wanted = {place / line.strip("/") for line in lists[0].read_text().split()}
        rows = [i for i, path in enumerate(paths) if path in wanted]
    else:
        notes = (f"{name} of SUN397's partitions is not in {place}: the split is minclip's own, not the paper's",)
        rows = _draw(len(paths), split, 19850 / 108754, 19850 / 108754)
    return Files(paths[i] for i in rows), [labels[i] for i in rows], d.classes, notes


def eurosat(root: Path, split: str, download: bool) -> Raw:
    d = _open("EuroSAT", root, download)
    rows = _draw(len(d.samples), split, 5000 / 27000, 10000 / 27000)
    return Files(d.samples[i][0] for i in rows), [d.samples[i][1] for i in rows], d.classes, ()


def caltech101(root: Path, split: str, download: bool) -> Raw:
    """All 102 folders, the background's too, as in the paper: 30 images of each to train on, the others to test."""
    d = _open("Caltech101", root, download)
    files, labels, classes = class_folders(Path(d.root) / "101_ObjectCategories")
    order = np.random.default_rng(0).permutation(len(labels))
    train = np.concatenate([order[labels[order] == c][:30] for c in range(len(classes))])
    rows = np.sort(train) if split == "train" else np.setdiff1d(order, train)
    return Files(files.paths[i] for i in rows), labels[rows], classes, ()


def voc2007(root: Path, split: str, download: bool) -> Raw:
    """An image shows a class where one of its objects is of that class and not marked as difficult.

    One with only difficult ones counts as not showing it; VOC's own kit leaves it out for that class.
    """
    d = _open("VOCDetection", root, download, year="2007", image_set=split)
    labels = np.zeros((len(d), len(VOC)), bool)
    for row, path in zip(labels, d.annotations):
        for thing in ElementTree.parse(path).iter("object"):
            row[VOC.index(thing.findtext("name", "").strip())] |= thing.findtext("difficult", "0").strip() != "1"
    return Files(d.images), labels, VOC, ()


def kitti(root: Path, split: str, download: bool) -> Raw:
    """How far the nearest car, van or truck is: up to 8 m, up to 20 m, farther, or there is none (VTAB, Zhai et al. 2019)."""
    d = _open("Kitti", root, download, train=True)  # only that half has labels
    labels = []
    for i in range(len(d)):
        depths = [o["location"][2] for o in d._parse_target(i) if o["type"] in ("Car", "Van", "Truck")]
        labels.append(int(np.searchsorted([8, 20, 999], min(depths, default=1000))))
    pairs = sorted(zip(d.images, labels))
    rows = _draw(len(pairs), split, 711 / 7481, 6770 / 7481)
    return Files(pairs[i][0] for i in rows), [pairs[i][1] for i in rows], (), ()


def clevr(root: Path, split: str, download: bool) -> Raw:
    """How many objects, 3 to 10; the paper took 2,000 and 500 images, of the halves that have labels."""
    d = _open("CLEVRClassification", root, download, split=split)
    rows = np.sort(np.random.default_rng(0).permutation(len(d))[: 500 if split == "val" else 2000])
    return Files(d._image_files[i] for i in rows), [d._labels[i] - 3 for i in rows], (), ()


class _Items(Sequence[Any]):
    def __init__(self, d: Any) -> None:
        self.d = d

    def __len__(self) -> int:
        return len(self.d)

    def __getitem__(self, i: Any) -> Any:
        return self.d[i][0]


def pcam(root: Path, split: str, download: bool) -> Raw:
    d = _open("PCAM", root, download, split=split)
    with d.h5py.File(d._base_folder / d._FILES[split]["targets"][0]) as file:
        labels = file["y"][:].reshape(-1)
    return _Items(d), labels, (), ()


def imagenet(root: Path, split: str, download: bool) -> Raw:
    d = _open("ImageNet", root / "ILSVRC2012", False, split=split)
    paths, labels = _listed(d)
    # a name that two classes share is told apart by all of its synonyms, and "crane", which has none, by its number
    first = [names[0] for names in d.classes]
    whole = [", ".join(names) if first.count(names[0]) > 1 else names[0] for names in d.classes]
    classes = [number if whole.count(name) > 1 else name for number, name in zip(d.wnids, whole)]
    return Files(paths), labels, classes, ()

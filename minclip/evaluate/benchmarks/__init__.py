"""The 27 data sets of the paper's evaluation (Radford et al. 2021, appendix A, table 9), by name, as Labelled images."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...config import MinclipError, data_folder, nearest
from . import readers
from .labelled import Labelled, class_folders
from .texts import class_names

BOTH, ALL = ({split: split for split in splits} for splits in (("train", "test"), ("train", "val", "test")))


@dataclass(frozen=True)
class Benchmark:
    """What the paper says of a data set, and how it comes here."""

    title: str
    classes: int  # this and the next two as the paper has them
    test_size: int
    metric: str
    folder: str = ""  # below the root, in torchvision's layout; "" where torchvision can't read it
    read: readers.Reader | None = None
    splits: dict[str, str] = field(default_factory=dict)  # ours -> the set's own word
    bring: str = ""  # what to bring where nothing can be downloaded


def _set(
    title: str, classes: int, size: int, metric: str, folder: str, read: readers.Reader, **splits: str
) -> Benchmark:
    return Benchmark(title, classes, size, metric, folder, read, splits or BOTH)


ACCURACY, PER_CLASS = "accuracy", "mean per class"
listed = readers.listed

BENCHMARKS: dict[str, Benchmark] = {
    "food101": _set("Food-101", 102, 25250, ACCURACY, "food-101", listed("Food101")),
    "cifar10": _set("CIFAR-10", 10, 10000, ACCURACY, "cifar-10-batches-py", readers.cifar("CIFAR10")),
    "cifar100": _set("CIFAR-100", 100, 10000, ACCURACY, "cifar-100-python", readers.cifar("CIFAR100")),
    "birdsnap": Benchmark(
        "Birdsnap", 500, 2149, ACCURACY, bring="get its list of addresses from thomasberg.org and fetch the test images"
    ),
    "sun397": _set("SUN397", 397, 19850, ACCURACY, "SUN397", readers.sun397),
    "cars": replace(
        _set("Stanford Cars", 196, 8041, ACCURACY, "stanford_cars", listed("StanfordCars")),
        bring="its address is dead: bring stanford_cars/ with devkit/, cars_test/ and cars_test_annos_withlabels.mat (for training devkit/cars_train_annos.mat and cars_train/)",
    ),
    "aircraft": _set("FGVC Aircraft", 100, 3333, PER_CLASS, "fgvc-aircraft-2013b", listed("FGVCAircraft"), **ALL),
    "voc2007": _set("Pascal VOC 2007", 20, 4952, "11-point mAP", "VOCdevkit/VOC2007", readers.voc2007, **ALL),
    "dtd": _set("Describable Textures", 47, 1880, ACCURACY, "dtd/dtd", listed("DTD"), **ALL),
    "pets": _set(
        "Oxford-IIIT Pets",
        37,
        3669,
        PER_CLASS,
        "oxford-iiit-pet",
        listed("OxfordIIITPet"),
        train="trainval",
        test="test",
    ),
    "caltech101": _set("Caltech-101", 102, 6085, PER_CLASS, "caltech101/101_ObjectCategories", readers.caltech101),
    "flowers102": _set("Oxford Flowers 102", 102, 6149, PER_CLASS, "flowers-102", listed("Flowers102"), **ALL),
    "mnist": _set("MNIST", 10, 10000, ACCURACY, "MNIST", readers.mnist),
    "fer2013": replace(
        _set("Facial Emotion Recognition 2013", 8, 3574, ACCURACY, "fer2013", readers.fer2013),
        bring="bring fer2013/fer2013.csv or fer2013/icml_face_data.csv, from Kaggle's challenges-in-representation-learning-facial-expression-recognition-challenge",
    ),
    "stl10": _set("STL-10", 10, 8000, ACCURACY, "stl10_binary", readers.stl10),
    "eurosat": _set("EuroSAT", 10, 5000, ACCURACY, "eurosat", readers.eurosat),
    "resisc45": Benchmark("RESISC45", 45, 25200, ACCURACY, bring="get NWPU-RESISC45 and share its images out yourself"),
    "gtsrb": _set("GTSRB", 43, 12630, ACCURACY, "gtsrb", listed("GTSRB")),
    "kitti": _set("KITTI distance", 4, 711, ACCURACY, "Kitti", readers.kitti),
    "country211": _set(
        "Country211", 211, 21100, ACCURACY, "country211", listed("Country211"), train="train", val="valid", test="test"
    ),
    "pcam": _set("PatchCamelyon", 2, 32768, ACCURACY, "pcam", readers.pcam, **ALL),
    "ucf101": Benchmark(
        "UCF101", 101, 1794, ACCURACY, bring="take the middle frame of each video of crcv.ucf.edu's UCF101"
    ),
    "kinetics700": Benchmark(
        "Kinetics700", 700, 31669, "mean(top1, top5)", bring="take the middle frame of each video"
    ),
    "clevr": _set("CLEVR counts", 8, 500, ACCURACY, "clevr", readers.clevr, train="train", test="val"),
    "hateful_memes": Benchmark(
        "Hateful Memes",
        2,
        500,
        "ROC AUC",
        bring="share out the development images by dev.jsonl: 0 and 1, or hateful and not_hateful",
    ),
    "sst2": _set("Rendered SST2", 2, 1821, ACCURACY, "rendered-sst2", listed("RenderedSST2"), **ALL),
    "imagenet": replace(
        _set("ImageNet", 1000, 50000, ACCURACY, "ILSVRC2012", readers.imagenet, train="train", test="val"),
        bring="bring ILSVRC2012_devkit_t12.tar.gz and ILSVRC2012_img_val.tar (for training ILSVRC2012_img_train.tar) from image-net.org, whole, into ILSVRC2012/, where torchvision unpacks them",
    ),
}


def default_root() -> Path:
    return data_folder() / "benchmarks"


def benchmark(name: str, others: Iterable[str] = ()) -> Benchmark:
    """The entry of that name; a MinclipError tells the nearest one, also among `others`."""
    if name not in BENCHMARKS:
        known = [*BENCHMARKS, *others]
        raise MinclipError(f"no task is named {name!r}{nearest(name, known)}: choose from {', '.join(known)}")
    return BENCHMARKS[name]


def found(root: str | Path) -> list[str]:
    """The names of the data sets that lie under `root`, in either layout."""
    root = Path(root)
    return [
        name
        for name, b in BENCHMARKS.items()
        if _folders(root, name, "test") or (b.folder and (root / b.folder).exists())
    ]


def _folders(root: Path, name: str, split: str) -> bool:
    """Whether `root/name/split` holds folders: the layout that every set may have."""
    place = root / name / split
    return place.is_dir() and any(path.is_dir() for path in place.iterdir())


def has_validation(name: str, root: str | Path) -> bool:
    """Whether there are validation images beside the training images: in class folders where those are, too."""
    root = Path(root or default_root())
    own = benchmark(name).splits.get("val")
    if _folders(root, name, "train"):  # Country-211's own layout is of class folders, too, under its own word
        return any(_folders(root, name, word) for word in ("val", own) if word)
    return own is not None


def load_benchmark(name: str, root: str | Path = "", split: str = "test", download: bool = False) -> Labelled:
    """A data set of the paper's table; `root` holds all of them, by default `benchmarks/` in the data folder.

    Each is read from class folders, `root/name/split/<class name>/<image>`, where these are, else as torchvision lays it
    out below `root`.  `split` is "train", "val" or "test"; where the set has a "val" of its own, the paper's training set is
    both.  Splits that nobody has published (EuroSAT, KITTI, CLEVR, Caltech-101) are drawn, always the same.  With
    `download`, torchvision fetches what is missing, where it can.  MinclipError where it is not there, says what to bring.
    """
    b, root = benchmark(name), Path(root or default_root())
    if _folders(root, name, split):
        images, labels, classes = class_folders(root / name / split)
        if b.metric == "11-point mAP":
            labels = labels[:, None] == np.arange(len(classes))
        return Labelled(images, labels, class_names(name, classes))
    layout = f"{root / name / split}/<class name>/<image>"
    if b.read is None:
        raise MinclipError(f"{name} ({b.title}) can't be read by torchvision: {b.bring}, laid out as {layout}")
    if split not in b.splits:
        raise MinclipError(
            f"{name} has no split {split!r}: choose from {', '.join(b.splits)}, or lay it out as {layout}"
        )
    way = b.bring or "--download (in Python: download=True) brings it"
    if b.bring:
        download = False
    if not download and not (root / b.folder).exists():
        raise MinclipError(f"{name} ({b.title}) is not there: looked for {root / b.folder} and {layout}; {way}")
    try:
        images, labels, classes, notes = b.read(root, b.splits[split], download)
        labels = np.asarray(labels)
        names = class_names(name, classes)
        return Labelled(images, labels if labels.dtype == bool else labels.astype(np.int64), names, notes)
    except ImportError as error:
        raise MinclipError(f"{name} needs {error.name}: pip install {error.name}") from None
    except Exception as error:  # other people's code reads files that may hold anything
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        why = why.partition(" You can use download=True")[0]  # torchvision's own word for what `way` says
        what, way = ("downloaded to", "try again, or bring it by hand") if download else ("read in", way)
        raise MinclipError(f"{name} can't be {what} {root / b.folder}: {why.rstrip('. ')}; {way}") from None

"""The 27 data sets of the paper's evaluation, by name, as Labelled images (Radford et al. 2021, appendix A, table 9)."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...config import MinclipError, data_folder, nearest
from . import readers
from .readers import Labelled, class_folders

# Name; classes, test images and metric, as in the paper's table; the torchvision class that reads it, and the folder that
# it reads; the splits, with the set's own word after "=".  "-" where torchvision can't read it.
_TABLE = """
food101        102  25250  accuracy          Food101              food-101             train test
cifar10         10  10000  accuracy          CIFAR10              cifar-10-batches-py  train test
cifar100       100  10000  accuracy          CIFAR100             cifar-100-python     train test
birdsnap       500   2149  accuracy          -                    -                    -
sun397         397  19850  accuracy          SUN397               SUN397               train test
cars           196   8041  accuracy          StanfordCars         stanford_cars        train test
aircraft       100   3333  mean per class    FGVCAircraft         fgvc-aircraft-2013b  train val test
voc2007         20   4952  11-point mAP      VOCDetection         VOCdevkit/VOC2007    train val test
dtd             47   1880  accuracy          DTD                  dtd/dtd              train val test
pets            37   3669  mean per class    OxfordIIITPet        oxford-iiit-pet      train=trainval test
caltech101     102   6085  mean per class    Caltech101           caltech101           train test
flowers102     102   6149  mean per class    Flowers102           flowers-102          train val test
mnist           10  10000  accuracy          MNIST                MNIST                train test
fer2013          8   3574  accuracy          FER2013              fer2013              train test
stl10           10   8000  accuracy          STL10                stl10_binary         train test
eurosat         10   5000  accuracy          EuroSAT              eurosat              train test
resisc45        45  25200  accuracy          -                    -                    -
gtsrb           43  12630  accuracy          GTSRB                gtsrb                train test
kitti            4    711  accuracy          -                    -                    -
country211     211  21100  accuracy          Country211           country211           train val=valid test
pcam             2  32768  accuracy          PCAM                 pcam                 train val test
ucf101         101   1794  accuracy          -                    -                    -
kinetics700    700  31669  mean(top1, top5)  -                    -                    -
clevr            8    500  accuracy          CLEVRClassification  clevr                train test=val
hateful_memes    2    500  ROC AUC           -                    -                    -
sst2             2   1821  accuracy          RenderedSST2         rendered-sst2        train val test
imagenet      1000  50000  accuracy          ImageNet             ILSVRC2012           train test=val
"""

# In our own wording: the templates; "names" of the classes where a set's own can't be read, by the set's name, or a list by
# number where it has none; "bring", what to do where nothing can be downloaded.
_WORDS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
TEMPLATES: dict[str, list[str]] = {name: words["templates"] for name, words in _WORDS.items()}
NAMES: dict[str, dict[str, str] | list[str]] = {name: w["names"] for name, w in _WORDS.items() if "names" in w}


@dataclass(frozen=True)
class Benchmark:
    """A line of the table; `folder` is below the root, in torchvision's layout, and "" where torchvision can't read it."""

    classes: int
    test_size: int
    metric: str
    kind: str
    folder: str
    splits: dict[str, str]  # ours -> the set's own word
    bring: str = ""


def _parse(line: str) -> tuple[str, Benchmark]:
    name, classes, size, metric, *rest = re.split(r"\s{2,}", line)
    kind, folder, splits = (field.strip("-") for field in rest)
    words = {word.partition("=")[0]: word.rpartition("=")[2] for word in splits.split()}
    return name, Benchmark(int(classes), int(size), metric, kind, folder, words, _WORDS[name].get("bring", ""))


BENCHMARKS = dict(_parse(line) for line in _TABLE.strip().splitlines())


def default_root() -> Path:
    return data_folder() / "benchmarks"


def benchmark(name: str, others: Iterable[str] = ()) -> Benchmark:
    """The entry of that name; a MinclipError suggests the nearest name, also among `others`."""
    if name not in BENCHMARKS:
        known = [*BENCHMARKS, *others]
        raise MinclipError(f"no task is named {name!r}{nearest(name, known)}: choose from {', '.join(known)}")
    return BENCHMARKS[name]


def found(root: str | Path) -> list[str]:
    """The names of the data sets that lie under `root`, in either layout."""
    here = [name for name, b in BENCHMARKS.items() if b.folder and (Path(root) / b.folder).exists()]
    return [name for name in BENCHMARKS if name in here or _has_folders(Path(root), name, "test")]


def _has_folders(root: Path, name: str, split: str) -> bool:
    """Whether `root/name/split` holds folders: the layout that every set may have."""
    place = root / name / split
    return place.is_dir() and any(path.is_dir() for path in place.iterdir())


def has_validation(name: str, root: str | Path | None = None) -> bool:
    """Whether there are validation images beside the training images: in class folders where those are, too."""
    root, own = Path(root or default_root()), benchmark(name).splits.get("val", "")
    if not _has_folders(root, name, "train"):
        return own != ""
    return any(
        _has_folders(root, name, word) for word in {"val", own or "val"}
    )  # Country-211's own folders are "valid"


def load_benchmark(
    name: str, root: str | Path | None = None, split: str = "test", *, download: bool = False
) -> Labelled:
    """A data set of the paper's table; `root` holds all of them, by default `benchmarks/` in the data folder.

    Each is read from class folders, `root/name/split/<class name>/<image>`, where these are, else in torchvision's layout
    below `root`.  `split` is "train", "val" or "test"; where a set has a "val" of its own, the paper's training set is
    both.  Splits that nobody published (EuroSAT, CLEVR, Caltech-101) are drawn, always the same.  With
    `download`, torchvision fetches what is missing, where it can.  MinclipError: what is missing, and how to get it.
    """
    b, root = benchmark(name), Path(root or default_root())
    if _has_folders(root, name, split):
        images, labels, classes = class_folders(root / name / split)
        if b.metric == "11-point mAP":
            labels = labels[:, None] == np.arange(len(classes))
        return Labelled(images, labels, class_names(name, classes))
    layout = f"{root / name / split}/<class name>/<image>"
    if not b.kind:
        raise MinclipError(f"{name} can't be read by torchvision: {b.bring}, laid out as {layout}")
    if split not in b.splits:
        raise MinclipError(
            f"{name} has no split {split!r}: choose from {', '.join(b.splits)}, or lay it out as {layout}"
        )
    way = b.bring or "--download (in Python: download=True) fetches it"
    download = download and not b.bring
    if not download and not (root / b.folder).exists():
        raise MinclipError(f"{name} is not there: looked for {root / b.folder} and {layout}; {way}")
    try:
        images, labels, classes, *notes = readers.read(name, b.kind, root, b.splits[split], download)
        labels = np.asarray(labels)
        labels = labels if labels.dtype == bool else labels.astype(np.int64)
        return Labelled(images, labels, class_names(name, classes), tuple(notes))
    except ImportError as error:
        raise MinclipError(f"{name} needs {error.name}: pip install {error.name}") from None
    except Exception as error:  # torchvision reads files that may hold anything
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        why = why.partition(" You can use download=True")[0]  # torchvision's own words for what `way` says
        what, way = ("downloaded to", "try again, or bring it by hand") if download else ("read in", way)
        raise MinclipError(f"{name} can't be {what} {root / b.folder}: {why.rstrip('. ')}; {way}") from None


def readable(name: str) -> str:
    """ "apple_pie" -> "apple pie", "apse/indoor" -> "indoor apse", "ApplyLipstick" -> "Apply Lipstick"."""
    place, _, which = name.partition("/")
    words = f"{which} {place}" if re.fullmatch(r"[a-z_]+", which) else name
    # only names made of capitalized words alone: a "McLaren" among others stays one word
    camel = re.fullmatch(r"([A-Z][a-z]+){2,}", words)
    return " ".join((re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words) if camel else words.replace("_", " ")).split())


def class_names(name: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The names for the prompts of data set `name`, whose own are `classes`; none where it has numbers only."""
    table = NAMES.get(name, {})
    if isinstance(table, list):
        return tuple(readable(c) for c in classes) or tuple(table)
    return tuple(table.get(c) or readable(c) for c in classes)

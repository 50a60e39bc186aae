"""The 27 data sets of the paper's evaluation, by name, as Labeled images (Radford et al. 2021, appendix A)."""

import csv
import json
import re
from collections import namedtuple
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ...config import MinclipError, nearest, need
from ...weights.hub import data_folder
from .. import Root
from . import readers
from .readers import Labeled, class_folders

# For each data set, "templates": prompts in our own wording; "names": readable class names, by the data set's own name
# or, if it has numbers only, as a list; "bring": what to do if nothing can be downloaded.
_WORDS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
TEMPLATES: dict[str, list[str]] = {name: words["templates"] for name, words in _WORDS.items()}
NAMES: dict[str, dict[str, str] | list[str]] = {name: w["names"] for name, w in _WORDS.items() if "names" in w}

# A row of table.csv: classes, test_size and metric as in the paper's table 9; the torchvision class that reads it, ""
# for class folders only; the folder below the root that it reads; splits, our name -> its own; "bring" as above
Benchmark = namedtuple("Benchmark", "classes test_size metric kind folder splits bring")
BENCHMARKS: dict[str, Benchmark] = {}
with Path(__file__).with_name("table.csv").open(encoding="utf-8") as lines:
    for name, classes, size, *fields, splits in list(csv.reader(lines))[1:]:
        words = {word.partition("=")[0]: word.rpartition("=")[2] for word in splits.split()}
        BENCHMARKS[name] = Benchmark(int(classes), int(size), *fields, words, _WORDS[name].get("bring", ""))


def default_root() -> Path:
    return data_folder() / "benchmarks"


def benchmark(name: str, others: Iterable[str] = ()) -> Benchmark:
    """The entry of that name; raises a MinclipError that suggests the nearest name, also among `others`."""
    known = [*BENCHMARKS, *others]
    need(name in BENCHMARKS, f"no task is named {name!r}{nearest(name, known)}: choose from {', '.join(known)}")
    return BENCHMARKS[name]


def found(root: Root = None) -> list[str]:
    """The names of the data sets under `root`, in either layout."""
    root = Path(root or default_root())
    own_layout = {name for name, b in BENCHMARKS.items() if b.folder and (root / b.folder).exists()}
    return [name for name in BENCHMARKS if name in own_layout or _has_folders(root, name, "test")]


def _has_folders(root: Path, name: str, *splits: str) -> bool:
    """Whether one of `root/name/split` holds class folders, the layout that every data set may have."""
    return any(path.is_dir() for split in splits for path in (root / name / split).glob("*"))


def has_validation(name: str, root: Root = None) -> bool:
    """Whether there are validation images in the layout of the training images."""
    root, own = Path(root or default_root()), benchmark(name).splits.get("val", "")
    if not _has_folders(root, name, "train"):
        return own != ""
    return _has_folders(root, name, "val", own or "val")  # Country-211's own, "valid", are class folders, too


def load_benchmark(name: str, root: Root = None, split: str = "test", *, download: bool = False) -> Labeled:
    """A data set of the paper's table; `root` holds all of them, by default `benchmarks/` in the data folder.

    Each is read from class folders, `root/name/split/<class name>/<image>`, or in torchvision's layout.  `split` is
    "train", "val" or "test"; if a data set has its own "val", the paper trains on both.  Unpublished splits are drawn
    at random, always the same.  With `download`, torchvision downloads what is missing, if it can.  MinclipError says
    what is missing, and how to get it.
    """
    b, root = benchmark(name), Path(root or default_root())
    if _has_folders(root, name, split):
        images, labels, classes = class_folders(root / name / split)
        if b.metric == "11-point mAP":
            labels = labels[:, None] == np.arange(len(classes))
        return Labeled(images, labels, class_names(name, classes))
    layout = f"{root / name / split}/<class name>/<image>"
    need(b.kind, f"{name} can't be read by torchvision: {b.bring}, laid out as {layout}")
    need(split in b.splits, f"{name} has no split {split!r}: choose from {', '.join(b.splits)}; or add {layout}")
    fix, download = b.bring or "download=True fetches it", download and not b.bring
    present = download or (root / b.folder).exists()
    need(present, f"{name} was not found: looked for {root / b.folder} and {layout}; {fix}")
    try:
        images, labels, classes, *notes = readers.read(name, b.kind, root, split=b.splits[split], download=download)
        labels = np.asarray(labels) if name == "voc2007" else np.asarray(labels, np.int64)
        return Labeled(images, labels, class_names(name, classes), tuple(notes))
    except ImportError as error:
        raise MinclipError(f"{name} needs {error.name}: pip install {error.name}") from None
    except Exception as error:  # torchvision reads files that may hold anything
        why = (str(error) or type(error).__name__).splitlines()[0].partition(" You can use download=True")[0]
        what, fix = ("downloaded to", "try again, or download it by hand") if download else ("read in", fix)
        raise MinclipError(f"{name} can't be {what} {root / b.folder}: {why.rstrip('. ')}; {fix}") from None


def readable(name: str) -> str:
    """ "apple_pie" -> "apple pie", "apse/indoor" -> "indoor apse", "ApplyLipstick" -> "Apply Lipstick"."""
    place, _, which = name.partition("/")
    words = f"{which} {place}" if re.fullmatch(r"[a-z_]+", which) else name
    # only names made of capitalized words alone: a "McLaren" among others stays one word
    camel = re.fullmatch(r"([A-Z][a-z]+){2,}", words)
    return " ".join((re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words) if camel else words.replace("_", " ")).split())


def class_names(name: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The class names for prompts; `classes` are those of data set `name` itself, empty if it has numbers only."""
    table = NAMES.get(name, {})
    if isinstance(table, list):
        return tuple(readable(c) for c in classes) or tuple(table)
    return tuple(table.get(c) or readable(c) for c in classes)

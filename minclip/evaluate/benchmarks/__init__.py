"""The 27 data sets of the paper's evaluation, by name, as Labeled images (Radford et al. 2021, appendix A)."""

import csv
import json
import os
import re
from collections import namedtuple
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...config import MinclipError, nearest, need
from ...data.photos.captions import SPLIT_WORDS
from ...data.photos.source import Source
from ...weights.config_json import parse_json
from ...weights.hub import data_folder
from . import readers
from .readers import Labeled, class_folders, distinct

CODE = re.compile(r"n\d{8}|\d+")  # a class by its WordNet id or by number: no word for a prompt

# For each data set, "templates": prompts in our own wording; "names": readable class names, by the data set's own name
# or number; "bring": what to do if nothing can be downloaded.
_WORDS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
TEMPLATES: dict[str, list[str]] = {name: words["templates"] for name, words in _WORDS.items()}
NAMES: dict[str, dict[str, str]] = {name: w["names"] for name, w in _WORDS.items() if "names" in w}

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
    hint = f"{nearest(name, known)}, and no folder has that path"
    need(name in BENCHMARKS, f"no task is named {name!r}{hint}: choose from {', '.join(known)}")
    return BENCHMARKS[name]


def found(root: str | Path = "") -> list[str]:
    """The names of the data sets under `root`, in either layout."""
    root = Path(root or default_root())
    return [n for n, b in BENCHMARKS.items() if (b.folder and (root / b.folder).exists()) or folder_of(n, root)]


def folder_of(name: str, root: str | Path = "") -> Path | None:
    """The class folders of a task: the path `name` (it has a /, or it exists), or `root/name`, if it has splits."""
    if name not in BENCHMARKS and ({"/", os.sep} & {*name} or os.path.exists(name)):
        return Path(name)
    path = Path(root or default_root()) / name
    return path if any(f.is_dir() for split in SPLIT_WORDS for f in (path / split).glob("*")) else None


def load_folders(path: str | Path, *, name: str = "", classes: str | Path = "") -> dict[str, Labeled]:
    """`class_folders` with readable names: those in the file `classes`, see `read_names`, or of the data set `name`."""
    splits = class_folders(Path(path))
    folders = next(iter(splits.values())).class_names
    names = class_names(name or str(path), folders, classes and read_names(classes, folders))
    columns = np.eye(len(names), dtype=bool)  # an image of VOC 2007 may show several classes
    labels = {s: columns[data.labels] if name == "voc2007" else data.labels for s, data in splits.items()}
    return {split: replace(data, class_names=names, labels=labels[split]) for split, data in splits.items()}


def load_benchmark(name: str, root: str | Path = "", split: str = "test", *, download: bool = False) -> Labeled:
    """A data set of the paper's table; `root` holds all of them, by default `benchmarks/` in the data folder.

    Each is read from class folders, `root/name/split/<class name>/<image>`, or in torchvision's layout.  `split` is
    "train", "val" or "test"; if a data set has its own "val", the paper trains on both.  Unpublished splits are drawn
    at random, always the same.  With `download`, torchvision downloads what is missing, if it can.  MinclipError says
    what is missing, and how to get it.
    """
    b, root = benchmark(name), Path(root or default_root())
    if folder := folder_of(name, root):
        splits = load_folders(folder, name=name)
        need(split in splits, f"{folder} has no split {split!r}: it has {', '.join(splits)}")
        return splits[split]
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
    """ "apple_pie" -> "apple pie", "apse/indoor" -> "indoor apse", "TwoWords" -> "Two Words", "1.ox" -> "ox"."""
    name = re.sub(r"^\d+\.(?=[^\W\d])", "", name)
    place, _, which = name.partition("/")
    words = f"{which} {place}" if re.fullmatch(r"[a-z_]+", which) else name
    # only names made of capitalized words alone: a "McLaren" among others stays one word
    camel = re.fullmatch(r"([A-Z][a-z]+){2,}", words)
    return " ".join((re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words) if camel else words.replace("_", " ")).split())


def class_names(name: str, classes: Sequence[str], table: dict[str, Any] | None = None) -> tuple[Any, ...]:
    """The class names for prompts; `classes` are those of data set `name` itself, empty if it has numbers only.

    `table` has names, or lists of sentences, in place of its own.  MinclipError: a number or WordNet id without a name.
    """
    own = NAMES.get(name, {})
    classes = classes or [*own]
    table = {c: own[n] for c in classes if (n := str(int(c)) if c.isdecimal() else c) in own} | (table or {})
    codes = [c for c in classes if c not in table and CODE.fullmatch(c)]
    what = f"{name}: {len(codes)} of {len(classes)} classes are numbers or WordNet ids, such as {', '.join(codes[:3])}"
    need(not codes, f'{what}: name them in a file of lines such as "{"".join(codes[:1])} goose" (--classes FILE)')
    return tuple(table[c] if c in table else readable(c) for c in classes)


def read_text(file: str | Path) -> Any:
    """The lines of a text file that aren't empty, or what it holds as JSON."""
    text = Source(Path(file).parent, ()).text(Path(file).name).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return parse_json(text, str(file)) if text[:1] in ("{", "[") else lines


def read_names(file: str | Path, classes: Sequence[str]) -> dict[str, Any]:
    """Class -> its readable name, or a list of sentences, from a file in one of these formats:

    a JSON object; lines of a class and its name, with a tab or comma between, or a space after a digit ("n01855672
    goose, bird": of a WordNet id, the first name that is unique); or a name for each of the sorted `classes`, a line
    each.  MinclipError: no class of the file is in `classes`, or another number of names.
    """
    lines = table = read_text(file)
    if isinstance(lines, list):
        any_class = "|".join(re.escape(c) for c in sorted(classes, key=len, reverse=True))
        form = re.compile(rf'("?)({any_class})\1(?:\s*[\t,;:]|(?<=\d)\s)\s*"?(.+?)"?')
        table = {m[2]: m[3] for line in lines if (m := form.fullmatch(str(line)))}
        ids = [c for c in table if c[0] == "n" and CODE.fullmatch(c)]
        table |= zip(ids, class_names("imagenet", distinct(ids, [table[c].split(", ") for c in ids])))
        # "10" comes after "9"
        order = sorted(classes, key=lambda c: [int(x) if x.isdecimal() else x for x in re.split(r"(\d+)", c)])
        table = table or (dict(zip(order, lines)) if len(lines) == len(classes) else {})
    what = f"{file} names none of the {len(classes)} classes ({', '.join(classes[:3])}, …), and has {len(lines)} lines"
    need(not table.keys().isdisjoint(classes), what)
    return table

"""Zero-shot tasks and probes by name: the shapes world's and the paper's 27 data sets, each with its own metric."""

import os
from collections import namedtuple
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..batches import Task
from ..config import need
from ..data import load_pairs
from ..data.stream import prefetch
from ..zeroshot import class_prompts
from . import Loaded, decoded, task_scores
from .benchmarks import BENCHMARKS, TEMPLATES, benchmark, folder_of, found, load_benchmark, load_folders, read_text
from .benchmarks.readers import Labeled, Lazy
from .metrics import METRICS
from .probe import checked

SHAPES = ("colour", "shape", "size", "fill", "colour+shape", "fill+shape", "count", "relation", "word")
HELD_OUT = "held-out pairs"


class Result(NamedTuple):
    """A model's score on a task by its metric, and the score of chance, both from 0 to 1."""

    metric: str
    score: float
    chance: float
    images: int
    classes: int
    notes: tuple[str, ...] = ()


# a task: its Labeled images by split, the Task of those of "test", the name of its metric
Opened = namedtuple("Opened", "data task metric", defaults=["accuracy"])


def task_names(asked: str, root: str | Path = "") -> list[str]:
    """ "pets, ./my/flowers" -> names and paths; "shapes": the shapes world's tasks, "all": the data sets in `root`."""
    groups = {"shapes": [*SHAPES, HELD_OUT], "all": found(root)}
    words = [word.strip() for word in ([asked] if os.path.exists(asked) else asked.split(",")) if word.strip()]
    names = list(dict.fromkeys(name for word in words for name in groups.get(word, [word])))
    for name in names:
        if name not in groups["shapes"] and not folder_of(name, root):
            benchmark(name, (*groups, *groups["shapes"]))  # raises, and suggests the nearest name
    known = f"none of the {len(BENCHMARKS)} data sets is in {root or 'data/benchmarks'}: {', '.join(BENCHMARKS)}"
    need(names, f'tasks {asked!r} names no task: give some, such as "cifar10,shapes"; {known}')
    return names


def run_tasks(loaded: Loaded, names: Sequence[str], **files: Any) -> dict[str, Result]:
    """Zero-shot results of the tasks `names`, in that order; `files` as for `open_task`."""
    # all data sets are opened before the first image is embedded, so that a missing one is reported at once
    opened = {name: open_task(loaded, name, **files) for name in names}
    return {n: _zero_shot(loaded, n, o, tower_features(loaded, n, o.data["test"])) for n, o in opened.items()}


def probe_sets(loaded: Loaded, name: str, *, shots: int = 1, **files: Any) -> tuple[dict[str, Any], Result]:
    """Arguments of `linear_probe` and `few_shot` (train, val, test, class_names, metric), and the zero-shot Result.

    `files` as for `open_task`; a data set without validation images has no "val".  Raises MinclipError, before any
    image is embedded, for an unknown name, several labels per image, different classes in training and test, or a class
    with fewer than `shots` training images (the largest k for `few_shot`).
    """
    opened = open_task(loaded, name, probe=True, **files)
    data, names = opened.data, opened.task.class_names
    need(opened.metric != "11-point mAP", f"{name} has several labels per image: a probe needs exactly one")
    checked(**{split: (np.zeros((len(d), 1)), d.labels) for split, d in data.items()}, class_names=names, shots=shots)
    sets = {split: (tower_features(loaded, f"{name}, {split}", d), d.labels) for split, d in data.items()}
    zero_shot = _zero_shot(loaded, name, opened, sets["test"][0])
    return {**sets, "class_names": names, "metric": METRICS[zero_shot.metric]}, zero_shot


def open_task(
    loaded: Loaded, name: str, *, probe: bool = False, classes: str = "", templates: str = "", **where: Any
) -> Opened:
    """Opens "test" for zero-shot; for a `probe` also "train" and, if it exists, "val".

    `name` may be a path of class folders: without splits, zero-shot takes all images; without "test", "val" serves.
    `classes` and `templates` are files for `read_names` and `read_text`; `where` is `root` and `download` of
    `load_benchmark`.  MinclipError: a missing split.
    """
    wanted = ("train", "val", "test") if probe else ("test",)
    if name in SHAPES or (name == HELD_OUT and not probe):
        need(not (classes or templates), f"{name} has its own classes and templates: leave out the files")
        return _scenes(loaded, name, wanted)
    if folder := folder_of(name, where.get("root", "")):
        data = load_folders(folder, name=name, classes=classes)
        what = f"{folder} has images for {' and '.join(data)} only"
        if name not in BENCHMARKS:
            order = ("test", "val", "train") if probe or "all" not in data else ("all",)
            data["test"] = data.pop(next(split for split in order if split in data))
        lacking = {"train", "test"}.intersection(wanted) - data.keys()
        need(not lacking, f"{what}: add the other splits, or give the path of one of them, which is then divided")
    else:
        splits = [split for split in wanted if split != "val" or benchmark(name, SHAPES).splits.get(split)]
        need(not classes, f"{name} has its own class names: a file of classes works with class folders only")
        data = {split: load_benchmark(name, split=split, **where) for split in splits}
    metric = BENCHMARKS[name].metric if name in BENCHMARKS else "accuracy"
    texts, test = read_text(templates) if templates else TEMPLATES.get(name, ["a photo of a {}"]), data["test"]
    class_prompts(loaded[2], test.class_names, texts)  # checks them
    task = Task(test.class_names, tuple(texts), np.arange(len(test)), test.labels)
    return Opened({split: data[split] for split in wanted if split in data}, task, metric)


def _scenes(loaded: Loaded, name: str, splits: Sequence[str]) -> Opened:
    """As `open_task`, for a task of the shapes world; the last split is "test"."""
    data = {}
    for split in splits:
        where = "heldout" if name == HELD_OUT else split
        pairs = load_pairs("shapes", where, image_size=loaded[0].config.vision.image_size)
        task = pairs.tasks[name]
        images = Lazy(task.indices, lambda i, pixels=pairs.images: Image.fromarray(pixels[i].transpose(1, 2, 0)))
        data[split] = Labeled(images, task.labels, task.class_names)
    return Opened(data, replace(task, indices=np.arange(len(images))))


@torch.no_grad()
def tower_features(loaded: Loaded, name: str, data: Labeled) -> Tensor:
    """(N, W) on the CPU: the image tower's features before the projection, as in the paper's probes (appendix A.3)."""
    model, preprocess, _ = loaded
    batches = map(torch.stack, decoded(range(len(data)), lambda i: preprocess(data.images[i]), bar=name))
    return torch.cat([model.vision(x.to(model.device)).float().cpu() for x in prefetch(batches, count=1)])


@torch.no_grad()
def _zero_shot(loaded: Loaded, name: str, opened: Opened, features: Tensor) -> Result:
    """The result of an opened task, from the image tower's features (n, W) of its test images."""
    (model, _, tokenizer), (splits, task, metric), b = loaded, opened, BENCHMARKS.get(name)
    data = splits["test"]
    image = F.normalize(model.image_projection(features.to(model.device)).float(), dim=-1)
    score = METRICS[metric](task_scores(model, tokenizer, image, task=task), data.labels)
    classes, notes = len(task.class_names), data.notes
    if b and (classes, len(data)) != (b.classes, b.test_size):
        sizes = f"{len(data):,} images of {classes} classes; the paper's test has {b.test_size:,} of {b.classes}"
        notes += (f"{name}: {sizes}",)
    return Result(metric, score, chance(metric, data.labels, classes), len(data), classes, notes)


def chance(metric: str, labels: np.ndarray, classes: int) -> float:
    """The score of random guesses; for an 11-point mAP, about the fraction of images that show a class."""
    if metric == "11-point mAP":
        return float(labels[:, labels.any(axis=0)].mean())
    return {"ROC AUC": 0.5, "mean(top1, top5)": (1 + min(5, classes)) / 2 / classes}.get(metric, 1 / classes)

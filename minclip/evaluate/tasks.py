"""Zero-shot tasks and probes by name: of the shapes world and of the paper's 27 data sets, each with its own metric."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..batches import Task
from ..config import MinclipError
from ..data import load_pairs
from ..model import CLIP
from ..tokenizer import Tokenizer
from ..zeroshot import zero_shot_classifier
from . import decoded, embed_images, image_batches, task_scores, zero_shot_accuracy, zero_shot_scores
from .benchmarks import BENCHMARKS, Labelled, benchmark, default_root, found, has_validation, load_benchmark
from .benchmarks.texts import TEMPLATES
from .metrics import METRICS
from .probe import check_shots

SHAPES = ("colour", "shape", "size", "fill", "colour+shape", "fill+shape", "count", "relation", "word")
HELD_OUT = "held-out pairs"
Preprocessor = Callable[[Any], Tensor]


class Result(NamedTuple):
    """A model's score on a task, by its metric, beside chance, both from 0 to 1."""

    metric: str
    score: float
    chance: float
    images: int
    classes: int
    notes: tuple[str, ...] = ()

    @property
    def above(self) -> bool:
        """Whether it beats chance by more than two standard errors of guessing (exact for accuracy, else a guide)."""
        return self.score > self.chance + 2 * (self.chance * (1 - self.chance) / self.images) ** 0.5


def task_names(asked: str, root: str | Path | None = None) -> list[str]:
    """ "cifar10, shapes" -> names: "shapes" stands for all of the shapes world's, "all" for the data sets under `root`."""
    names: list[str] = []
    for word in filter(None, map(str.strip, asked.split(","))):
        if word == "all":
            names += (here := found(root or default_root()))
            if not here:
                raise MinclipError(
                    f"none of the paper's {len(BENCHMARKS)} data sets is in {root}: {', '.join(BENCHMARKS)}"
                )
        elif word not in (*SHAPES, HELD_OUT, "shapes"):
            benchmark(word, ("shapes", *SHAPES, HELD_OUT, "all"))
        names += [*SHAPES, HELD_OUT] if word == "shapes" else [word] if word != "all" else []
    if not names:
        raise MinclipError(f'tasks {asked!r} names none: "cifar10,shapes" names some, "all" those that are under root')
    return list(dict.fromkeys(names))


def run_tasks(
    model: CLIP,
    preprocess: Preprocessor,
    tokenizer: Tokenizer,
    *,
    names: Sequence[str],
    root: str | Path | None = None,
    download: bool = False,
) -> dict[str, Result]:
    """Zero-shot results of the tasks `names`, in that order; `root` and `download` as for `load_benchmark`.

    All data sets are opened before the first image is embedded, so that a missing one is reported at once.
    """
    opened = {name: load_benchmark(name, root, download=download) for name in names if name in BENCHMARKS}
    results = {name: _zero_shot(model, preprocess, tokenizer, name, data) for name, data in opened.items()}
    for split, some in (("test", set(SHAPES) & set(names)), ("heldout", {HELD_OUT} & set(names))):
        if some:
            pairs = load_pairs("shapes", split, model.config.vision.image_size)
            image = embed_images(model, pairs)
        for name in some:
            task = pairs.tasks[name]
            score = zero_shot_accuracy(model, tokenizer, image, task)
            results[name] = Result("accuracy", score, task.chance, len(task.indices), len(task.class_names))
    return {name: results[name] for name in names}


def _zero_shot(model: CLIP, preprocess: Preprocessor, tokenizer: Tokenizer, name: str, data: Labelled) -> Result:
    """One of the paper's data sets, by its templates and its metric."""
    classifier = zero_shot_classifier(model, tokenizer, data.class_names, templates=TEMPLATES[name])
    scores = zero_shot_scores(model, prepared(preprocess, data.images, name), classifier)
    b, classes, notes = BENCHMARKS[name], len(data.class_names), data.notes
    if (classes, len(data)) != (b.classes, b.test_size):
        theirs = f"the paper's test has {b.test_size:,} of {b.classes}"
        notes += (f"{name}: {len(data):,} images of {classes} classes; {theirs}",)
    score = METRICS[b.metric](scores, data.labels)
    return Result(b.metric, score, chance(b.metric, data.labels, classes), len(data), classes, notes)


def chance(metric: str, labels: np.ndarray, classes: int) -> float:
    """What guessing gets; for an 11-point mAP that is about the share of images that show a class."""
    if metric == "11-point mAP":
        return float(labels[:, labels.any(axis=0)].mean())
    return {"ROC AUC": 0.5, "mean(top1, top5)": (1 + min(5, classes)) / 2 / classes}.get(metric, 1 / classes)


def prepared(preprocess: Preprocessor, images: Sequence[Any], name: str = "") -> Iterator[Tensor]:
    """Batches (B, 3, S, S) of a data set's images as the model takes them, decoded by threads."""

    def one(i: int) -> Tensor:
        image = images[i]
        return preprocess(Image.fromarray(image.transpose(1, 2, 0)) if isinstance(image, np.ndarray) else image)

    return map(torch.stack, decoded(range(len(images)), one, about=name))


class ProbeSets(NamedTuple):
    sets: dict[str, Any]  # what `linear_probe` and `few_shot` take: train, test, val, class_names, metric
    zero_shot: float  # of the same test images, by the same metric
    chance: float
    metric: str


def probe_sets(
    model: CLIP,
    preprocess: Preprocessor,
    tokenizer: Tokenizer,
    *,
    name: str,
    root: str | Path | None = None,
    download: bool = False,
    shots: int = 1,
) -> ProbeSets:
    """The features of a task's training, validation and test images, and the zero-shot score of the latter.

    `name` is a task of the shapes world or one of the paper's data sets, for which `root` and `download` are as for
    `load_benchmark`; one without validation images has no "val", and `linear_probe` takes some of the training images.
    `shots` is the largest k for `few_shot`: where a class has fewer images, that is reported before any is embedded.
    MinclipError: an unknown name; images of several classes; other classes in training than in the test.
    """
    b, opened = benchmark(name, SHAPES) if name not in SHAPES else None, {}
    splits = ("train", "val", "test") if b is None or has_validation(name, root) else ("train", "test")
    for split in splits:
        if b:
            data = load_benchmark(name, root, split, download=download)
            task = Task(data.class_names, tuple(TEMPLATES[name]), np.arange(len(data)), data.labels)
        else:
            pairs = load_pairs("shapes", split, model.config.vision.image_size)
            task = pairs.tasks[name]
            data = Labelled(pairs.images[task.indices], task.labels, task.class_names)
        opened[split] = data
    for split, data in opened.items():
        if data.labels.ndim == 2:
            raise MinclipError(f"{name} shows several classes in one image: a probe of it would be one for each class")
        if data.class_names != task.class_names:
            raise MinclipError(
                f"{name} has other classes in its split {split} than in test: give them the same folders"
            )
    check_shots(opened["train"].labels, shots, task.class_names)
    sets: dict[str, Any] = {"class_names": task.class_names, "metric": METRICS[b.metric if b else "accuracy"]}
    for split, data in opened.items():
        pixels = (data.images[i : i + 256] for i in range(0, len(data), 256))  # of the shapes, which need no decoding
        batches = prepared(preprocess, data.images, f"{name}, {split}") if b else pixels
        sets[split] = (tower_features(model, batches), data.labels)
    with torch.no_grad():
        x = F.normalize(model.image_projection(sets["test"][0].to(model.device)).float(), dim=-1)
    scores = task_scores(model, tokenizer, x, replace(task, indices=np.arange(len(x))))  # x are the task's images alone
    metric, labels = b.metric if b else "accuracy", opened["test"].labels
    return ProbeSets(sets, METRICS[metric](scores, labels), chance(metric, labels, len(task.class_names)), metric)


@torch.no_grad()
def tower_features(model: CLIP, batches: Iterable[Tensor | np.ndarray]) -> Tensor:
    """(N, W) on the CPU of batches (B, 3, S, S), uint8 or preprocessed: the image tower's output before the projection.

    The paper's probes use it (appendix A.3).
    """
    return torch.cat([model.vision(x).float().cpu() for x in image_batches(model, batches)])

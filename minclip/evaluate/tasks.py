"""The paper's table: zero-shot tasks by name, of the shapes world and of its 27 data sets, each with its own metric."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ..config import MinclipError
from ..data import load_pairs
from ..model import CLIP
from ..tokenizer import Tokenizer
from ..zeroshot import zero_shot_accuracy, zero_shot_classifier
from . import embed_images, zero_shot_scores
from .benchmarks import BENCHMARKS, benchmark, found, load_benchmark
from .benchmarks.labelled import Labelled
from .benchmarks.texts import TEMPLATES
from .metrics import METRICS

SHAPES = ("colour", "shape", "size", "fill", "colour+shape", "fill+shape", "count", "relation", "word")
HELD_OUT = "held-out pairs"


class Result(NamedTuple):
    """What a model gets on a task, by its metric, beside what guessing gets."""

    metric: str
    score: float  # a share of 1, as is chance
    chance: float
    images: int
    classes: int
    notes: tuple[str, ...] = ()

    @property
    def above(self) -> bool:
        """Whether it beats chance by more than two standard errors of a guesser, who is lucky, too, with few images.

        Of accuracies that is their error; of the other metrics a guide.
        """
        return self.score > self.chance + 2 * (self.chance * (1 - self.chance) / self.images) ** 0.5


def task_names(asked: str, root: str | Path) -> list[str]:
    """ "cifar10, shapes" -> names: "shapes" stands for all of the shapes world's, "all" for the data sets under `root`."""
    names: list[str] = []
    for word in (word.strip() for word in asked.split(",")):
        if word == "all":
            names += (here := found(root))
            if not here:
                raise MinclipError(
                    f"none of the paper's {len(BENCHMARKS)} data sets lies in {root}: {', '.join(BENCHMARKS)}"
                )
        elif word == "shapes":
            names += [*SHAPES, HELD_OUT]
        elif word:
            if word not in (*SHAPES, HELD_OUT):
                benchmark(word, ("shapes", *SHAPES, HELD_OUT, "all"))
            names.append(word)
    if not names:
        raise MinclipError(
            "--tasks names none: --tasks cifar10,shapes for some, --tasks all for what lies under --root"
        )
    return list(dict.fromkeys(names))


def run_tasks(
    model: CLIP,
    preprocess: Callable[[Any], Tensor],
    tokenizer: Tokenizer,
    names: Sequence[str],
    root: str | Path = "",
    download: bool = False,
    cache: str | Path | None = None,
) -> dict[str, Result]:
    """Zero-shot results of the tasks `names`, in that order.

    `root` holds the paper's data sets, which torchvision may `download` (`load_benchmark`); `cache` is a folder that keeps
    their classifiers (`zero_shot_classifier`).
    All of them are opened before the first image is embedded, so that what is missing is told at once.
    """
    opened = {name: load_benchmark(name, root, download=download) for name in names if name in BENCHMARKS}
    results: dict[str, Result] = {}
    for split, some in (("test", set(SHAPES) & set(names)), ("heldout", {HELD_OUT} & set(names))):
        if some:
            pairs = load_pairs("shapes", split, image_size=model.config.vision.image_size)
            image = embed_images(model, pairs)
            for name in some:
                task = pairs.tasks[name]
                score = zero_shot_accuracy(model, tokenizer, image, task)
                results[name] = Result("accuracy", score, task.chance, len(task.indices), len(task.class_names))
    for name, data in opened.items():
        results[name] = ask(model, preprocess, tokenizer, name, data, cache)
    return {name: results[name] for name in names}


@torch.no_grad()
def ask(
    model: CLIP,
    preprocess: Callable[[Any], Tensor],
    tokenizer: Tokenizer,
    name: str,
    data: Labelled,
    cache: str | Path | None = None,
) -> Result:
    """One of the paper's data sets, by its templates and its metric."""
    classifier = zero_shot_classifier(model, tokenizer, data.class_names, TEMPLATES[name], cache)
    batches = prepared(preprocess, data.images, name)
    scores = zero_shot_scores(model, batches, classifier, len(data))
    b, classes, notes = benchmark(name), len(data.class_names), data.notes
    if (classes, len(data)) != (b.classes, b.test_size):
        notes += (
            f"{name}: {len(data):,} images of {classes} classes; the paper's test has {b.test_size:,} of {b.classes}",
        )
    score = METRICS[b.metric](scores, data.labels)
    return Result(b.metric, score, chance(b.metric, data.labels, classes), len(data), classes, notes)


def chance(metric: str, labels: np.ndarray, classes: int) -> float:
    """What guessing gets; an 11-point mAP is then about the share of images that show a class."""
    if metric == "11-point mAP":
        return float(labels[:, labels.any(axis=0)].mean())
    return {"ROC AUC": 0.5, "mean(top1, top5)": (1 + min(5, classes)) / 2 / classes}.get(metric, 1 / classes)


def prepared(
    preprocess: Callable[[Any], Tensor], images: Sequence[Any], name: str = "", block: int = 128
) -> Iterator[Tensor]:
    """Batches (B, 3, S, S) of a data set's images as the model wants them, decoded by threads; a bar tells how far it is."""

    def one(i: int) -> Tensor:
        image = images[i]
        return preprocess(Image.fromarray(image.transpose(1, 2, 0)) if isinstance(image, np.ndarray) else image)

    bar = tqdm(desc=name, total=len(images), unit=" images", leave=False)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for i in range(0, len(images), block):
            yield torch.stack(list(pool.map(one, range(i, min(i + block, len(images))))))
            bar.update(min(block, len(images) - i))

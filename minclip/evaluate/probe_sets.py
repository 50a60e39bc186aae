"""What a linear probe learns from and is asked about: a task's features by its name, of the shapes world or of the paper's data sets."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import MinclipError
from ..data import load_pairs
from ..model import CLIP
from ..tokenizer import Tokenizer
from ..zeroshot import zero_shot_accuracy, zero_shot_classifier
from . import as_floats
from .benchmarks import BENCHMARKS, benchmark, has_validation, load_benchmark
from .benchmarks.texts import TEMPLATES
from .metrics import METRICS
from .probe import check_shots
from .tasks import SHAPES, chance, prepared


class ProbeSets(NamedTuple):
    sets: dict[str, Any]  # what `linear_probe` and `few_shot` take: train_x, train_y, test_x, …, class_names, metric
    zero_shot: float  # of the same test images, by the same metric
    chance: float
    metric: str


def probe_sets(
    model: CLIP,
    preprocess: Callable[[Any], Tensor],
    tokenizer: Tokenizer,
    name: str,
    root: str | Path = "",
    download: bool = False,
    cache: str | Path | None = None,
    shots: int = 1,
) -> ProbeSets:
    """The features of a task's training, validation and test images, and what zero-shot gets on the latter.

    `name` is a task of the shapes world or one of the paper's data sets, for which `root`, `download` and `cache` are as
    for `run_tasks`; one without validation images has no "val_x", and `linear_probe` takes some of the training images.
    `shots` is the largest k for `few_shot`: where a class has fewer images, that is told before any is embedded.
    MinclipError: an unknown name; images of several classes; other classes in training than in the test.
    """
    if name in BENCHMARKS:
        return _of_benchmark(model, preprocess, tokenizer, name, root, download, cache, shots)
    if name not in SHAPES:
        benchmark(name, SHAPES)  # which says what names there are
    sets: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        pairs = load_pairs("shapes", split, image_size=model.config.vision.image_size)
        task = pairs.tasks[name]
        if split == "train":
            check_shots(task.labels, shots, task.class_names)
        images = pairs.images[task.indices]
        sets[f"{split}_x"] = tower_features(model, (images[i : i + 256] for i in range(0, len(images), 256)))
        sets[f"{split}_y"] = task.labels
    own = replace(task, indices=np.arange(len(task.indices)))  # the features are of the task's images alone
    score = zero_shot_accuracy(model, tokenizer, _projected(model, sets["test_x"]), own)
    return ProbeSets({**sets, "class_names": task.class_names}, score, task.chance, "accuracy")


def _of_benchmark(
    model: CLIP,
    preprocess: Callable[[Any], Tensor],
    tokenizer: Tokenizer,
    name: str,
    root: str | Path,
    download: bool,
    cache: str | Path | None,
    shots: int,
) -> ProbeSets:
    metric = benchmark(name).metric
    splits = ["train", "val", "test"] if has_validation(name, root) else ["train", "test"]
    opened = {split: load_benchmark(name, root, split, download) for split in splits}
    names = opened["test"].class_names
    sets: dict[str, Any] = {"class_names": names, "metric": METRICS[metric]}
    for split, data in opened.items():
        if data.labels.ndim == 2:
            raise MinclipError(f"{name} shows several classes in one image: a probe of it would be one for each class")
        if data.class_names != names:
            raise MinclipError(
                f"{name} has other classes in its split {split} than in test: give them the same folders"
            )
    check_shots(opened["train"].labels, shots, names)
    for split, data in opened.items():
        sets[f"{split}_x"] = tower_features(model, prepared(preprocess, data.images, f"{name}, {split}"))
        sets[f"{split}_y"] = data.labels
    classifier = zero_shot_classifier(model, tokenizer, names, TEMPLATES[name], cache).cpu()
    score = METRICS[metric](_projected(model, sets["test_x"]).cpu() @ classifier, sets["test_y"])
    return ProbeSets(sets, score, chance(metric, sets["test_y"], len(names)), metric)


@torch.no_grad()
def tower_features(model: CLIP, batches: Iterable[Tensor | np.ndarray]) -> Tensor:
    """(N, W) of batches (B, 3, S, S), uint8 or preprocessed: what the image tower says before the projection (appendix A.3).

    On the CPU, since not every GPU has float64.
    """
    return torch.cat([model.vision(x).float().cpu() for x in as_floats(model, batches)])


@torch.no_grad()
def _projected(model: CLIP, features: Tensor) -> Tensor:
    return F.normalize(model.image_projection(features.to(model.device)).float(), dim=-1)

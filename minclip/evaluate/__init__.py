"""Evaluation: `evaluate` computes all metrics of a data set in one pass; beside it, probes, search and benchmarks."""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..batches import Pairs, Task, normalize, to_device
from ..data.stream import prefetch
from ..losses import clip_loss
from ..model import CLIP
from ..recall import retrieval
from ..tokenizer import Tokenizer
from ..training.bars import tqdm
from ..zeroshot import class_prompts, embed_texts, ensemble, zero_shot_classifier
from .metrics import accuracy, retrieval_chance

Loaded = tuple[CLIP, Callable[[Any], Tensor], Tokenizer | None]  # model, preprocess, tokenizer: what `load` returns


def decoded(items: Sequence[Any], decode: Callable, *, batch_size: int = 128, bar: str = "") -> Iterator[list[Any]]:
    """Lists of `batch_size` results of `decode(item)`, computed in threads; `bar` names a progress bar on stderr."""
    progress = tqdm(total=len(items), desc=bar, disable=not items, unit=" images", leave=False)
    with ThreadPoolExecutor(os.cpu_count()) as pool, progress:
        for i in range(0, len(items), batch_size):
            yield (batch := list(pool.map(decode, items[i : i + batch_size])))
            progress.update(len(batch))


@torch.no_grad()
def embed_images(model: CLIP, pairs: Pairs, *, batch_size: int = 256) -> Tensor:
    """Unit vectors (N, D) of all images, on the model's device; a thread reads the next batch meanwhile."""
    starts = range(0, len(pairs), batch_size)
    batches = (np.array(pairs.images[i : i + batch_size]) for i in starts)  # copies: a memory map is read-only
    pixels = (to_device(torch.from_numpy(x), model.device) for x in prefetch(batches, count=1))
    return torch.cat([model.encode_image(normalize(x, model.config.vision), normalize=True) for x in pixels])


@torch.no_grad()
def task_scores(model: CLIP, tokenizer: Tokenizer, image: Tensor, *, task: Task) -> Tensor:
    """(n, C) cosines of the task's n images with its classes; `image` holds the unit vectors (N, D) of all images."""
    x = image[torch.from_numpy(task.indices).to(image.device)]
    if not task.subjects:
        return x @ zero_shot_classifier(model, tokenizer, task.class_names, templates=task.templates)
    prompts: list[Sequence[str]] = []  # each image has its own: n × C lists of T texts
    for subject in task.subjects:
        templates = [re.sub(r"{(\w+)}", lambda field, s=subject: s[field[1]], text) for text in task.templates]
        prompts += class_prompts(tokenizer, task.class_names, templates)
    w = ensemble(model, tokenizer, prompts).unflatten(0, (len(x), -1))  # (n, C, D)
    return (w @ x[:, :, None])[..., 0]


@torch.no_grad()
def evaluate(model: CLIP, tokenizer: Tokenizer, pairs: Pairs, *, tasks: bool = True) -> dict[str, float]:
    """The metrics of `retrieval`, "loss", and for each task "zero_shot/<name>" (accuracy) and "chance/<name>".

    The loss is `clip_loss` of all N images with their first captions, as one batch: compare it with ln(N).
    """
    was_training = model.training
    model.eval()
    try:
        image, text, owner = embed_images(model, pairs), embed_texts(model, tokenizer, pairs.texts), pairs.text_to_image
        figures = retrieval(image, text, owner)
        first = text[np.searchsorted(owner, np.arange(len(image)))]
        figures["loss"] = float(clip_loss(image, first, model.logit_scale.exp()))
        for name, task in pairs.tasks.items() if tasks else ():
            figures[f"zero_shot/{name}"] = accuracy(task_scores(model, tokenizer, image, task=task), task.labels)
            figures[f"chance/{name}"] = task.chance
    finally:
        model.train(was_training)
    return figures


def final_figures(
    model: CLIP, tokenizer: Tokenizer, splits: dict[str, Pairs], *, trained_on: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Split -> numbers of "images", "captions", metrics of `evaluate`, and "chance/<recall>": of a run, and its eval.

    If names of images are in `trained_on`, because the splits changed since the training, a note on stderr counts them.
    """
    figures = {}
    for split, pairs in splits.items():
        if known := set(trained_on).intersection(pairs.names):
            seen = f"{len(known)} of the {len(pairs)} images of {split} were, by their names, used for training"
            tqdm.write(f"note: {seen}: these results are too high", file=sys.stderr)
        counts = {"images": len(pairs), "captions": len(pairs.texts)}
        chance = {f"chance/{k}": v for k, v in retrieval_chance(pairs.text_to_image, len(pairs)).items()}
        figures[split] = counts | evaluate(model, tokenizer, pairs) | chance
    return figures

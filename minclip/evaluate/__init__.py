"""What a model can do: `evaluate` computes every figure of one data set in one pass over it."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from ..batches import Pairs, normalize, to_device
from ..data.stream import prefetch
from ..losses import clip_loss
from ..model import CLIP
from ..retrieval import retrieval
from ..tokenizer import Tokenizer
from ..zeroshot import embed_texts, zero_shot_accuracy, zero_shot_classifier
from .metrics import METRICS
from .probe import few_shot, linear_probe

__all__ = [
    "METRICS",
    "as_floats",
    "embed_batches",
    "embed_images",
    "embed_texts",
    "evaluate",
    "few_shot",
    "linear_probe",
    "retrieval",
    "zero_shot_accuracy",
    "zero_shot_classifier",
    "zero_shot_scores",
]


def as_floats(model: CLIP, batches: Iterable[Tensor | np.ndarray]) -> Iterator[Tensor]:
    """Batches (B, 3, S, S) as the image tower takes them, on its device: of uint8 RGB, or of float that `preprocess` has made.

    A thread makes the next batch meanwhile, and no more than three exist at a time: `batches` may go over any number of
    images.
    """
    for x in prefetch(batches, count=1):
        images = to_device(torch.as_tensor(x), model.device)
        yield normalize(images, model.config.vision) if images.dtype == torch.uint8 else images


@torch.no_grad()
def embed_batches(model: CLIP, batches: Iterable[Tensor | np.ndarray]) -> Iterator[Tensor]:
    """(B, D) vectors of length 1 of each batch that `as_floats` takes."""
    for images in as_floats(model, batches):
        yield model.encode_image(images, normalize=True)


@torch.no_grad()
def zero_shot_scores(model: CLIP, batches: Iterable[Tensor | np.ndarray], classifier: Tensor, count: int) -> Tensor:
    """(count, C) cosines, on the CPU, of the `count` images in `batches` with the columns of a classifier (D, C)."""
    scores, done = torch.empty(count, classifier.shape[1]), 0
    for features in embed_batches(model, batches):
        scores[done : done + len(features)] = features @ classifier
        done += len(features)
    return scores


def embed_images(model: CLIP, pairs: Pairs, block: int = 256) -> Tensor:
    """(N, D) vectors of length 1 of all images, `block` at a time."""
    blocks = (np.array(pairs.images[i : i + block]) for i in range(0, len(pairs), block))  # copies: a map is read-only
    return torch.cat(list(embed_batches(model, blocks)))


@torch.no_grad()
def evaluate(model: CLIP, tokenizer: Tokenizer, pairs: Pairs, tasks: bool = True) -> dict[str, float]:
    """Retrieval and, with `tasks`, zero-shot accuracy and chance of each task; `loss` is clip_loss over all images with their first caption.

    The loss belongs to a batch of all N images, whatever batch the model was trained on: compare it with ln(N).
    """
    was_training = model.training
    model.eval()
    try:
        image, text, owner = embed_images(model, pairs), embed_texts(model, tokenizer, pairs.texts), pairs.text_to_image
        figures = retrieval(image, text, owner)
        first = text[np.searchsorted(owner, np.arange(len(image)))]
        figures["loss"] = float(clip_loss(image, first, model.logit_scale.exp()))
        if tasks:
            for name, task in pairs.tasks.items():
                figures[f"zero_shot/{name}"] = zero_shot_accuracy(model, tokenizer, image, task)
                figures[f"chance/{name}"] = task.chance
    finally:
        model.train(was_training)
    return figures

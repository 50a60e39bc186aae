"""Zero-shot classification: the text tower computes the weights of the classifier (paper, section 3.1.2)."""

from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import MinclipError, need
from .model import CLIP
from .text import trim
from .tokenizer import Tokenizer


@torch.no_grad()
def embed_texts(model: CLIP, tokenizer: Tokenizer, texts: Sequence[str], *, batch_size: int = 256) -> Tensor:
    """Embeds M `texts`, in batches: (M, D) vectors of length 1, in the order of the texts."""
    ids = tokenizer(texts, model.config.text.context_length)  # (M, L), padding after the end token
    # Each batch is trimmed to its longest text; sorting by length leaves hardly any padding to compute.
    order = (ids == tokenizer.eot_id).int().argmax(dim=1).argsort(stable=True)  # (M,), shortest text first
    batches = (trim(rows, tokenizer.eot_id).to(model.device) for rows in ids[order].split(batch_size))
    vectors = torch.cat([model.encode_text(rows, normalize=True) for rows in batches])  # (M, D), still sorted
    return vectors[order.argsort().to(vectors.device)]  # the argsort of a permutation is its inverse


def zero_shot_classifier(
    model: CLIP, tokenizer: Tokenizer, class_names: Sequence[str], *, templates: Sequence[str] = ("a photo of a {}",)
) -> Tensor:
    """(D, C): column c is the weight vector of class c, so that `image @ classifier` (N, C) holds cosines.

    Each of the C names takes the place of `{}` in each template; the prompts of a class are averaged (section 3.1.4).
    MinclipError: no tokenizer, no names or templates, an empty or repeated name, a template without `{}`.
    """
    check_prompts(tokenizer, class_names, templates)
    prompts = [template.replace("{}", name) for name in class_names for template in templates]  # C × T, class by class
    return ensemble(model, tokenizer, prompts, size=len(templates)).T


def ensemble(model: CLIP, tokenizer: Tokenizer, prompts: Sequence[str], *, size: int) -> Tensor:
    """w = normalize(1/T Σ_t normalize(text_t)) over each `size` = T prompts in a row: (C × T) texts -> (C, D)."""
    vectors = embed_texts(model, tokenizer, prompts).unflatten(0, (-1, size))  # (C, T, D), each of length 1
    return F.normalize(vectors.mean(dim=1), dim=-1)  # a mean of unit vectors is shorter than 1


def check_prompts(tokenizer: Tokenizer | None, class_names: Sequence[str], templates: Sequence[str]) -> None:
    need(tokenizer is not None, "this model has no tokenizer to read class names: load one that has tokenizer.json")
    if isinstance(class_names, str) or isinstance(templates, str) or not (len(class_names) and len(templates)):
        raise MinclipError(f"names and templates must be lists of at least one text: {class_names!r}, {templates!r}")
    counts = Counter(plain := [" ".join(name.lower().split()) for name in class_names])  # as the tokenizer reads them
    if bad := [f"number {i} {class_names[i]!r}" for i, name in enumerate(plain) if not name or counts[name] > 1]:
        raise MinclipError(f"class names must be unique and not empty: change {', '.join(bad[:10])}")
    if bad := [template for template in templates if "{}" not in template]:
        raise MinclipError(f'the template {bad[0]!r} has no {{}} for the class name: write "a photo of a {{}}"')


def accuracy(scores: Tensor, labels: Tensor, k: int = 1) -> float:
    """Top-k accuracy, from 0 to 1, of scores (N, C) and labels (N,), tensors or arrays; the mean of `hits`."""
    return float(hits(scores, labels, k).mean())


def hits(scores: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """(N,) float64: 1 where the right class is among the k best of scores (N, C) float; labels (N,) are 0 to C - 1.

    Ties count as if broken at random: a model that maps everything to one point gets k / C, not 0 or 100 %.  A NaN
    score never counts as right.  MinclipError: shapes that don't match, a label without a column, k below 1.
    """
    scores, labels = torch.as_tensor(scores).cpu(), torch.as_tensor(labels).cpu()  # not every GPU has float64
    seen = labels.unique().tolist() or [-1]  # sorted
    fits = scores.ndim == 2 and labels.shape == scores.shape[:1] and not labels.is_floating_point()
    if not fits or seen[0] < 0 or seen[-1] >= scores.shape[1] or k < 1:
        got = f"{tuple(scores.shape)}, {tuple(labels.shape)} from {seen[0]} to {seen[-1]}, k = {k}"
        raise MinclipError(f"scores must be (N, C), labels (N,) whole numbers from 0 to C - 1, k at least 1: got {got}")
    parts = []
    for x, y in zip(scores.split(1024), labels.long().split(1024)):  # in parts: booleans are summed in 8 bytes each
        right = x.gather(1, y[:, None])  # (n, 1)
        tied = (x == right).sum(dim=1)  # with itself at least, unless the right score is NaN
        above = x.shape[1] - tied - (x < right).sum(dim=1)  # all scores that are neither below nor tied, NaN included
        parts.append(((k - above).double() / tied.clamp(min=1)).clamp(0, 1) * (tied > 0))
    return torch.cat(parts)

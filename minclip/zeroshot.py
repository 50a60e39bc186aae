"""Zero-shot classification: the text tower computes the weights of the classifier (paper, section 3.1.2)."""

from collections import Counter
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import MinclipError, need
from .model import CLIP
from .text import trim
from .tokenizer import Tokenizer

Classes = Sequence[str | Sequence[str]] | Mapping[str, str | Sequence[str]]  # a name or sentences for each class


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
    model: CLIP, tokenizer: Tokenizer, classes: Classes, *, templates: Sequence[str] = ("a photo of a {}",)
) -> Tensor:
    """(D, C): column c is the weight vector of class c, so that `image @ classifier` (N, C) holds cosines.

    Each of the C classes is a name, which takes the place of `{}` in each template, or a list of sentences, which are
    used as they are, any number per class; a dict holds such values by class.  A class's prompts are averaged (section
    3.1.4).  MinclipError: no tokenizer, no class or template, an empty or repeated class, a template without `{}`.
    """
    return ensemble(model, tokenizer, class_prompts(tokenizer, classes, templates)).T


def ensemble(model: CLIP, tokenizer: Tokenizer, prompts: Sequence[Sequence[str]]) -> Tensor:
    """w = normalize(1/T Σ_t normalize(text_t)) over the T prompts of each of C classes: -> (C, D)."""
    vectors = embed_texts(model, tokenizer, [text for texts in prompts for text in texts])  # each of length 1
    means = [x.mean(dim=0) for x in vectors.split([len(texts) for texts in prompts])]
    return F.normalize(torch.stack(means), dim=-1)  # a mean of unit vectors is shorter than 1


def class_prompts(tokenizer: Tokenizer | None, classes: Classes, templates: Sequence[str]) -> list[Sequence[str]]:
    """The checked prompts of each class, for `ensemble`; arguments and errors as for `zero_shot_classifier`."""
    need(tokenizer is not None, "this model has no tokenizer to read class names: load one that has tokenizer.json")
    classes = list(classes.values()) if isinstance(classes, Mapping) else classes
    if isinstance(classes, str) or isinstance(templates, str) or not (len(classes) and len(templates)):
        raise MinclipError(f"names and templates must be lists of at least one text: {classes!r}, {templates!r}")
    if bad := [template for template in templates if not isinstance(template, str) or "{}" not in template]:
        raise MinclipError(f'the template {bad[0]!r} has no {{}} for the class name: write "a photo of a {{}}"')
    texts = [c if isinstance(c, list | tuple) else [c] for c in classes]
    # as the tokenizer reads them, and in any order, because the mean has none
    plain = [sorted(" ".join(t.lower().split()) if isinstance(t, str) else "" for t in of_class) for of_class in texts]
    counts = Counter(map(tuple, plain))
    wrong = [i for i, sentences in enumerate(plain) if not min(sentences, default="") or counts[tuple(sentences)] > 1]
    if bad := [f"number {i} {classes[i]!r:.80}" for i in wrong[:10]]:
        raise MinclipError(f"class names must be texts, unique and not empty: change {', '.join(bad)}")
    return [[t.replace("{}", c) for t in templates] if isinstance(c, str) else c for c in classes]  # C lists

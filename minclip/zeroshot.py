"""Zero-shot classification: the text tower writes the classifier's weights (paper, section 3.1)."""

import contextlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor

from .batches import Task
from .config import MinclipError
from .evaluate.metrics import accuracy
from .model import CLIP
from .text import trim
from .tokenizer import Tokenizer
from .weights.files import read_tensors
from .weights.folder import atomic_write, fingerprint

_VERSION = 1  # of what a classifier is made of; raise it and those in the cache are made anew


@torch.no_grad()
def embed_texts(model: CLIP, tokenizer: Tokenizer, texts: Sequence[str], block: int = 1024) -> Tensor:
    """(M, D) vectors of length 1; `block` texts at a time, each block trimmed to its longest text."""
    ids = tokenizer(texts, model.config.text.context_length).to(model.device)
    return torch.cat([model.encode_text(trim(rows, tokenizer.eot_id), normalize=True) for rows in ids.split(block)])


@torch.no_grad()
def zero_shot_classifier(
    model: CLIP,
    tokenizer: Tokenizer | None,
    class_names: Sequence[str],
    templates: Sequence[str] = ("a photo of a {}",),
    cache: str | Path | None = None,
) -> Tensor:
    """One column of length 1 a class, (D, C): prompts are normalised, averaged over the templates, normalised again (section 3.1.4).

    Each of the C `class_names` takes the place of `{}` in each of the `templates`.  `cache` is a folder, such as
    `data_folder() / "cache"`, where the classifier is kept under a hash of all that it depends on: whoever asks again with
    the same weights, tokenizer, names and templates doesn't run the text tower.  A damaged file there is made anew.
    MinclipError: no tokenizer; no names or templates; an empty or repeated name; an empty template, or one without `{}`.
    """
    _check(tokenizer, class_names, templates)
    if cache is None:
        return _classifier(model, tokenizer, class_names, templates)
    key = _key(model, tokenizer, class_names, templates)
    path = Path(cache) / f"classifier-{key[:32]}.safetensors"
    if (kept := _read(path, key)) is not None:
        return kept.to(model.device).T
    made = _classifier(model, tokenizer, class_names, templates)
    rows = made.T.cpu()  # (C, D), as they lie in memory: products with what is read back round alike
    with contextlib.suppress(OSError):  # a cache that can't be written only costs time
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, safetensors.torch.save({"rows": rows, "digest": torch.tensor(_digest(rows, key))}))
    return made


def _check(tokenizer: Tokenizer | None, class_names: Sequence[str], templates: Sequence[str]) -> None:
    if tokenizer is None:
        raise MinclipError(
            "this model has no tokenizer, so it can't read class names: open one that has tokenizer.json"
        )
    if isinstance(class_names, str) or isinstance(templates, str):
        raise MinclipError("class names and templates are lists of texts: give [text] where there is only one")
    if not class_names or not templates:
        raise MinclipError("a classifier needs at least one class name and one template")
    for number, name in enumerate(class_names, 1):
        if not name.strip():
            raise MinclipError(f"class name {number} of {len(class_names)} is empty: say what such an image shows")
    # a tokenizer tells neither capitals nor spaces apart
    same = Counter(" ".join(name.lower().split()) for name in class_names)
    if repeated := [repr(name) for name, count in same.items() if count > 1]:
        raise MinclipError(
            f"class names given more than once: {', '.join(repeated[:10])}; each class needs a name of its own"
        )
    for template in templates:
        if not template.strip():
            raise MinclipError('a template is empty: write one such as "a photo of a {}"')
        if "{}" not in template:
            raise MinclipError(f"the template {template!r} has no {{}} for the class name")


def _classifier(model: CLIP, tokenizer: Tokenizer, class_names: Sequence[str], templates: Sequence[str]) -> Tensor:
    # a template at a time: what stands before the name is the same in all of its prompts, and computed once
    prompts = ([template.replace("{}", name) for name in class_names] for template in templates)
    vectors = torch.stack([embed_texts(model, tokenizer, of_template) for of_template in prompts])
    return F.normalize(vectors.mean(dim=0), dim=-1).T


def _key(model: CLIP, tokenizer: Tokenizer, class_names: Sequence[str], templates: Sequence[str]) -> str:
    """A hash of all that a classifier depends on: of the image tower it knows nothing."""
    device = model.device.type
    # autocast rounds and dropout draws: what was made so must not pass for the plain one
    state = [str(torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)), model.text.training]
    config = [_VERSION, repr(model.config.text), model.config.activation]
    about = json.dumps([*config, *state, tokenizer.to_json(), list(class_names), list(templates)])
    return fingerprint(about, {**model.text.state_dict(), "text_projection": model.text_projection.weight})


def _digest(rows: Tensor, key: str) -> list[int]:
    """What tells a damaged file, or another's under this name."""
    return list(bytes.fromhex(fingerprint(key, {"rows": rows})))


def _read(path: Path, key: str) -> Tensor | None:
    """The classifier (C, D) in the file; None where there is no whole one."""
    with contextlib.suppress(MinclipError, KeyError):
        tensors = read_tensors(path)
        if tensors["digest"].tolist() == _digest(tensors["rows"], key):
            return tensors["rows"].clone()  # memory of its own, not the file's
    return None


@torch.no_grad()
def zero_shot_accuracy(model: CLIP, tokenizer: Tokenizer, image: Tensor, task: Task) -> float:
    """Share of the task's images whose nearest class is the right one; `image` (N, D) holds all of the data set's vectors."""
    x = image[torch.from_numpy(task.indices).to(image.device)]
    labels = torch.from_numpy(task.labels).to(image.device)
    if not task.subjects:
        scores = x @ zero_shot_classifier(model, tokenizer, task.class_names, task.templates)
    else:  # every image has prompts of its own
        filled = [
            t.replace("{}", name).format(**subject)
            for subject in task.subjects
            for name in task.class_names
            for t in task.templates
        ]
        vectors = embed_texts(model, tokenizer, filled).view(len(x), len(task.class_names), len(task.templates), -1)
        scores = (F.normalize(vectors.mean(dim=2), dim=-1) @ x[:, :, None])[..., 0]
    return accuracy(scores, labels)

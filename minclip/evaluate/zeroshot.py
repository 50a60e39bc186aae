"""Zero-shot classification: the text tower writes the classifier's weights (paper, section 3.1)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import MinclipError
from ..data.pairs import Task
from ..model import CLIP
from ..text import trim
from ..tokenizer import Tokenizer


@torch.no_grad()
def embed_texts(model: CLIP, tokenizer: Tokenizer, texts: Sequence[str], block: int = 1024) -> Tensor:
    """(M, D) vectors of length 1; `block` texts at a time, each block trimmed to its longest text."""
    ids = tokenizer(texts, model.config.text.context_length).to(model.device)
    return torch.cat([model.encode_text(trim(rows, tokenizer.eot_id), normalize=True) for rows in ids.split(block)])


@torch.no_grad()
def zero_shot_classifier(
    model: CLIP, tokenizer: Tokenizer, class_names: Sequence[str], templates: Sequence[str] = ("a photo of a {}",)
) -> Tensor:
    """One column of length 1 a class, (D, C): prompts are normalised, averaged over the templates, normalised again (section 3.1.4)."""
    if not class_names or not templates:
        raise MinclipError("a classifier needs at least one class name and one template")
    for template in templates:
        if "{}" not in template:
            raise MinclipError(f"the template {template!r} has no {{}} for the class name")
    # a template at a time: what stands before the name is the same in all of its prompts, and computed once
    prompts = ([template.replace("{}", name) for name in class_names] for template in templates)
    vectors = torch.stack([embed_texts(model, tokenizer, of_template) for of_template in prompts])
    return F.normalize(vectors.mean(dim=0), dim=-1).T


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
    return float((scores.argmax(dim=1) == labels).double().mean())

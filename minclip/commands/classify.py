"""minclip classify: which of some labels an image shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.table import Table

from ..config import MinclipError
from ..data.source import open_image
from ..evaluate import zero_shot_classifier
from ..pretrained import load
from .printing import Json, console


@dataclass(frozen=True)
class Classify:
    """Ask a model which of some labels an image shows."""

    run_folder: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN", help="a run's folder or name, or demo")
    ]
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE...")]
    labels: Annotated[str, tyro.conf.arg(help='the choices, with commas between: "a dog, a cat"')] = ""
    template: Annotated[str, tyro.conf.arg(help="the prompt; {} stands for the label")] = "a picture of {}"
    json: Json = False

    def run(self) -> dict[str, Any]:
        labels = [label.strip() for label in self.labels.split(",") if label.strip()]
        if len(labels) < 2 or not self.images:
            raise MinclipError(
                'classify needs an image and at least two labels: minclip classify RUN IMAGE --labels "a dog, a cat"'
            )
        model, preprocess, tokenizer = load(self.run_folder)
        if tokenizer is None:
            raise MinclipError(f"{self.run_folder} has no tokenizer.json, so it can't read the labels")
        classifier = zero_shot_classifier(model, tokenizer, labels, (self.template,))
        pictures = torch.stack([preprocess(open_image(path, model.config.vision.image_size)) for path in self.images])
        with torch.no_grad():
            similarity = model.encode_image(pictures, normalize=True) @ classifier
            probabilities = (model.logit_scale.exp() * similarity).softmax(dim=1)
        table = Table("image", "label", "probability", "cosine", box=None)
        out = []
        for path, row, cosines in zip(self.images, probabilities, similarity):
            for rank, i in enumerate(row.argsort(descending=True).tolist()):
                table.add_row(path.name if rank == 0 else "", labels[i], f"{row[i]:.1%}", f"{cosines[i]:.3f}")
            out.append({"image": str(path), "probabilities": {label: float(p) for label, p in zip(labels, row)}})
        console.print(table)
        return {"results": out}

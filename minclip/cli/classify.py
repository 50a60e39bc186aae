"""minclip classify: which of some labels an image shows, or none of these."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from ..config import MinclipError
from ..data import Pairs, load_pairs
from ..data.photos.source import open_image
from ..evaluate import embed_images, embed_texts, zero_shot_classifier
from ..model import CLIP
from ..tokenizer import Tokenizer
from ..training.run import read_run_config
from ..weights.folder import find_folder, look_up
from ..weights.load import load
from .printing import Json, console

FEWEST = 100  # validation pairs, for a threshold to be more than luck


@dataclass(frozen=True)
class Classify:
    """Ask a model which of some labels an image shows, or whether it is none of these.

    Probabilities always add up to 100 %, whatever the image shows: the softmax shares out among the labels that it is given.
    Whether any of them fits is told by the cosine itself, below.
    """

    run_folder: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN", help="a run's folder or name, or demo")
    ]
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE...")]
    labels: Annotated[str, tyro.conf.arg(help='the choices, with commas between: "a dog, a cat"')] = ""
    template: Annotated[str, tyro.conf.arg(help="the prompt; {} stands for the label")] = "a picture of {}"
    none_below: Annotated[
        float | Literal["auto", "off"],
        tyro.conf.arg(
            help="the image is none of these where the nearest label's cosine is lower; auto takes what nine in ten wrong "
            "pairs of the run's own validation set stay below; cosines are not on one scale in all models: look at yours"
        ),
    ] = "auto"
    out: Annotated[Path, tyro.conf.arg(help="where classify.png is written")] = Path(".")
    json: Json = False

    def run(self) -> dict[str, Any]:
        labels = [label.strip() for label in self.labels.split(",") if label.strip()]
        if not labels or not self.images:
            raise MinclipError('classify needs an image and labels: minclip classify RUN IMAGE --labels "a dog, a cat"')
        if self.none_below not in ("auto", "off") and not -1 <= self.none_below <= 1:
            raise MinclipError(f"--none-below {self.none_below} is no cosine: give one from -1 to 1, auto or off")
        model, preprocess, tokenizer = load(self.run_folder)
        if tokenizer is None:
            raise MinclipError(f"{self.run_folder} has no tokenizer.json, so it can't read the labels")
        classifier = zero_shot_classifier(model, tokenizer, labels, templates=(self.template,))
        pictures = [open_image(path, max(480, model.config.vision.image_size)) for path in self.images]
        below, origin = self.threshold(model, tokenizer)
        if below is None and len(labels) == 1:
            raise MinclipError(
                "one label alone gets 100 %, whatever the image shows: give at least two labels, or a cosine such as --none-below 0.2"
            )
        with torch.no_grad():
            images = torch.stack([preprocess(picture) for picture in pictures])
            cosines = model.encode_image(images, normalize=True) @ classifier
            probabilities = (model.logit_scale.exp() * cosines).softmax(dim=1)
        results = [
            answer(str(path), labels, of_image, shares, below)
            for path, of_image, shares in zip(self.images, cosines, probabilities)
        ]

        table = Table("image", "label", "probability", "cosine", box=None)
        for result in results:
            rows = sorted(result["cosines"].items(), key=lambda item: -item[1])
            for rank, (label, cosine) in enumerate(rows):
                name = escape(Path(result["image"]).name) if rank == 0 else ""
                table.add_row(name, escape(label), f"{result['probabilities'][label]:.1%}", f"{cosine:.3f}")
        console.print(table)
        console.print()
        for result in results:
            console.print(escape(f"{Path(result['image']).name}: {result['label'] or result['why']}"))
        console.print(f"[dim]{escape(origin)}[/]")
        picture = self.draw(pictures, results, below)
        console.print(f"saved: [bold]{picture}[/]")
        return {"results": results, "none_below": below, "none_below_from": origin, "picture": str(picture)}

    def threshold(self, model: CLIP, tokenizer: Tokenizer) -> tuple[float | None, str]:
        """The cosine below which an image is none of these, None where that isn't known, and where it comes from."""
        if self.none_below == "off":
            return None, "none of these: off, as asked"
        if self.none_below != "auto":
            return self.none_below, f"none of these: below {self.none_below:.2f}, as asked"
        if look_up(self.run_folder) is None:
            return (
                None,
                "none of these: off, since this model brings no validation pairs; --none-below 0.2 sets a cosine of your own",
            )
        try:
            data = read_run_config(find_folder(self.run_folder)).data
            columns = (data.image_column, data.caption_column)
            pairs = load_pairs(data.name, "val", data.image_size, data.root, 1000, columns=columns)
            if len(pairs) < FEWEST:
                raise MinclipError(f"{len(pairs)} validation images are too few")
        except MinclipError as error:
            told = f"none of these: off, for want of validation pairs ({error}); --none-below 0.2 sets a cosine of your own"
            return None, told
        below = wrong_pairs_cosine(model, tokenizer, pairs)
        return (
            below,
            f"none of these: below {below:.2f}, as nine in ten wrong pairs of the validation set are ({data.name})",
        )

    def draw(self, pictures: list[Any], results: list[dict[str, Any]], below: float | None) -> Path:
        """Writes classify.png, with the first 24 images."""
        from ..course import plots  # matplotlib, only now

        self.out.mkdir(parents=True, exist_ok=True)
        for picture in pictures:
            picture.thumbnail((480, 480))
        answers = [f"{Path(result['image']).name}: {result['label'] or 'none of these'}" for result in results]
        figure = plots.classified(
            pictures[:24], answers, [r["cosines"] for r in results], [r["probabilities"] for r in results], below
        )
        plots.save(figure, self.out / "classify.png")
        return self.out / "classify.png"


def answer(image: str, labels: list[str], cosines: Tensor, shares: Tensor, below: float | None) -> dict[str, Any]:
    """What is said of one image: its label, or None and why."""
    nearest, cosine = labels[int(cosines.argmax())], float(cosines.max())
    result = {
        "image": image,
        "label": nearest,
        "probabilities": dict(zip(labels, shares.tolist())),
        "cosines": dict(zip(labels, cosines.tolist())),
    }
    if below is None or cosine >= below:
        return result
    why = f"none of these: the nearest label, {nearest}, has cosine {cosine:.2f}, below {below:.2f}"
    return {**result, "label": None, "why": why}


def wrong_pairs_cosine(model: CLIP, tokenizer: Tokenizer, pairs: Pairs, share: float = 0.9) -> float:
    """The cosine that this share of wrong pairs stays below: each caption with the image after its own."""
    image, text = embed_images(model, pairs), embed_texts(model, tokenizer, pairs.texts)
    wrong = (pairs.text_to_image + 1) % len(pairs)
    return float(np.quantile((image[wrong] * text).sum(dim=1).cpu().numpy(), share))

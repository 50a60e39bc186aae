"""minclip classify: which of some labels an image shows, or none of these."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor

from ..config import MinclipError
from ..course.plots import classified
from ..data import Pairs, open_data
from ..data.photos.images import open_image
from ..evaluate import embed_images, embed_texts, zero_shot_classifier
from ..model import CLIP
from ..tokenizer import Tokenizer
from ..training.run import read_run_config
from ..weights.folder import find_folder, look_up
from .models import RunArgument, open_model, save_picture
from .printing import Json, as_options, console, print_table

FEWEST = 100  # validation pairs from which a threshold can be estimated


@dataclass(frozen=True)
class Classify:
    """Ask a model which of some labels an image shows, or whether it shows none of these.

    The probabilities add up to 100 % for any image, because the softmax compares only the labels that were given.
    Whether any of them fits is decided by the cosine.
    """

    run_folder: RunArgument
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE...")]
    labels: str = ""  # the choices, separated by commas: "a dog, a cat"
    template: str = "a picture of {}"  # the prompt; {} stands for the label
    # an image is none of these if the nearest label's cosine is lower; auto: the cosine that 90 % of the wrong pairs of
    # the run's own validation set stay below. Models differ in their cosines: look at yours
    none_below: float | Literal["auto", "off"] = "auto"
    out: str = "."  # the folder for classify.png
    json: Json = False

    def run(self) -> dict[str, Any]:
        labels = [label.strip() for label in self.labels.split(",") if label.strip()]
        if not labels or not self.images:
            raise MinclipError('classify needs an image and labels: minclip classify RUN IMAGE --labels "a dog, a cat"')
        if self.none_below not in ("auto", "off") and not -1 <= self.none_below <= 1:
            raise MinclipError(f"--none-below {self.none_below} is not a cosine: give one from -1 to 1, auto or off")
        model, preprocess, tokenizer = open_model(self.run_folder)
        classifier = zero_shot_classifier(model, tokenizer, labels, templates=(self.template,))
        pictures = [open_image(path, max(480, model.config.vision.image_size)) for path in self.images]
        below, origin = self.threshold(model, tokenizer)
        if below is None and len(labels) == 1:
            why = "one label alone gets 100 %, whatever the image shows"
            raise MinclipError(f"{why}: give two labels or more, or a threshold such as --none-below 0.2")
        with torch.no_grad():
            images = torch.stack([preprocess(picture) for picture in pictures]).to(classifier.device)
            cosines = model.encode_image(images, normalize=True) @ classifier
            probabilities = (model.logit_scale.exp() * cosines).softmax(dim=1)
        results = [
            answer(str(path), labels, cosines=c, probabilities=p, below=below)
            for path, c, p in zip(self.images, cosines, probabilities)
        ]

        rows = []
        for result in results:
            name = Path(result["image"]).name  # once, before its labels
            for label, cosine in sorted(result["cosines"].items(), key=lambda item: -item[1]):
                rows.append((name, label, f"{result['probabilities'][label]:.1%}", f"{cosine:.3f}"))
                name = ""
        print_table(("image", "label", "probability", "cosine"), rows)
        says = [f"{Path(result['image']).name}: {result['label'] or result['why']}" for result in results]
        console.print("", *says, origin, sep="\n")
        for image in pictures[:24]:
            image.thumbnail((480, 480))
        answers = [f"{Path(result['image']).name}: {result['label'] or 'none of these'}" for result in results]
        cosines, probabilities = ([result[key] for result in results] for key in ("cosines", "probabilities"))
        figure = classified(pictures[:24], answers, cosines, probabilities=probabilities, below=below)
        picture = save_picture(figure, "classify.png", self.out)
        return {"results": results, "none_below": below, "none_below_from": origin, "picture": picture}

    def threshold(self, model: CLIP, tokenizer: Tokenizer) -> tuple[float | None, str]:
        """The cosine below which an image is none of these, None if it is unknown, and where it comes from."""
        if self.none_below == "off":
            return None, "none of these: off, as requested"
        if self.none_below != "auto":
            return self.none_below, f"none of these: below {self.none_below:.2f}, as requested"
        try:
            if look_up(self.run_folder) is None:
                raise MinclipError(f"{self.run_folder} is not a run")
            data = read_run_config(find_folder(self.run_folder)).data
            pairs = open_data(data).load("val", size=1000)
            if len(pairs) < FEWEST:
                raise MinclipError(f"{len(pairs)} validation images are too few")
        except MinclipError as error:
            own = "--none-below 0.2 sets a threshold of your own"
            return None, as_options(f"none of these: off, without validation pairs ({error}); {own}")
        below = wrong_pairs_cosine(model, tokenizer, pairs)
        return below, f"none of these: below {below:.2f}, like 90 % of the wrong validation pairs ({data.name})"


def answer(
    image: str, labels: list[str], *, cosines: Tensor, probabilities: Tensor, below: float | None
) -> dict[str, Any]:
    """The JSON of one image: its nearest label, or None and why."""
    nearest, cosine = labels[int(cosines.argmax())], float(cosines.max())
    result = {"image": image, "label": nearest, "probabilities": dict(zip(labels, probabilities.tolist()))}
    result["cosines"] = dict(zip(labels, cosines.tolist()))
    if below is None or cosine >= below:
        return result
    why = f"none of these: the nearest label, {nearest}, has cosine {cosine:.2f}, below {below:.2f}"
    return result | {"label": None, "why": why}


def wrong_pairs_cosine(model: CLIP, tokenizer: Tokenizer, pairs: Pairs, *, share: float = 0.9) -> float:
    """The cosine that this share of the wrong pairs stays below: each caption with the next caption's image."""
    image, text = embed_images(model, pairs), embed_texts(model, tokenizer, pairs.texts)
    wrong = (pairs.text_to_image + 1) % len(pairs)
    return float(np.quantile((image[wrong] * text).sum(dim=1).cpu().numpy(), share))

"""minclip classify picks the label that fits an image, or none; minclip search finds photographs in a folder."""

import base64
import io
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from jinja2 import Environment
from PIL import Image

from ..config import MinclipError, need
from ..course.plots import classified, contact_sheet
from ..data import Pairs, open_data
from ..data.photos.images import endings, open_image
from ..data.photos.source import Source, counted
from ..evaluate import decoded, embed_images, embed_texts, zero_shot_classifier
from ..evaluate.benchmarks import read_text
from ..evaluate.search import Index
from ..model import CLIP
from ..tokenizer import Tokenizer
from ..training.run import read_run_config
from ..weights.folder import atomic_write
from . import shown
from .shared import RunArgument, as_options, console, find_run, open_model, print_table, save_picture

MIN_PAIRS = 100  # with fewer validation pairs, the threshold would be too uncertain


@dataclass(frozen=True)
class Classify:
    """Ask a model which of some labels fits an image, or whether none of these does.

    The probabilities add up to 100 % for any image, because the softmax only compares your labels with each other.
    The cosine decides whether any of them fits.
    """

    run_folder: RunArgument
    images: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE...", help="files or folders")
    ]
    # the choices: "a dog, a cat"; labels with commas are separated by semicolons; or a file with a label a line
    labels: str = ""
    template: str = "a picture of {}"  # the prompt; {} stands for the label
    # an image whose best label has a lower cosine is none of these; auto: the 90th percentile of the cosines of wrong
    # pairs in the run's own validation set. Cosines differ from model to model: look at yours
    none_below: float | Literal["auto", "off"] = "auto"
    out: str = "."  # the folder for classify.png

    @torch.no_grad()
    def run(self) -> dict[str, Any]:
        labels = [self.labels]
        if os.path.isfile(self.labels) or self.labels.endswith((".txt", ".json")):
            labels = [*map(str, read_text(self.labels))]
        if len(labels) == 1:
            labels = re.split("[;；]" if {";", "；"} & {*labels[0]} else "[,，、]", labels[0])
        labels = [label for text in labels if (label := text.strip())]
        need(labels and self.images, 'give an image and labels: minclip classify RUN IMAGE --labels "a dog, a cat"')
        valid = self.none_below in ("auto", "off") or -1 <= self.none_below <= 1
        need(valid, f"--none-below {self.none_below} is not a cosine: give a number from -1 to 1, auto or off")
        model, preprocess, tokenizer = open_model(self.run_folder)
        images = [image for path in self.images for image in images_at(path)]
        classifier = zero_shot_classifier(model, tokenizer, labels, templates=(self.template,))
        pictures, cosines, side = [], [], max(480, model.config.vision.image_size)
        for batch in decoded(images, lambda path: open_image(path, side), batch_size=64):
            pixels = torch.stack([*map(preprocess, batch)]).to(model.device)
            cosines.append(model.encode_image(pixels, normalize=True) @ classifier)
            pictures += batch[: 24 - len(pictures)]  # of thousands, only those that are drawn stay in memory
        below, origin = self.threshold(model, tokenizer)
        need(len(labels) > 1 or below is not None, "a single label always gets 100 %: give two, or --none-below 0.2")
        cosines = torch.cat(cosines)
        probabilities = (model.logit_scale.exp() * cosines).softmax(dim=1)

        results, rows = [], []
        for path, c, p in zip(images, cosines.tolist(), probabilities.tolist()):
            order = sorted(range(len(labels)), key=lambda i: -c[i])
            nearest, cosine = labels[order[0]], c[order[0]]
            result = {"image": str(path), "label": nearest}
            if not (below is None or cosine >= below):
                why = f"none of these: the nearest label, {nearest}, has cosine {cosine:.2f}, below {below:.2f}"
                result |= {"label": None, "why": why}
            results.append(result | {"probabilities": dict(zip(labels, p)), "cosines": dict(zip(labels, c))})
            names = (path.name, *[""] * len(labels))  # the name only in the first of its rows
            rows += [(name, labels[i], f"{p[i]:.1%}", f"{c[i]:.3f}") for name, i in zip(names, order)]
        print_table(("image", "label", "probability", "cosine"), rows)
        named = [(path.name, result) for path, result in zip(images, results)]
        console.print("", *(f"{name}: {result['label'] or result['why']}" for name, result in named), origin, sep="\n")
        for image in pictures:
            image.thumbnail((480, 480))
        answers = [f"{name}: {result['label'] or 'none of these'}" for name, result in named]
        cosines, probabilities = ([result[key] for result in results] for key in ("cosines", "probabilities"))
        figure = classified(pictures, answers, cosines, probabilities=probabilities, below=below)
        picture = save_picture(figure, "classify.png", self.out)
        return {"results": results, "none_below": below, "none_below_from": origin, "picture": picture}

    def threshold(self, model: CLIP, tokenizer: Tokenizer) -> tuple[float | None, str]:
        """The cosine below which an image is "none of these" (None turns that off), and a sentence on its origin."""
        if self.none_below == "off":
            return None, "none of these: off, as requested"
        if isinstance(self.none_below, float):
            return self.none_below, f"none of these: below {self.none_below:.2f}, as requested"
        try:
            need(folder := find_run(self.run_folder), f"{self.run_folder} is a model, not a run")
            data = read_run_config(folder).data
            pairs = open_data(data).load("val", size=1000)
            need(len(pairs) >= MIN_PAIRS, f"{len(pairs)} validation images are too few")
        except MinclipError as error:
            why = f"off, without validation pairs ({error}); --none-below 0.2 sets your own threshold"
            return None, as_options(f"none of these: {why}")
        below = wrong_pairs_cosine(model, tokenizer, pairs)
        return below, f"none of these: below {below:.2f}, like 90 % of the wrong validation pairs ({data.name})"


def images_at(path: Path) -> list[Path]:
    """The image `path`, or the images in that folder and its subfolders."""
    need(path.exists(), f"{path} does not exist: give image files or folders of them, and all labels in one text")
    found = [path / image for image in Source.open(path, "").images] if path.is_dir() else [path]
    need(found, f"{path} has no image: looked for {', '.join(endings())}")
    return found


def wrong_pairs_cosine(model: CLIP, tokenizer: Tokenizer, pairs: Pairs, *, quantile: float = 0.9) -> float:
    """The `quantile` of the cosines of wrong pairs: each caption with the image after its own."""
    image, text = embed_images(model, pairs), embed_texts(model, tokenizer, pairs.texts)
    wrong = (pairs.text_to_image + 1) % len(pairs)
    return float(np.quantile((image[wrong] * text).sum(dim=1).cpu().numpy(), quantile))


@dataclass(frozen=True)
class Search:
    """Find photographs that match a text, or that look like another photograph."""

    run_folder: RunArgument
    images: Path  # a folder of photographs, with its subfolders, or a zip
    query: str = ""  # a text to search for: "two dogs in the snow"
    image: str = ""  # a photograph, to find others like it
    top: int = 12  # number of photographs to find
    out: str = "."  # the folder for search.png and search.html

    def run(self) -> dict[str, Any]:
        query = self.query.strip()
        need(bool(query) != bool(self.image), 'search needs either --query "two dogs in the snow" or --image photo.jpg')
        need(self.top > 0, f"--top must be at least 1, got {self.top}")
        loaded = open_model(self.run_folder, reads_text=bool(query))
        query_image = data_uri(open_image(self.image, 480)) if self.image else None
        index = Index.of(self.images, loaded)
        vector = index.embed_text(query) if query else index.embed_image(self.image)
        start = time.perf_counter()
        hits = index.search(vector, self.top)
        milliseconds = 1000 * (time.perf_counter() - start)

        names, cosines = [shown(hit.path) for hit in hits], [hit.cosine for hit in hits]
        print_table(("", "cosine", "image"), [(i, f"{c:.3f}", n) for i, (n, c) in enumerate(zip(names, cosines), 1)])
        console.print(f"\n{len(index.paths):,} images compared in {milliseconds:.1f} ms")
        console.print(*index.notes, *counted({"files can't be read": index.broken}), sep="\n")

        title = shown(f"Like {Path(self.image).name}" if self.image else f"“{query}”")
        title += f": nearest of {len(index.paths):,} images"
        pictures = [index.picture(hit.path) for hit in hits]
        sheet = save_picture(contact_sheet(pictures[:48], names, cosines, title=title), "search.png", self.out)
        found = [{"path": name, "cosine": cosine} for name, cosine in zip(names, cosines)]
        drawn = [{**hit, "picture": data_uri(picture)} for hit, picture in zip(found, pictures)]
        template = Path(__file__).with_name("search_page.html").read_text(encoding="utf-8")
        html = Environment(autoescape=True).from_string(template).render(title=title, asked=query_image, hits=drawn)
        page = Path(self.out, "search.html")
        atomic_write(page, html.encode())
        console.print(f"saved: {page}")
        result = {"hits": found, "images": len(index.paths), "milliseconds": milliseconds}
        return result | {"files": [sheet, str(page)], "broken": index.broken, "notes": index.notes}


def data_uri(picture: Image.Image) -> str:
    """The picture as a data URI, at most 480 pixels wide and high, so that the page needs no other file."""
    buffer = io.BytesIO()
    picture.thumbnail((480, 480))  # in place
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

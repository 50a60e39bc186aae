"""Outside the training data (notebook 13): digits, written words, languages, words with two senses, portraits.

All accuracies are fractions of 1.
"""

from functools import partial
from typing import Any

import common
import torch

import minclip
from minclip import evaluate

notebook = partial(common.from_notebook, "13_limits")  # runs its cells at the first call only
TOLERANCE = 0.011  # another CPU may classify a few images differently
# numbers of captions that name the digit, are Spanish, or name the person
DIGITS, SPANISH, NAMED = (0, 30, 100, 300), (0, 100, 300, 1000), (0, 10, 30, 100)


def digits(seed: int) -> dict[str, Any]:
    """Handwritten digits: the demo zero-shot, probes on its features and on pixels, a CLIP trained on some captions."""
    nb, split = notebook(), notebook().digits_split(seed)
    features = {name: nb.seen_by(common.demo()[0], images) for name, (images, _) in split.items()}
    columns = nb.sentences(*common.demo(), nb.DIGITS, nb.DIGIT_PROMPTS)
    pixels = {name: nb.raw_pixels(images) for name, (images, _) in split.items()}
    out: dict[str, Any] = {"zero-shot": nb.share_right(features["test"], columns, split["test"][1])}
    for name, x in (("pixels", pixels), ("probe", features)):
        mean, unit = x["train"].mean(dim=0), x["train"].std()
        found = minclip.linear_probe(**{part: ((x[part] - mean) / unit, split[part][1]) for part in split})
        out[name], out[f"{name}, C"] = found["accuracy"], found["c"]
    return {**out, "taught": {str(count): nb.taught_digits(count, seed) for count in DIGITS}}


def words(seed: int) -> dict[str, Any]:
    """Written words that name another shape: three kinds of captions; for the demo, heights and strengths of ink."""
    nb = notebook()
    return {kind: nb.attacked(nb.reader(kind, seed)[0], seed) for kind in nb.CAPTION_KINDS} | {"demo": inked(seed)}


def inked(seed: int) -> dict[str, Any]:
    """The demo's answers to written words of two heights, in pixels, and several strengths of ink."""
    nb = notebook()
    scenes = nb.scenes_with_words("test", 5000, seed)
    return {
        str(height): {str(ink): nb.attacked_demo(*common.demo(), scenes, height=height, ink=ink) for ink in nb.INKS}
        for height in (7, 14)
    }


def languages(seed: int) -> dict[str, Any]:
    """Colors and shapes named in Spanish: some captions of 3,000 in Spanish, or these alone."""
    nb = notebook()
    mixed = {str(count): nb.two_languages(count, seed) for count in SPANISH}
    alone = {str(count): nb.two_languages(count, seed, english=False) for count in SPANISH[1:]}
    return {"with English": mixed, "alone": alone, "demo": nb.by_language(*common.demo(), seed)}


def senses(seed: int) -> dict[str, Any]:
    """The word orange: the demo, and a small CLIP with one word for the color and the fruit, or with two."""
    nb, (model, tokenizer) = notebook(), common.demo()
    test = nb.orange_world("test", 6000, seed)
    vectors = nb.seen_by(model, nb.shapes.paint(test))
    out = {"demo": nb.senses(lambda texts: vectors @ evaluate.embed_texts(model, tokenizer, texts).T, test)}
    train, images = nb.orange_world("train", 3000, seed), nb.shapes.paint(test, 32)
    texts = nb.shapes.captions_of(train)
    one = nb.fit_little(nb.shapes.paint(train, 32), texts, steps=400, seed=seed)[0]
    two = nb.fit_little(nb.shapes.paint(train, 32), nb.one_sense(train, texts), steps=400, seed=seed)[0]
    out["one word"] = nb.senses(lambda texts: nb.little_scores(one, images, texts), test)
    out["two words"] = nb.senses(lambda texts: nb.little_scores(two, images, texts), test, ("a tangerine",))
    return out


def people(seed: int) -> dict[str, Any]:
    """Portraits: neighbors, clusters and descriptions by pixels, the demo and a CLIP on portraits; names of people."""
    nb = notebook()
    models = {count: nb.portrait_model(seed, named=count)[0] for count in NAMED}
    encoders = {
        "pixels": lambda images: torch.nn.functional.normalize(
            torch.from_numpy(images).float().flatten(1) - 127, dim=1
        ),
        "demo": lambda images: nb.seen_by(common.demo()[0], images),
        "portraits": lambda images: torch.no_grad()(models[0].encode_image)(nb.half_size(torch.from_numpy(images))),
    }
    out: dict[str, Any] = {name: nb.identity(encode, seed) for name, encode in encoders.items()}
    rows, images = nb.strangers(seed)
    vectors = nb.seen_by(common.demo()[0], images)
    out["demo"] |= {"described": nb.described(lambda t: vectors @ evaluate.embed_texts(*common.demo(), t).T, rows)}
    small = nb.half_size(torch.from_numpy(images))
    out["portraits"] |= {"described": nb.described(lambda t: nb.little_scores(models[0], small, t), rows)}
    names = {str(count): nb.named_right(model, seed) for count, model in models.items()}
    return {**out, "names": names, "short run": short_run(seed)}


def short_run(seed: int) -> dict[str, float]:
    """A training of 60 steps: the means of the first ten and of the last ten losses."""
    losses = notebook().portrait_model(seed, size=400, steps=60)[1]
    return {"first": sum(losses[:10]) / 10, "last": sum(losses[-10:]) / 10}


PARTS = {"digits": digits, "words": words, "languages": languages, "senses": senses, "people": people}


def spot_check() -> dict[tuple[Any, ...], float]:
    """Zero-shot accuracies of the demo, and the losses of a short training."""
    nb = notebook()
    images, labels = nb.digits_split(0)["test"]
    columns = nb.sentences(*common.demo(), nb.DIGITS, nb.DIGIT_PROMPTS)
    found = nb.by_language(*common.demo(), 0)
    return {
        ("digits", "zero-shot", None): nb.share_right(nb.seen_by(common.demo()[0], images), columns, labels),
        ("languages", "demo", "Spanish", "color", None): found["Spanish"]["color"],
        ("languages", "demo", "French", "shape", None): found["French"]["shape"],
        **{("people", "short run", name, None): loss for name, loss in short_run(0).items()},
    }


if __name__ == "__main__":
    common.main(__file__, PARTS)

"""Labels against sentences (notebook 11): all tasks, k shots, and fine-tuning on labels that are too narrow."""

from functools import cache, partial
from typing import Any

import common
import torch

import minclip
from minclip import evaluate
from minclip.data.shapes import SHIFTS

notebook = partial(common.from_notebook, "11_labels_and_sentences")  # runs its cells at the first call only
TOLERANCE = 0.011  # another CPU may classify a few of 400 images differently
KS = (1, 2, 4, 8, 16, 32, 64)
LARGEST_K = {"colour+shape": 16, "fill+shape": 32}  # the smallest of their 58 and 22 classes has few more images
RATES = (3e-5, 1e-4, 3e-4, 1e-3)
CHOSEN = {"random": 3e-4, "probe": 3e-5, "sentences": 1e-4}  # the best rates in the part "rates"
NARROW_KS = (1, 4, 16, 64)
ALPHAS = (0.25, 0.5, 0.75)


def worlds(seed: int, labeled: int) -> dict[str, Any]:
    """Training (`labeled` of them), validation and test scenes: others for each seed, none of the demo's training."""
    world = notebook().world
    return {
        "train": world("train", labeled, seed=1 + seed),
        "val": world("val", seed=seed),
        "test": world("test", 2000, seed=seed),
    }


def tasks(seed: int) -> dict[str, Any]:
    """Every task of the shapes world: zero-shot, and probes on the demo's and on a supervised tower's features."""
    model, tokenizer = common.demo()
    nb, scenes = notebook(), worlds(seed, 3000)
    tower, _ = nb.supervised(nb.world("train", 20_000), seed)
    vectors = {
        name: {split: evaluate.embed_images(one, pairs) for split, pairs in scenes.items()}
        for name, one in (("supervised", tower), ("probe", model))
    }
    out = {name: {t: nb.probed(nb.sets_of(x, scenes, t)) for t in scenes["test"].tasks} for name, x in vectors.items()}
    seen = vectors["probe"]["test"]
    return {
        **out,
        "zero_shot": {t: nb.zero_shot(model, tokenizer, seen, task) for t, task in scenes["test"].tasks.items()},
    }


def shots(seed: int) -> dict[str, Any]:
    """Probes on the demo's features for each task, by k labeled images a class, as far as each class has k."""
    model, tokenizer = common.demo()
    nb, scenes = notebook(), worlds(seed, 6000)
    vectors = {split: evaluate.embed_images(model, pairs) for split, pairs in scenes.items()}
    out: dict[str, Any] = {}
    for name, task in scenes["test"].tasks.items():
        sets = nb.sets_of(vectors, scenes, name)
        most = LARGEST_K.get(name, 64)
        curve = nb.k_shots(sets, [k for k in KS if k <= most], seed=seed)
        out[name] = {"zero_shot": nb.zero_shot(model, tokenizer, vectors["test"], task)}
        out[name]["curve"] = [sum(values) / len(values) for values in curve.values()]
    return out


@cache
def test_sets() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Images and shape labels: as narrow as the labels that were tuned on, the ordinary world, and its six shifts."""
    nb = notebook()
    sets = {"narrow": nb.narrow("test", 400), "ordinary": nb.narrow("test", 400, share=0.0)}
    for kind in SHIFTS:
        pairs = minclip.load_pairs("shapes", f"test-{kind}", size=400)
        rows = pairs.tasks["shape"].indices
        sets[kind] = torch.from_numpy(pairs.images[rows]), torch.from_numpy(pairs.tasks["shape"].labels)
    return sets


@cache
def narrow_sets(seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    nb = notebook()
    return {"train": nb.narrow("train", 900, seed=10 + seed), "val": nb.narrow("val", 400, seed=seed)}


def few(seed: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first k images of each class."""
    images, labels = narrow_sets(seed)["train"]
    rows = torch.cat([(labels == c).nonzero()[:k, 0] for c in range(8)])
    return images[rows], labels[rows]


def rates(seed: int) -> dict[str, Any]:
    """The search for the learning rates of `CHOSEN`: accuracy on validation images as narrow as the labels, k = 16."""
    nb, data, val = notebook(), few(seed, 16), narrow_sets(seed)["val"]
    starts = nb.heads(*common.demo(), *data, val, seed)
    return {
        start: {f"{lr:g}": nb.accuracy_of(nb.tune(model, *data, lr=lr, seed=seed), *val) for lr in RATES}
        for start, model in starts.items()
    }


def narrow(seed: int) -> dict[str, Any]:
    """Few-shot fine-tuning on labels whose shape the color gives away in nine images of ten."""
    return {str(k): tuned(seed, k) for k in NARROW_KS}


def tuned(seed: int, k: int) -> dict[str, Any]:
    nb, data, val = notebook(), few(seed, k), narrow_sets(seed)["val"]
    starts = nb.heads(*common.demo(), *data, val, seed)
    models = {"zero-shot": starts["sentences"], "probe": starts["probe"]}
    names = {"random": "all at once", "probe": "head first", "sentences": "from sentences"}
    for start, name in names.items():
        models[name] = nb.tune(starts[start], *data, lr=CHOSEN[start], seed=seed)
    for alpha in ALPHAS:
        models[f"mixed {alpha}"] = nb.mix_weights(models["zero-shot"], models["from sentences"], alpha)
    on_val = {name: nb.accuracy_of(model, *val) for name, model in models.items()}
    out = {name: measured(model) | {"val": on_val[name]} for name, model in models.items()}
    choices = {0.0: "zero-shot", **{a: f"mixed {a}" for a in ALPHAS}, 1.0: "from sentences"}
    alpha = max(choices, key=lambda a: on_val[choices[a]])  # of equally good ones the nearest to zero-shot
    return {**out, "mixed": out[choices[alpha]], "alpha": alpha}


def measured(model: Any) -> dict[str, float]:
    found = {name: notebook().accuracy_of(model, *images) for name, images in test_sets().items()}
    return {**found, "shifted": sum(found[kind] for kind in SHIFTS) / len(SHIFTS)}


PARTS = {"tasks": tasks, "shots": shots, "rates": rates, "narrow": narrow}


def spot_check() -> dict[tuple[Any, ...], float]:
    """Zero-shot and the probe on one image a class, on the narrow and the ordinary world."""
    nb = notebook()
    starts = nb.heads(*common.demo(), *few(0, 1), narrow_sets(0)["val"], 0)
    return {
        ("narrow", "1", name, where, None): nb.accuracy_of(starts[start], *test_sets()[where])
        for name, start in (("zero-shot", "sentences"), ("probe", "probe"))
        for where in ("narrow", "ordinary")
    }


if __name__ == "__main__":
    common.main(__file__, PARTS)

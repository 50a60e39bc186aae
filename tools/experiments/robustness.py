"""Robustness (notebook 12): supervised classifiers' line, wider styles with captions or labels, narrow labels."""

from functools import cache
from types import SimpleNamespace
from typing import Any

import common
import numpy as np
import torch

import minclip
from minclip.data.shapes import SHIFTS

TOLERANCE = 0.01  # another CPU may classify a few of 600 images differently
STEPS = {1000: 100, 3000: 250, 9500: 400}  # labels -> training steps of 64 images
CAPTION_STEPS, TUNE_STEPS = 200, 40
RATES = {"captions": (3e-4, 1e-3), "tuned": (3e-5, 1e-4, 3e-4)}
CHOSEN = {"captions": 1e-3, "tuned": 1e-4}  # the best of each in the part "rates"
SUPERVISED = 1e-3  # the rate of notebook 11's supervised tower; not searched here
NARROW = {500: 100, 2000: 250}  # labels whose color gives nine in ten shapes away -> steps
KS = (1, 2, 4, 8, 16, 32, 64)
HEAD_ALPHAS, TOWER_ALPHAS = [i / 10 for i in range(11)], [i / 4 for i in range(5)]
FIRST = 20  # losses that are stored


@cache
def notebook() -> SimpleNamespace:
    torch.manual_seed(0)
    return common.from_notebook("12_robustness")


@cache
def demo() -> tuple[Any, Any]:
    model, _, tokenizer = minclip.load("demo")
    return model, tokenizer


@cache
def scenes() -> tuple[Any, np.ndarray]:
    """The 20,000 scenes with captions that the demo learned from, and the rows with one object."""
    pairs = minclip.load_pairs("shapes", "train")
    return pairs, pairs.tasks["shape"].indices


@cache
def test_sets(seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    nb = notebook()
    s = nb.one_object("test", 600, seed=seed)
    return {"ordinary": nb.painted(s), **{shift: nb.painted(s, shift) for shift in SHIFTS}}


def measured(model: Any, seed: int) -> dict[str, float]:
    """Accuracy on ordinary test images, on each shift of them, and the mean over the shifts."""
    found = {name: notebook().accuracy_of(model, *images) for name, images in test_sets(seed).items()}
    return {**found, "shifted": sum(found[shift] for shift in SHIFTS) / len(SHIFTS)}


def line(seed: int) -> dict[str, Any]:
    """Zero-shot, and supervised classifiers on several sizes of labeled sets."""
    nb = notebook()
    images, labels = nb.painted(nb.one_object("train", max(STEPS)))
    out, first = {"zero-shot": measured(nb.zero_shot(*demo()), seed)}, {}
    for n, steps in STEPS.items():
        model = nb.supervised(images[:n], labels[:n], steps=steps, lr=SUPERVISED, seed=seed)
        out[str(n)], first[str(n)] = measured(model, seed), model.losses[:FIRST]
    return {**out, "losses": first}


def wide(seed: int) -> dict[str, Any]:
    """More training of the demo on the same or on restyled images, and the control with labels instead of captions."""
    nb, (pairs, rows), (model, tokenizer) = notebook(), scenes(), demo()
    restyled, out, first = nb.widened(pairs.images, seed), {}, {}
    for name, images in (("captions, wide", restyled), ("captions, narrow", pairs.images)):
        options = {"steps": CAPTION_STEPS, "lr": CHOSEN["captions"], "seed": seed}
        clip, losses = nb.read_captions(model, tokenizer, images, pairs.captions, **options)
        out[name], first[name] = measured(nb.zero_shot(clip, tokenizer), seed), losses[:FIRST]
    labels, steps = torch.from_numpy(pairs.tasks["shape"].labels), STEPS[9500]
    tower = nb.supervised(torch.from_numpy(restyled[rows]), labels, steps=steps, lr=SUPERVISED, seed=seed)
    return {**out, "labels, wide": measured(tower, seed), "losses": first}


@cache
def narrow_sets(seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Labels, validation and test images in which color gives shape away; the same test scenes without that."""
    nb = notebook()
    sizes = {"train": (max(NARROW), 10 + seed), "val": (600, seed), "test": (2000, seed)}
    sets = {split: nb.painted(nb.one_object(split, n, seed=s, share=0.9)) for split, (n, s) in sizes.items()}
    return {**sets, "ordinary": nb.painted(nb.one_object("test", 2000, seed=seed))}


def scores_of(model: Any, seed: int) -> dict[str, float]:
    nb, sets = notebook(), narrow_sets(seed)
    return {name: nb.accuracy_of(model, *sets[name]) for name in ("val", "test", "ordinary")}


def adapt(seed: int) -> dict[str, Any]:
    """Adapting the demo to narrow labels: k shots, a probe, fine-tuning, mixtures; and classifiers from scratch."""
    nb = notebook()
    images, labels = (x[:1500] for x in narrow_sets(seed)["train"])
    start = nb.zero_shot(*demo())
    fitted, c = nb.probed(start, images, labels, narrow_sets(seed)["val"])
    tuned = nb.train(nb.Classifier(start.clip, start.head.detach()), images, labels, **tuning(seed))
    out = {"zero-shot": scores_of(start, seed), "probe": scores_of(fitted, seed), "tuned": scores_of(tuned, seed)}
    out["k"] = shots(start, images, labels, c, seed)
    curves = {
        "head": [head_scores(torch.lerp(start.head, fitted.head, a), seed) for a in HEAD_ALPHAS],
        "tower": [scores_of(nb.mix_weights(start, tuned, a), seed) for a in TOWER_ALPHAS],
    }
    for (name, curve), alphas in zip(curves.items(), (HEAD_ALPHAS, TOWER_ALPHAS)):
        best = max(range(len(alphas)), key=lambda i: curve[i]["val"])  # of equally good ones the nearest to zero-shot
        out[f"mixed {name}"] = {key: [point[key] for point in curve] for key in curve[0]}
        out[f"chosen {name}"] = {"alpha": alphas[best], **curve[best]}
    every = narrow_sets(seed)["train"]
    for n, steps in NARROW.items():
        model = nb.supervised(every[0][:n], every[1][:n], steps=steps, lr=SUPERVISED, seed=seed)
        out[f"supervised {n}"] = scores_of(model, seed)
    return {**out, "losses": tuned.losses[:FIRST]}


@cache
def features(seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """The demo's features of the validation and test images, and their labels."""
    nb, sets, start = notebook(), narrow_sets(seed), notebook().zero_shot(*demo())
    return {name: (nb.embedded(start, sets[name][0]), sets[name][1]) for name in ("val", "test", "ordinary")}


def head_scores(head: torch.Tensor, seed: int) -> dict[str, float]:
    """Accuracies of a head (257, 8) on the demo's features."""
    nb = notebook()
    found = features(seed).items()
    return {name: nb.evaluate.accuracy(nb.probe.predict(x, head.detach()), y) for name, (x, y) in found}


def tuning(seed: int) -> dict[str, Any]:
    return {"steps": TUNE_STEPS, "lr": CHOSEN["tuned"], "seed": seed}


def shots(start: Any, images: torch.Tensor, labels: torch.Tensor, c: float, seed: int) -> dict[str, Any]:
    """Probes on k images of each class, the mean of five draws; C is that of the probe on all labels."""
    nb, out = notebook(), {}
    x = nb.embedded(start, images).double()
    for k in KS:
        draws = [nb.few_of(labels, k, seed=5 * seed + draw) for draw in range(5)]
        found = [head_scores(nb.probe.fit(x[rows], labels[rows], c).float(), seed) for rows in draws]
        out[str(k)] = {name: sum(scores[name] for scores in found) / len(found) for name in found[0]}
    return out


def rates(seed: int) -> dict[str, Any]:
    """The search for the learning rates of `CHOSEN`, with validation images like the training images."""
    nb, (model, tokenizer), out = notebook(), demo(), {}
    val = nb.painted(nb.one_object("val", 1000, seed=seed))
    pairs, start = scenes()[0], nb.zero_shot(model, tokenizer)
    restyled, wide_val = nb.widened(pairs.images, seed), (torch.from_numpy(nb.widened(val[0].numpy(), seed)), val[1])
    read = {
        lr: nb.read_captions(model, tokenizer, restyled, pairs.captions, steps=50, lr=lr, seed=seed)[0]
        for lr in RATES["captions"]
    }
    out["captions"] = {f"{lr:g}": nb.accuracy_of(nb.zero_shot(c, tokenizer), *wide_val) for lr, c in read.items()}
    few = [x[:1500] for x in narrow_sets(seed)["train"]]
    tuned = {
        lr: nb.train(nb.Classifier(start.clip, start.head.detach()), *few, **{**tuning(seed), "lr": lr})
        for lr in RATES["tuned"]
    }
    out["tuned"] = {f"{lr:g}": nb.accuracy_of(end, *narrow_sets(seed)["val"]) for lr, end in tuned.items()}
    return out


PARTS = {"rates": rates, "line": line, "wide": wide, "adapt": adapt}


def spot_check() -> dict[tuple[Any, ...], float]:
    """The first losses of a supervised classifier and of fine-tuning, and zero-shot on the ordinary test images."""
    nb, last = notebook(), FIRST - 1
    images, labels = nb.painted(nb.one_object("train", 1000))
    tower = nb.supervised(images, labels, steps=STEPS[1000], lr=SUPERVISED, stop=FIRST)
    images, labels = nb.painted(nb.one_object("train", 1500, seed=10, share=0.9))
    start = nb.zero_shot(*demo())
    tuned = nb.train(nb.Classifier(start.clip, start.head.detach()), images, labels, **tuning(0), stop=FIRST)
    return {
        ("line", "losses", "1000", 0): tower.losses[0],
        ("line", "losses", "1000", last): tower.losses[last],
        ("adapt", "losses", last): tuned.losses[last],
        ("line", "zero-shot", "ordinary", None): nb.accuracy_of(start, *test_sets(0)["ordinary"]),
    }


if __name__ == "__main__":
    common.main(__file__, PARTS)

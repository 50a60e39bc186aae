"""Robustness (notebook 12): training on labels or captions, on ordinary or restyled scenes; adapting to narrow labels.

All accuracies are fractions of 1.
"""

import copy
from functools import cache, partial
from typing import Any

import common
import torch

from minclip.data.shapes import SHIFTS

notebook = partial(common.from_notebook, "12_robustness")  # runs its cells at the first call only
TOLERANCE = 0.01  # another CPU may classify a few of 2,000 images differently
STEPS = {300: 100, 1000: 150, 2000: 200, 4000: 250}  # labels -> training steps of 64 images
CAPTION_STEPS, MORE_STEPS, TUNE_STEPS = 450, 150, 40
STOPS = {"50 steps": 50, "150 steps": MORE_STEPS, "300 steps": 300}  # more steps: at one of them accuracies are alike
SUPERVISED, TUNED = 1e-3, 1e-4  # learning rates of 64 × 64 towers, as in notebook 11; not searched here
NARROW = {500: 80, 1500: 160}  # labels -> steps; in these images, the color tells the shape in nine of ten
MORE_NARROW = {3000: 180}  # one more size for their line
KS = (1, 2, 4, 8, 16, 32, 64)
DRAWS = 3
HEAD_ALPHAS, TOWER_ALPHAS = [i / 10 for i in range(11)], [0.0, 0.25, 0.5, 0.75, 1.0]
FIRST = 20  # losses that are stored


@cache
def captioned() -> tuple[torch.Tensor, ...]:
    """10,000 images (N, 3, 32, 32), bags of words of captions and classes; the rows with one object, their shapes."""
    nb = notebook()
    s, bags, classes = nb.captioned(10_000)
    task = nb.shapes.tasks_of(s)["shape"]
    images = torch.from_numpy(nb.shapes.paint(s, 32))
    return images, bags, classes, torch.from_numpy(task.indices), torch.from_numpy(task.labels)


@cache
def test_sets(seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Images (2000, 3, 32, 32) and shapes (2000,) of the same test scenes, ordinary and under each shift."""
    nb = notebook()
    s = nb.one_object("test", 2000, seed=seed)
    return {"ordinary": nb.painted(s, side=32), **{shift: nb.painted(s, shift, side=32) for shift in SHIFTS}}


def measured(model: Any, seed: int) -> dict[str, float]:
    """Accuracy on ordinary test images, on each shift of them, and the mean over the shifts."""
    found = {name: notebook().right_of(model, *test) for name, test in test_sets(seed).items()}
    return {**found, "shifted": sum(found[shift] for shift in SHIFTS) / len(SHIFTS)}


@cache
def trained(seed: int) -> tuple[dict[int, Any], Any, dict[str, list[float]]]:
    """Small towers trained on labels and on captions of ordinary scenes: {labels: model}, model, losses of each."""
    nb, (images, bags, classes, rows, labels), losses = notebook(), captioned(), {}
    torch.manual_seed(seed)
    of_size = {n: (nb.image_tower(), nb.Labels()) for n in STEPS}
    by_captions = nb.image_tower(), nb.Captions(classes)
    for n, model in of_size.items():
        losses[str(n)] = nb.teach(model, images[rows[:n]], labels[:n], steps=STEPS[n], seed=seed)
    losses["captions"] = nb.teach(by_captions, images, bags, steps=CAPTION_STEPS, seed=seed)
    return of_size, by_captions, losses


def breadth(seed: int) -> dict[str, Any]:
    """Small towers trained on labels and on captions of ordinary scenes; both go on with the same restyled scenes."""
    of_size, by_captions, losses = trained(seed)
    models = {**{str(n): model for n, model in of_size.items()}, "captions": by_captions}
    out = {name: {**measured(model, seed), "losses": losses[name][:FIRST]} for name, model in models.items()}
    wider = torch.from_numpy(notebook().widened(captioned()[0].numpy(), seed))
    return {**out, **{f"{name}, wider": scores for name, scores in gone_on(wider, MORE_STEPS, seed).items()}}


def gone_on(images: torch.Tensor, steps: int, seed: int) -> dict[str, dict[str, float]]:
    """The models of most labels and of captions, trained for `steps` steps more on `images` (N, 3, 32, 32)."""
    _, bags, _, rows, labels = captioned()
    n, (of_size, by_captions, _) = max(STEPS), copy.deepcopy(trained(seed))
    notebook().teach(of_size[n], images[rows[:n]], labels[:n], steps=steps, seed=seed)
    notebook().teach(by_captions, images, bags, steps=steps, seed=seed)
    return {"labels": measured(of_size[n], seed), "captions": measured(by_captions, seed)}


def longer(seed: int) -> dict[str, Any]:
    """The controls: as many steps more on ordinary scenes, other numbers of steps; and one more model for the line."""
    nb, (images, _, _, rows, labels), n = notebook(), captioned(), max(STEPS)
    wider = torch.from_numpy(nb.widened(images.numpy(), seed))
    out = {f"as it is, {name}": gone_on(images, steps, seed) for name, steps in STOPS.items()}
    out |= {f"wider, {name}": gone_on(wider, steps, seed) for name, steps in STOPS.items() if steps > MORE_STEPS}
    torch.manual_seed(100 + seed)  # other weights to begin with than those of the classifiers above
    model = nb.image_tower(), nb.Labels()
    nb.teach(model, images[rows[:n]], labels[:n], steps=STEPS[n] + MORE_STEPS, seed=100 + seed)
    return {**out, "at once": measured(model, seed)}


@cache
def narrow_sets(seed: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Training, validation and test images whose color tells the shape in nine of ten; test images without that."""
    nb = notebook()
    sizes = {"train": (max(NARROW), 10 + seed), "val": (400, seed), "test": (2000, seed)}
    sets = {split: nb.painted(nb.one_object(split, n, seed=s, share=0.9)) for split, (n, s) in sizes.items()}
    return {**sets, "ordinary": nb.painted(nb.one_object("test", 2000, seed=seed))}


def scores_of(model: Any, seed: int) -> dict[str, float]:
    """Accuracies of a classifier of images on the sets of `narrow_sets`."""
    nb, sets = notebook(), narrow_sets(seed)
    return {name: nb.accuracy_of(model, *sets[name]) for name in ("val", "test", "ordinary")}


def scratch(seed: int) -> dict[str, Any]:
    """More narrow labels: one more size for the line of classifiers from scratch in `adapt`."""
    nb, out = notebook(), {}
    for n, steps in MORE_NARROW.items():
        few = nb.painted(nb.one_object("train", n, seed=10 + seed, share=0.9))
        out[f"supervised {n}"] = scores_of(nb.supervised(*few, steps=steps, lr=SUPERVISED, seed=seed), seed)
    return out


def adapt(seed: int) -> dict[str, Any]:
    """The demo adapted to narrow labels: k shots, a probe, fine-tuning, mixed weights; and classifiers from scratch."""
    nb = notebook()
    images, labels = (x[:1500] for x in narrow_sets(seed)["train"])
    start = nb.zero_shot(*common.demo())
    fitted, c = nb.probed(start, images, labels, narrow_sets(seed)["val"])
    tuned = nb.train(nb.Classifier(start.clip, start.head.detach()), images, labels, **tuning(seed))
    ends = {"zero-shot": head_scores(start.head, seed), "tuned": scores_of(tuned, seed)}
    out = {**ends, "probe": head_scores(fitted.head, seed), "k": shots(start, images, labels, c, seed)}
    curves = {
        "head": [head_scores(torch.lerp(start.head, fitted.head, a), seed) for a in HEAD_ALPHAS],
        "tower": [scores_of(nb.mix_weights(start, tuned, a), seed) for a in TOWER_ALPHAS[1:-1]],
    }
    curves["tower"] = [ends["zero-shot"], *curves["tower"], ends["tuned"]]
    for (name, curve), alphas in zip(curves.items(), (HEAD_ALPHAS, TOWER_ALPHAS)):
        best = max(range(len(alphas)), key=lambda i: curve[i]["val"])  # of ties, the nearest to zero-shot
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
    nb, sets, start = notebook(), narrow_sets(seed), notebook().zero_shot(*common.demo())
    return {name: (nb.embedded(start, sets[name][0]), sets[name][1]) for name in ("val", "test", "ordinary")}


def head_scores(head: torch.Tensor, seed: int) -> dict[str, float]:
    """Accuracies of a head (257, 8) on the demo's features."""
    nb = notebook()
    found = features(seed).items()
    return {name: nb.evaluate.accuracy(nb.probe.predict(x, head.detach()), y) for name, (x, y) in found}


def tuning(seed: int) -> dict[str, Any]:
    """The settings of fine-tuning, which `spot_check` stops early."""
    return {"steps": TUNE_STEPS, "lr": TUNED, "seed": seed}


def shots(start: Any, images: torch.Tensor, labels: torch.Tensor, c: float, seed: int) -> dict[str, Any]:
    """Probes on k images of each class, mean of DRAWS random choices; `c`, the regularization, is the full probe's."""
    nb, out = notebook(), {}
    x = nb.embedded(start, images).double()
    for k in KS:
        draws = [nb.few_of(labels, k, seed=DRAWS * seed + draw) for draw in range(DRAWS)]
        found = [head_scores(nb.probe.fit(x[rows], labels[rows], c).float(), seed) for rows in draws]
        out[str(k)] = {name: sum(scores[name] for scores in found) / len(found) for name in found[0]}
    return out


PARTS = {"breadth": breadth, "longer": longer, "adapt": adapt, "scratch": scratch}


def spot_check() -> dict[tuple[Any, ...], float]:
    """Early losses of the classifier on fewest labels and of fine-tuning, and zero-shot accuracy on 2,000 images."""
    nb, last, n = notebook(), FIRST - 1, min(STEPS)
    torch.manual_seed(0)
    model = nb.image_tower(), nb.Labels()
    images, labels = nb.painted(nb.one_object("train", n), side=32)
    losses = nb.teach(model, images, labels, steps=STEPS[n], seed=0)
    images, labels = nb.painted(nb.one_object("train", 1500, seed=10, share=0.9))
    start = nb.zero_shot(*common.demo())
    tuned = nb.train(nb.Classifier(start.clip, start.head.detach()), images, labels, **tuning(0), stop=FIRST)
    ordinary = nb.painted(nb.one_object("test", 2000))
    return {
        ("breadth", str(n), "losses", 0): losses[0],
        ("breadth", str(n), "losses", last): losses[last],
        ("adapt", "losses", last): tuned.losses[last],
        ("adapt", "zero-shot", "ordinary", None): nb.accuracy_of(start, *ordinary),
    }


if __name__ == "__main__":
    common.main(__file__, PARTS)

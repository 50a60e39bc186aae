"""Search by image (notebook 14): what pixels, random features, SimCLR and CLIP represent of technical drawings.

All trained models have the same image tower, the same pages, the same number of steps and,
except in the part "simclr_weak", the same crops.
"""

from functools import cache, partial
from typing import Any

import common
import torch

import minclip
from minclip.course.drawings import masked, pages

notebook = partial(common.from_notebook, "14_search_by_image")  # runs its cells at the first call only
TOLERANCE = 0.02  # of losses near 5: another CPU rounds differently
STEPS = 300
RATES = (2e-3, 6e-3, 1.8e-2)  # the middle one, the best of the part "rates" for both, is the notebook's


@cache
def archive(seed: int) -> tuple[Any, Any, Any]:
    """Pages for training, for testing, and for fitting probes (validation)."""
    return *notebook().archive(seed), pages("val", 48, others=96, seed=seed)


def kept(features_of: Any, seed: int) -> dict[str, Any]:
    """All measurements of one kind of features; `features_of` maps images (N, 3, 64, 64) uint8 to (N, D)."""
    nb, (_, test, val) = notebook(), archive(seed)
    seen = features_of(test.images)
    return {
        "as drawn": nb.measured(seen, test) | {"one company": nb.one_company(seen, test)},
        "masked": nb.measured(features_of(masked(test.images)), test),
        "probe": nb.probed(features_of(val.images), val, seen, test),
        "moved": nb.moved(features_of, test),
    }


def baselines(seed: int) -> dict[str, Any]:
    """Features without training on drawings: gray pixels, an untrained tower, the demo."""
    nb = notebook()
    torch.manual_seed(seed)
    untrained, demo = nb.SimCLR().eval(), minclip.load("demo")[0]
    return {
        "pixels": kept(nb.gray, seed),
        "random": kept(lambda images: nb.tower_features(untrained.tower, images), seed),
        "demo": kept(lambda images: nb.embedded(demo, images), seed),
    }


def simclr(seed: int, *, cover: bool = False, min_crop: float = 0.6) -> dict[str, Any]:
    """SimCLR; `cover` hides the title blocks in training, `min_crop` is the smallest crop, a fraction of the area."""
    nb, train = notebook(), archive(seed)[0]
    images = masked(train.images) if cover else train.images
    model, losses = nb.train_simclr(images, steps=STEPS, seed=seed, min_crop=min_crop)
    found = kept(lambda x: nb.tower_features(model.tower, x), seed)
    with torch.no_grad():
        head = nb.measured(model.head(nb.tower_features(model.tower, archive(seed)[1].images)), archive(seed)[1])
    return found | {"head": head, "first losses": losses[:5], "last loss": sum(losses[-20:]) / 20}


def captions(seed: int, *, company: bool = False) -> dict[str, Any]:
    """CLIP on captions of the part; with `company`, they name the company as well."""
    nb, (train, test, _) = notebook(), archive(seed)
    model, _, losses = nb.train_clip(train.images, train.captions(seed, company=company), steps=STEPS, seed=seed)
    found = kept(lambda x: nb.embedded(model, x), seed)
    tower = nb.measured(nb.tower_features(model.vision, test.images), test)
    return found | {"tower": tower, "first losses": losses[:5], "last loss": sum(losses[-20:]) / 20}


def rates(seed: int) -> dict[str, Any]:
    """The search for the learning rate: precision at 5 for the part on validation pages after 100 steps."""
    nb, (train, _, val) = notebook(), archive(seed)
    out: dict[str, Any] = {"simclr": {}, "captions": {}}
    for lr in RATES:
        model, _ = nb.train_simclr(train.images, steps=100, seed=seed, lr=lr)
        out["simclr"][f"{lr:g}"] = nb.measured(nb.tower_features(model.tower, val.images), val)["part"]
        clip, _, _ = nb.train_clip(train.images, train.captions(seed), steps=100, seed=seed, lr=lr)
        out["captions"][f"{lr:g}"] = nb.measured(nb.embedded(clip, val.images), val)["part"]
    return out


PARTS = {
    "rates": rates,
    "baselines": baselines,
    "simclr": simclr,
    "simclr_masked": lambda seed: simclr(seed, cover=True),
    "simclr_weak": lambda seed: simclr(seed, min_crop=0.95),  # views that keep the block
    "captions": captions,
    "captions_company": lambda seed: captions(seed, company=True),
}


def spot_check() -> dict[tuple[Any, ...], float]:
    """Precision of pixels, and the first five losses of SimCLR and of CLIP on captions."""
    nb, (train, test, _) = notebook(), archive(0)
    out: dict[tuple[Any, ...], float] = {}
    for way, images in {"as drawn": test.images, "masked": masked(test.images)}.items():
        found = nb.measured(nb.gray(images), test)
        out |= {("baselines", "pixels", way, name, None): found[name] for name in ("part", "company")}
    _, first = nb.train_simclr(train.images, steps=STEPS, seed=0, stop=5)
    _, _, of_captions = nb.train_clip(train.images, train.captions(0), steps=STEPS, seed=0, stop=5)
    for step in range(5):
        out["simclr", "first losses", step] = first[step]
        out["captions", "first losses", step] = of_captions[step]
    return out


if __name__ == "__main__":
    common.main(__file__, PARTS)

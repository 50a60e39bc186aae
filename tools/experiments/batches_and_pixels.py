"""Batch size and resolution at equal compute (notebook 15; paper, section 2.5): zero-shot accuracy of small CLIPs.

The parts ("val" is the accuracy to choose by, "test" the one to report):

    rates     batch -> rate -> "val" after 32,768 images of 16 pixels; RATES holds the choices
    batches   batch -> group (a pair's negatives are the others of its group), the same images at the chosen rate
    shorter   batch -> the same after 8,192 images, each pair against its whole batch
    pixels    48 or 64 pixels all along, or 64 in the last epoch only, at equal compute
"""

import copy
from functools import cache, partial
from typing import Any

import common
import torch

notebook = partial(common.from_notebook, "15_compute_and_scale")  # runs its cells at the first call only
IMAGES, SHORTER = 32_768, 8192
GRID = {16: (1e-3, 2e-3, 4e-3), 64: (2e-3, 4e-3, 8e-3), 256: (2e-3, 4e-3, 8e-3), 1024: (2e-3, 4e-3, 8e-3)}
RATES = {16: 2e-3, 64: 4e-3, 256: 4e-3, 1024: 4e-3}  # the best in the part "rates"
CELLS = [(16, 16), (64, 64), (256, 256), (1024, 1024), (64, 4), (64, 16), (256, 4), (256, 16), (256, 64)]
EPOCH = 4096  # training scenes of the part "pixels"
# images seen, at equal compute: 48 pixels only; 64 pixels only; 48 pixels before a last epoch at 64
AT_48, AT_64, BEFORE = 8 * EPOCH, 18_432, 25_472
# FIRST: with seed 0, 16,384 scenes and 1e-3, 2e-3, 4e-3, these had 24.5, 26.6, 23.3 % of 2,000 validation scenes right
# at 48 pixels, and 16.0, 15.9, 13.9 % at 64
FIRST, LAST = 2e-3, (1 / 20, 1 / 4, 1)  # the learning rate, and that of the last epoch as a fraction of it
TOLERANCE = 0.02


@cache
def scenes(pixels: int) -> dict[str, Any]:
    """Training, validation and test scenes of this size; all splits have the vocabulary of the training captions."""
    sizes = (
        {"train": 16_384, "val": 4000, "test": 4000} if pixels == 16 else {"train": EPOCH, "val": 1000, "test": 3000}
    )
    out: dict[str, Any] = {}
    for split, size in sizes.items():
        words = out["train"].vocabulary if out else None
        out[split] = notebook().BagScenes(split, size, pixels, words)
    return out


def new_model(tower: str, seed: int, *pixels: int) -> Any:
    """A CLIP with untrained weights; `pixels` is the input size of a tower that has one."""
    torch.manual_seed(seed)
    words = len(scenes(*pixels or (16,))["train"].vocabulary)
    return notebook().BagCLIP(getattr(notebook(), tower)(*pixels), words)


@cache
def trained(seed: int, batch: int, group: int, rate: float, images: int = IMAGES) -> dict[str, float]:
    """Accuracies and losses after `images` images; a pair's negatives are the `group` - 1 others of its group."""
    nb, data, model = notebook(), scenes(16), new_model("small_conv", seed)
    own = nb.train_groups(model, data["train"], images=images, batch=batch, group=group, rate=rate, seed=seed)
    accuracy = {split: nb.zero_shot_of(model, data[split]) for split in ("val", "test")}
    return {**accuracy, "own loss": own, "loss at 256": nb.loss_at(256, model, data["test"])}


def rates(seed: int) -> dict[str, Any]:
    return {str(b): {f"{rate:g}": {"val": trained(seed, b, b, rate)["val"]} for rate in GRID[b]} for b in RATES}


def batches(seed: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for batch, group in CELLS:
        out.setdefault(str(batch), {})[str(group)] = trained(seed, batch, group, RATES[batch])
    return out


def shorter(seed: int) -> dict[str, Any]:
    return {str(batch): trained(seed, batch, batch, rate, SHORTER) for batch, rate in RATES.items()}


def read(model: Any, pixels: int) -> dict[str, float]:
    """Zero-shot accuracies, fractions of 1, on images of this size."""
    return {split: notebook().zero_shot_of(model, scenes(pixels)[split]) for split in ("val", "test")}


def resized(model: Any) -> Any:
    """A copy of a model of 48 pixels that takes 64."""
    model = copy.deepcopy(model)
    model.tower.resize(64)  # the positions of 3 × 3 patches become those of 4 × 4
    return model


def pixels(seed: int) -> dict[str, Any]:
    """Accuracies of the three ways, and of the models at 48 pixels on images of 64 without training there."""

    def fit(model: Any, size: int, images: int, rate: float, of: int) -> Any:
        train = scenes(size)["train"]
        notebook().train_groups(model.train(), train, images=images, batch=64, group=64, rate=rate, seed=of)
        return model

    small = fit(new_model("small_vit", seed, 48), 48, AT_48, FIRST, seed)
    start = fit(new_model("small_vit", seed, 48), 48, BEFORE, FIRST, seed)
    large = fit(new_model("small_vit", seed, 64), 64, AT_64, FIRST, seed)
    ends = {f"{part:g}": fit(resized(start), 64, EPOCH, part * FIRST, 100 + seed) for part in LAST}
    return {
        "48": read(small, 48),
        "48, asked at 64": read(resized(small), 64),
        "64": read(large, 64),
        "before the last": read(start, 48),
        "before the last, asked at 64": read(resized(start), 64),
        "last at 64": {part: read(model, 64) for part, model in ends.items()},
    }


PARTS = {"rates": rates, "batches": batches, "shorter": shorter, "pixels": pixels}


def spot_check() -> dict[tuple[Any, ...], float]:
    """The shortest run of the part "batches": 32 steps of 1,024 pairs."""
    found = trained(0, 1024, 1024, RATES[1024])
    return {("batches", "1024", "1024", name, None): found[name] for name in ("test", "own loss")}


if __name__ == "__main__":
    common.main(__file__, PARTS)

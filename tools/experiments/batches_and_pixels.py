"""Batch size and resolution at equal compute (notebook 15; paper, section 2.5): zero-shot accuracy of small CLIPs.

The parts; all entries but those of "longer" have every rate of the search: "val" to choose by and "test" to report:

    batches   batch -> group (a pair's negatives: the others of its group) -> rate, after 32,768 images of 16 pixels
    longer    batch -> the same after 65,536 images, each pair against its whole batch, at the rate chosen above
    pixels    48 or 64 pixels all along, or the last epoch at 64 after 48, at equal compute -> rate
"""

import copy
from functools import cache
from types import SimpleNamespace
from typing import Any

import common
import torch

IMAGES, LONGER = 32_768, 65_536
CELLS = [(16, 16), (64, 4), (64, 16), (64, 64), (256, 4), (256, 16), (256, 64), (256, 256), (1024, 1024)]
GRID = {16: (1e-3, 2e-3), 64: (4e-3, 8e-3), 256: (4e-3, 8e-3), 1024: (4e-3, 8e-3)}
LONGER_RATES = {64: 4e-3, 256: 4e-3, 1024: 4e-3}  # the best in the part "batches"
EPOCH = 4096  # scenes of the part "pixels"; its images at 48 and at 64 pixels cost the same compute in all ways
AT_48, AT_64, BEFORE = 8 * EPOCH, 18_432, 25_472
PIXEL_RATES, LAST = (2e-3,), (1 / 20, 1 / 4, 1)  # LAST: the rate of the last epoch, as a fraction of the first
TOLERANCE = 0.02


@cache
def notebook() -> SimpleNamespace:
    return common.from_notebook("15_compute_and_scale")


@cache
def scenes(pixels: int, train: int) -> dict[str, Any]:
    out = {"train": notebook().BagScenes("train", train, pixels)}
    for split in ("val", "test"):
        out[split] = notebook().BagScenes(split, 4000, pixels, out["train"].vocabulary)
    return out


def new_model(tower: str, seed: int, *pixels: int) -> Any:
    torch.manual_seed(seed)
    tower = getattr(notebook(), tower)(*pixels)
    return notebook().BagCLIP(tower, len(scenes(*((pixels[0], EPOCH) if pixels else (16, 16_384)))["train"].vocabulary))


def trained(seed: int, batch: int, group: int, rate: float, images: int) -> dict[str, float]:
    nb, data, model = notebook(), scenes(16, 16_384), new_model("small_conv", seed)
    own = nb.train_groups(model, data["train"], images=images, batch=batch, group=group, rate=rate, seed=seed)
    accuracy = {split: nb.zero_shot_of(model, data[split]) for split in ("val", "test")}
    return {**accuracy, "own loss": own, "loss at 256": nb.loss_at(256, model, data["test"])}


def batches(seed: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for batch, group in CELLS:
        found = {f"{rate:g}": trained(seed, batch, group, rate, IMAGES) for rate in GRID[batch]}
        out.setdefault(str(batch), {})[str(group)] = found
    return out


def longer(seed: int) -> dict[str, Any]:
    return {str(batch): trained(seed, batch, batch, rate, LONGER) for batch, rate in LONGER_RATES.items()}


def read(model: Any, pixels: int) -> dict[str, float]:
    return {split: notebook().zero_shot_of(model, scenes(pixels, EPOCH)[split]) for split in ("val", "test")}


def resized(model: Any) -> Any:
    model = copy.deepcopy(model)
    model.tower.resize(64)  # the positions of 3 × 3 patches become those of 4 × 4
    return model


def pixels(seed: int) -> dict[str, Any]:
    """The ways at equal compute, and the models of 48 pixels on images of 64 without any training there."""
    nb, out = notebook(), {"48": {}, "48, asked at 64": {}, "64": {}, "before the last": {}, "last at 64": {}}

    def fit(model: Any, size: int, images: int, rate: float, of: int) -> Any:
        train = scenes(size, EPOCH)["train"]
        nb.train_groups(model.train(), train, images=images, batch=64, group=64, rate=rate, seed=of)
        return model

    for rate in PIXEL_RATES:
        key = f"{rate:g}"
        small = fit(new_model("small_vit", seed, 48), 48, AT_48, rate, seed)
        out["48"][key], out["48, asked at 64"][key] = read(small, 48), read(resized(small), 64)
        out["64"][key] = read(fit(new_model("small_vit", seed, 64), 64, AT_64, rate, seed), 64)
        start = fit(new_model("small_vit", seed, 48), 48, BEFORE, rate, seed)
        out["before the last"][key] = {**read(start, 48), "asked at 64": read(resized(start), 64)}
        out["last at 64"][key] = {
            f"{part:g}": read(fit(resized(start), 64, EPOCH, part * rate, 100 + seed), 64) for part in LAST
        }
    return out


PARTS = {"batches": batches, "pixels": pixels, "longer": longer}


def spot_check() -> dict[tuple[Any, ...], float]:
    """The shortest run of the part "batches": 32 steps of 1,024 pairs."""
    found = trained(0, 1024, 1024, 4e-3, IMAGES)
    return {("batches", "1024", "1024", "0.004", name, None): found[name] for name in ("test", "own loss")}


if __name__ == "__main__":
    common.main(__file__, PARTS)

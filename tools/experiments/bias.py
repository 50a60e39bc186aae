"""Notebook 10, sections on bias: which shapes a model calls stars if most stars in its training images are red."""

from typing import Any

import common

import minclip.data.shapes as shapes

notebook = common.from_notebook("10_where_pairs_come_from")
WORLDS = {"0.125": 0.125, "0.5": 0.5, "0.9": 0.9, "0.99": 0.99, "0.9 resampled": 0.9, "0.99 resampled": 0.99}


def figures(world: str, *, seed: int, epochs: tuple[int, ...], gallery: Any, images: Any) -> dict[str, Any]:
    scenes = notebook.star_world(WORLDS[world], seed=seed)
    scenes = notebook.resampled(scenes, seed) if "resampled" in world else scenes
    fitted = notebook.fit_pairs(notebook.pixels_of(scenes), shapes.captions_of(scenes), at=epochs, seed=seed)
    return {str(epoch): notebook.star_figures(model, gallery, images) for epoch, model in fitted}


def stars(seed: int) -> dict[str, Any]:
    """World -> epochs -> `star_figures` of the notebook."""
    gallery = notebook.balanced_gallery(seed=seed)
    shared = {"seed": seed, "gallery": gallery, "images": notebook.pixels_of(gallery)}
    longer = ("0.125", "0.9")
    return {world: figures(world, epochs=(2, 4, 8) + (16,) * (world in longer), **shared) for world in WORLDS}


def spot_check() -> dict[tuple, float]:
    gallery = notebook.balanced_gallery(seed=0)
    found = figures("0.9", seed=0, epochs=(2,), gallery=gallery, images=notebook.pixels_of(gallery))["2"]
    return {("stars", "0.9", "2", name, None): found[name] for name in ("red star is a star", "other star is a star")}


PARTS = {"stars": stars}
TOLERANCE = 0.25  # after two epochs, sums in another order change these fractions by up to 0.2

if __name__ == "__main__":
    common.main(__file__, PARTS)

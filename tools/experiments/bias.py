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


def first_steps(seed: int) -> dict[str, float]:
    """The loss of 64 pairs after 12 steps on 256: a quick check of data, model and training."""
    scenes = notebook.star_world(0.9, seed=seed).take(slice(0, 256))
    images, captions = notebook.pixels_of(scenes), shapes.captions_of(scenes)
    ((_, model),) = notebook.fit_pairs(images, captions, at=(3,), seed=seed)
    text = model.encode_text(notebook.tokens_of([five[0] for five in captions[:64]]))
    return {"loss": notebook.clip_loss(model.encode_image(images[:64]), text, model.logit_scale.exp()).item()}


def spot_check() -> dict[tuple, float]:
    return {("first_steps", "loss", None): first_steps(0)["loss"]}


PARTS = {"stars": stars, "first_steps": first_steps}
TOLERANCE = 0.01  # another CPU rounds differently

if __name__ == "__main__":
    common.main(__file__, PARTS)

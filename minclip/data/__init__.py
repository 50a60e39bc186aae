"""Data sets by name: `load_pairs("shapes" | "flickr8k" | "flickr30k" | "own" | "shards", split=…)` returns Pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..batches import Pairs, Task
from ..config import DataConfig, MinclipError, nearest, need
from .kaggle import fetched
from .photos.photographs import Drawn, find_photographs
from .shapes import load_shapes
from .shards import find_shards, load_shards

__all__ = ["OpenData", "Pairs", "Task", "load_pairs", "open_data"]

NAMES = ("shapes", "flickr8k", "flickr30k", "own", "shards")


@dataclass(frozen=True)
class OpenData:
    """An opened data set: `load(split, size=None)` returns the Pairs of a split.

    `evaluation_splits` are evaluated at the end of a run: "val", on which it was tuned, only if there is no other.
    """

    load: Callable[..., Pairs]
    evaluation_splits: tuple[str, ...]
    shards: tuple[str, ...] = ()  # for training: streamed, not loaded as a split
    names_test: bool = True  # whether the data say which images are for testing; otherwise a hash or nothing does


def load_pairs(
    name: str,
    split: str = "train",
    *,
    image_size: int = 64,
    root: str | Path | None = None,
    size: int | None = None,
    seed: int = 0,
    image_column: str | None = None,
    caption_column: str | None = None,
) -> Pairs:
    """Images (N, 3, S, S) uint8 with their captions; S is `image_size`.

    `name` is "shapes" (painted from `seed`), "flickr8k" or "flickr30k" (from the folder or zip `root`, or from where
    `minclip fetch` put it), "own" (your own images at `root`, a folder, a zip or a table), or "shards" (the first pairs
    of the last shard at `root`).  `split` is "train", "val", "test", for photographs also "all", or another of the
    data set; shards only have "val".  `size` limits it to the first images.  `image_column` and `caption_column` are
    columns of your own table: names, patterns or numbers (see data/README.md); for shards, `caption_column` is an
    extension or JSON field.  MinclipError: no such data set, root, split or column.
    """
    need(size is None or size > 0, f"size must be at least 1, or None for all, got {size}")  # a config reads 0 as None
    data = DataConfig(name, str(root or ""), image_column or "", caption_column or "", image_size, size)
    return open_data(data, seed=seed).load(split, size=size)


def open_data(data: DataConfig, *, seed: int = 0) -> OpenData:
    """Opens the data set of a config once for all splits; `seed` is for shapes.  MinclipError if it can't be read."""
    name, size = data.name, {"image_size": data.image_size}
    if name == "shapes":
        return OpenData(partial(load_shapes, **size, seed=seed), ("test", "heldout"))
    if name == "shards":  # the last one is for validation
        *shards, last = find_shards(data.root)
        load = partial(load_shards, [last], **size, caption_column=data.caption_column)
        return OpenData(load, ("val",), tuple(shards))
    need(name in NAMES, f"data.name {name!r} is not a data set{nearest(name, NAMES)}: choose from {', '.join(NAMES)}")
    if not (root := data.root or fetched(name)):
        own = "set data.root to a folder, a zip or a table (CSV, TSV, parquet or JSON)"
        flickr = f"run minclip fetch {name}, or set data.root to a folder or zip as Kaggle delivers it"
        raise MinclipError(f"data set {name} needs photographs: {own if name == 'own' else flickr}")
    found = find_photographs(name, root, (data.image_column, data.caption_column))
    named = "test" in found.splits and not isinstance(found.splits, Drawn)
    return OpenData(partial(found.load, **size), ("test",) if "test" in found.splits else ("val",), names_test=named)

"""Data sets by name: `load_pairs("shapes" | "flickr8k" | "flickr30k" | "own" | "shards", split=…)` gives Pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..batches import Pairs, Task
from ..config import DataConfig, MinclipError, nearest
from .kaggle import fetched

__all__ = ["OpenData", "Pairs", "Task", "load_pairs", "open_data"]

NAMES = ("shapes", "flickr8k", "flickr30k", "own", "shards")
SHARD_PAIRS = 1000  # of the last shard, for validation


@dataclass(frozen=True)
class OpenData:
    """A data set whose root has been read: `load(split, size=None)` gives the Pairs of a split.

    `evaluation_splits` are those of a run's final figures: not the one that it was chosen on, if there are others.
    """

    load: Callable[..., Pairs]
    evaluation_splits: tuple[str, ...]
    shards: tuple[str, ...] = ()  # the last one is for validation


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
    of the last shard at `root`).  `split` is "train", "val", "test", or another one of the data set; of shards, "val".
    `size` takes the first images only.  `image_column` and `caption_column` name the columns of your own table, if
    they have unusual names.  Raises MinclipError if there is no such data set, root, split or column.
    """
    if size is not None and size < 1:
        raise MinclipError(f"size must be at least 1, or None for all images, got {size}")
    columns = {"image_column": image_column or "", "caption_column": caption_column or ""}
    data = DataConfig(name, str(root or ""), image_size=image_size, **columns)
    return open_data(data, seed=seed).load(split, size=size)


def open_data(data: DataConfig, *, seed: int = 0) -> OpenData:
    """Reads what lies at `data.root`, once for all splits; `seed` is for shapes.  Raises MinclipError if it can't."""
    if data.name == "shapes":
        from .shapes import load_shapes

        return OpenData(partial(load_shapes, image_size=data.image_size, seed=seed), ("test", "heldout"))
    if data.name == "shards":
        from .shards import find_shards

        shards = find_shards(data.root)
        return OpenData(partial(_last_shard, shards[-1:], data.image_size), ("val",), tuple(shards))
    if data.name not in NAMES:
        guess, names = nearest(data.name, NAMES), ", ".join(NAMES)
        raise MinclipError(f"data.name {data.name!r} is not a data set{guess}: choose from {names}")
    if not (root := data.root or fetched(data.name)):
        table = "data set 'own' needs data.root: a folder, a zip or a table (CSV, TSV or parquet)"
        fetch = f"run minclip fetch {data.name}, or set data.root to a folder or zip as Kaggle delivers it"
        raise MinclipError(table if data.name == "own" else f"{data.name} needs its photographs: {fetch}")
    from .photos.photographs import find_photographs

    found = find_photographs(data.name, root, (data.image_column, data.caption_column))
    load = partial(found.load, image_size=data.image_size)
    return OpenData(load, ("test",) if "test" in found.splits() else ("val",))


def _last_shard(shards: list[str], image_size: int, split: str, *, size: int | None = None) -> Pairs:
    from .shards import first_pairs

    if split != "val":
        raise MinclipError(f"shards have no split {split!r} that can be held in memory: only 'val'")
    return first_pairs(shards, image_size=image_size, count=size or SHARD_PAIRS)

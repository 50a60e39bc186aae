"""Data sets by name: `load_pairs("shapes" | "flickr8k" | "flickr30k" | "own" | "shards", split)` gives Pairs."""

from pathlib import Path
from types import ModuleType

from ..batches import Pairs, Task
from ..config import DataConfig, MinclipError, nearest
from .kaggle import fetched

__all__ = ["Pairs", "Task", "evaluation_splits", "load_pairs"]

PHOTOGRAPHS = ("flickr8k", "flickr30k", "own")


def load_pairs(
    name: str,
    split: str = "train",
    image_size: int = 64,
    root: str | Path = "",
    size: int | None = None,
    seed: int = 0,
    columns: tuple[str, str] = ("", ""),
) -> Pairs:
    """Images (N, 3, S, S) uint8 with their captions.

    `name` is "shapes" (painted from `seed`), "flickr8k" or "flickr30k" (read from the folder or zip `root`, or from where
    `minclip fetch` brought it), "own" (people's own, read from `root`, too), or "shards" (the first of the last shard at
    `root`, for validation; the others are streamed); `split` is "train", "val", "test" or another one of the data set;
    `image_size` is S in pixels; `size` takes only the first images, 0 or None all; `columns` are the image column and the
    caption column of an own table, looked for where they are "".
    """
    if size is not None and size < 0:
        raise MinclipError(f"size {size} is negative: give the number of images, or 0 for all")
    if name == "shapes":
        from .shapes import load_shapes

        return load_shapes(split, image_size, size, seed)
    if name == "shards":
        return _last_shard(root, split, image_size, size)
    root = root or fetched(name)
    return _photographs(name, root).find_photographs(name, root, columns).load(split, image_size=image_size, size=size)


def _last_shard(root: str | Path, split: str, image_size: int, size: int | None) -> Pairs:
    from .shards import find_shards, first_pairs

    if split != "val":
        raise MinclipError(f"of shards only the split 'val' can be held in memory, not {split!r}")
    return first_pairs(find_shards(str(root))[-1:], image_size, size or 1000)


def evaluation_splits(data: DataConfig) -> tuple[str, ...]:
    """The splits that a run's final figures are taken on: never those that it was chosen on, where there are others."""
    if data.name == "shapes":
        return ("test", "heldout")
    if data.name == "shards":
        return ("val",)
    root, columns = data.root or fetched(data.name), (data.image_column, data.caption_column)
    found = _photographs(data.name, root).find_photographs(data.name, root, columns)
    return ("test",) if "test" in found.splits() else ("val",)


def _photographs(name: str, root: str | Path) -> ModuleType:
    if name not in PHOTOGRAPHS:
        raise MinclipError(
            f"no data set is named {name!r}{nearest(name, ('shapes', *PHOTOGRAPHS, 'shards'))}: choose from shapes, {', '.join(PHOTOGRAPHS)}, shards"
        )
    if not str(root) and name == "own":
        raise MinclipError("own pictures need their place: --data.root FOLDER, ZIP or TABLE (CSV, TSV or parquet)")
    if not str(root):
        raise MinclipError(
            f"{name} needs its photographs: minclip fetch {name}, or --data.root FOLDER or ZIP, as Kaggle delivers them (adityajn105/{name})"
        )
    from .photos import photographs

    return photographs

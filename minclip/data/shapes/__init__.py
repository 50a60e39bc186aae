"""The shapes world: captioned scenes, painted from a seed, so that the course needs no download.

Every number is an integer hash or a float built from + - * / and sqrt alone, which IEEE 754 rounds in one way only:
the same seed gives the same bytes on every machine, Python and NumPy.  Scene `i` of a split does not depend on how
many scenes are asked for.  This file decides what is in a scene; `painting` paints it, `text` writes about it.
"""

import contextlib
import hashlib
import os
from pathlib import Path

import numpy as np

from ...batches import Pairs
from ...config import need
from ...weights.hub import data_folder
from .painting import SHIFTS, below, draws, paint, shift
from .text import COLORS, FILLS, FRUIT, HELD_OUT, RADII, SHAPES, WORDS, Scenes, captions_of, tasks_of

SPLITS = {"train": 20_000, "val": 1_000, "test": 1_000, "heldout": 1_000}
CACHED = 5_000  # so many scenes take seconds to paint: they are kept


def load_shapes(split: str = "train", *, image_size: int = 64, size: int | None = None, seed: int = 0) -> Pairs:
    """Scenes (N, 3, S, S) uint8 with five captions each, and the tasks that can be asked about them, as Pairs.

    `split` is "train", "val", "test", "heldout", or "test-" and a shift ("test-sketch"); `size` is N, by default 20,000
    for "train" and 1,000 for the others; `image_size` is S.  Raises MinclipError if there is no such split, or S < 16.
    """
    base, _, kind = split.partition("-")
    names = [*SPLITS, *(f"test-{kind}" for kind in SHIFTS)]
    need(split in names, f"the shapes world has no split {split!r}: choose from {', '.join(names)}")
    need(image_size >= 16, f"data.image_size {image_size}: scenes need at least 16 pixels")
    s = scenes(base, size or SPLITS[base], seed=seed)
    images = shift(paint(s, image_size, sketch=kind == "sketch"), kind, seed=seed) if kind else painted(s, image_size)
    return Pairs(images, captions_of(s), [f"{split}/{i:05d}" for i in s.index], tasks=tasks_of(s))


def painted(s: Scenes, image_size: int) -> np.ndarray:
    """`paint`; many scenes are painted once, into the data folder's cache, for as long as this code stays the same."""
    if len(s.index) < CACHED:
        return paint(s, image_size)
    key = hashlib.sha256(f"{s.seed} {s.split} {len(s.index)} {image_size}".encode())
    for file in sorted(Path(__file__).parent.glob("*.py")):
        key.update(file.read_bytes())
    path = data_folder() / "cache" / f"shapes-{key.hexdigest()[:16]}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # not there, or cut off
        return np.load(path, mmap_mode="r")
    images = paint(s, image_size)
    with contextlib.suppress(OSError):  # a full disk, or one that can't be written: painted again next time
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in path.parent.glob("shapes-*.npy"):
            old.unlink()
        unfinished = path.with_suffix(f".{os.getpid()}.npy")
        np.save(unfinished, images)
        os.replace(unfinished, path)
    return images


def scenes(split: str, size: int, *, seed: int = 0) -> Scenes:
    """`size` scenes of "train", "val", "test" or "heldout" (one object each, with a held-out pair)."""
    index, held_out = np.arange(size), split == "heldout"
    u = draws(seed, split, index, slots=64)
    o = u[:, 24:].reshape(size, 4, 10)  # ten draws for each of the four objects

    count = np.searchsorted([60, 82, 91], below(u[:, 0], 100), side="right") + 1
    word = np.where(below(u[:, 1], 100) < 15, below(u[:, 2], len(WORDS)), -1)
    if held_out:
        count[:], word[:] = 1, -1
    count = np.where(word >= 0, np.minimum(count, 2), count)

    triples = [(c, s, f) for c in range(8) for s in range(8) for f in range(3)]
    pairs = ({f"{COLORS[c]} {SHAPES[s]}", f"{FILLS[f]} {SHAPES[s]}"} for c, s, f in triples)
    kinds = np.array([t for t, shown in zip(triples, pairs) if bool(shown & {*HELD_OUT}) == held_out])
    color, shape, fill = np.moveaxis(kinds[below(o[:, :, 0], len(kinds))], -1, 0)
    large = below(o[:, :, 1], 2)
    fruit = (below(o[:, :, 2], 16) == 0) & (not held_out)
    replaced = ((COLORS.index("orange"), color), (FRUIT, shape), (0, fill))
    color, shape, fill = (np.where(fruit, of_fruit, other) for of_fruit, other in replaced)
    # "two green stars": a third of the scenes show one kind of object only
    alike = (below(u[:, 3], 3) == 0)[:, None]
    color, shape, fill, large = (np.where(alike, a[:, :1], a) for a in (color, shape, fill, large))

    # Centers and radii in 64ths of the image's side.  Each object has its own box, so none overlap: a single object
    # gets the whole image, several objects get quadrants (0 1 in the top row, 2 3 below) in random order.
    alone, word_top = (count == 1)[:, None], below(u[:, 4], 2)
    radius = np.array(RADII)[6 * large + 3 * alone + below(o[:, :, 3], 3)]
    quadrant = np.argsort(u[:, 10:14], axis=1, kind="stable")
    left, top, width = (np.where(alone, a, b) for a, b in ((0, quadrant % 2 * 32), (0, quadrant // 2 * 32), (64, 32)))
    # a written word takes a band of 20 above or below; the objects share the remaining 44, side by side
    written = (word >= 0)[:, None]
    left = np.where(written & ~alone, (np.arange(4) + quadrant[:, :1]) % 2 * 32, left)
    top, height = np.where(written, word_top[:, None] * 20, top), np.where(written, 44, width)
    x = left + radius + 1 + (width - 2 * (radius + 1)) * below(o[:, :, 4], 256) / 255
    y = top + radius + 1 + (height - 2 * (radius + 1)) * below(o[:, :, 5], 256) / 255

    setting = {"word_top": word_top, "background": below(u[:, 5], 3), "dark": below(u[:, 6], 2)}
    jitter = {"tilt": below(o[:, :, 6], 4), "noise": u[:, 8:24], "tint": o[:, :, 7:]}
    words = draws(seed, split + "/captions", index, slots=200).reshape(size, 5, 40)
    return Scenes(
        index, seed, split, count, color, shape, fill, large, x, y, radius, word, **setting, **jitter, words=words
    )

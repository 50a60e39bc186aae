"""Controlled worlds for notebook 13: groups to count, two objects in relation, and stars with five or six points.

A seed gives the same images on every machine; groups and scenes of two objects are painted by the shapes world.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..data.shapes.painting import RGB, below, draws, paint
from ..data.shapes.text import COLORS, NUMBERS, PLURALS, SHAPES, Scenes
from .glyphs import turned

RELATIONS = ("left of", "right of", "above", "below", "nearer than", "farther than")  # i and i ^ 1 are opposites
STARS = ("five-pointed", "six-pointed")


@dataclass(frozen=True)
class Groups:
    """n images of 1 to 4 objects of one color and shape: images (n, 3, S, S) uint8, the others (n,) int64."""

    images: np.ndarray
    count: np.ndarray
    color: np.ndarray  # index into COLORS
    shape: np.ndarray  # index into SHAPES

    def noun(self, i: int, count: int) -> str:
        """ "red star", or "red stars" if `count` is more than 1."""
        shape = SHAPES[self.shape[i]]
        return f"{COLORS[self.color[i]]} {shape if count == 1 else PLURALS.get(shape, shape + 's')}"

    def counted(self, i: int, count: int) -> str:
        """ "three red stars", for the color and shape of image `i` and any `count` from 1 to 4."""
        return f"{NUMBERS[count - 1]} {self.noun(i, count)}"


@dataclass(frozen=True)
class TwoObjects:
    """n images of objects a and b, of different colors and shapes: images (n, 3, S, S) uint8, the others int64."""

    images: np.ndarray
    color: np.ndarray  # (n, 2) index into COLORS, of a and of b
    shape: np.ndarray  # (n, 2) index into SHAPES
    place: np.ndarray  # (n,) position of a relative to b: index into RELATIONS, 0 to 3
    depth: np.ndarray  # (n,) 4 if a is nearer (larger) than b, 5 if farther

    def names(self, i: int, *, swapped: bool = False) -> tuple[str, str]:
        """Names of a and b in image `i`: "a red star", "a blue circle"; `swapped` exchanges the colors."""
        colors = [COLORS[k] for k in self.color[i]]
        both = zip(colors[::-1] if swapped else colors, self.shape[i])
        a, b = (f"{'an' if color == 'orange' else 'a'} {color} {SHAPES[shape]}" for color, shape in both)
        return a, b


def taken(world: Groups, rows: np.ndarray) -> Groups:
    """The world with only the images `rows`: a mask (n,) of bool, or indices."""
    return replace(world, **{name: column[rows] for name, column in vars(world).items()})


def groups(seed: int, n: int, *, image_size: int = 32, counts: Sequence[int] = (1, 2, 3, 4)) -> Groups:
    """n images of `image_size` pixels; count (one of `counts`, 1 to 4), color, shape and sizes are independent."""
    u = draws(seed, "limits/groups", np.arange(n), slots=40)
    count = np.array(counts)[below(u[:, 0], len(counts))]
    color, shape = below(u[:, 1], len(COLORS)), below(u[:, 2], len(SHAPES))
    radius = 9 + below(u[:, 4:8], 3) / 2  # (n, 4), small enough for a quarter of the image each
    quadrant = np.argsort(u[:, 8:12], axis=1, kind="stable")
    x, y = (corner * 32 + radius + 1 + (30 - 2 * radius) * below(u[:, k : k + 4], 256) / 255
            for corner, k in ((quadrant % 2, 12), (quadrant // 2, 16)))  # fmt: skip
    columns = {"color": color, "shape": shape}
    repeated = {name: np.repeat(column[:, None], 4, axis=1) for name, column in columns.items()}
    images = _painted(seed, "limits/groups", image_size, count=count, x=x, y=y, radius=radius, **repeated)
    return Groups(images, count, color, shape)


def two_objects(seed: int, n: int, *, image_size: int = 32, kinds: int = 8) -> TwoObjects:
    """n images of `image_size` pixels with `kinds` colors and shapes, 2 to 8; kinds, place, depth are independent."""
    u = draws(seed, "limits/couples", np.arange(n), slots=40)
    color, shape = (np.stack([a, (a + 1 + b) % kinds], axis=1) for a, b in (
        (below(u[:, k], kinds), below(u[:, k + 1], kinds - 1)) for k in (0, 2)))  # fmt: skip
    place, depth = below(u[:, 4], 4), 4 + below(u[:, 5], 2)
    far, side = 15 + below(u[:, 6:8], 5) - 2, below(u[:, 8:10], 13) - 6
    sign = np.stack([np.where(place % 2 == 0, -1, 1), np.where(place % 2 == 0, 1, -1)], axis=1)
    along, across = 32 + sign * far, 32 + side
    flat = (place < 2)[:, None]  # side by side, else one above the other
    larger = np.stack([depth == 4, depth == 5], axis=1)
    radius = np.where(larger, 13, 9) + below(u[:, 10:12], 3) / 2
    x, y = np.where(flat, along, across), np.where(flat, across, along)
    two = {"x": x, "y": y, "radius": radius, "color": color, "shape": shape}
    four = {name: np.concatenate([column, column], axis=1) for name, column in two.items()}  # the last two are unused
    images = _painted(seed, "limits/couples", image_size, count=np.full(n, 2), **four)
    return TwoObjects(images, color, shape, place, depth)


def _painted(seed: int, stream: str, image_size: int, **drawn: np.ndarray) -> np.ndarray:
    """Images (n, 3, S, S) uint8 of scenes with count (n,), and the objects' x, y, radius, color and shape (n, 4)."""
    n = len(drawn["count"])
    u, zeros = draws(seed, stream + "/setting", np.arange(n), slots=40), np.zeros((n, 4), dtype=np.int64)
    setting = {"background": below(u[:, 0], 3), "dark": below(u[:, 1], 2), "noise": u[:, 8:24], "tilt": u[:, 2:6] % 4}
    setting |= {"tint": u[:, 24:36].reshape(n, 4, 3), "word": np.full(n, -1), "word_top": zeros[:, 0]}
    same = {"fill": zeros, "large": zeros, "words": np.zeros((n, 5, 40), dtype=np.int64)}
    return paint(Scenes(index=np.arange(n), seed=seed, split=stream, **drawn, **setting, **same), image_size)


# ---- stars


@dataclass(frozen=True)
class Stars:
    """n images of one star: images (n, 3, S, S) uint8, the others (n,) int64."""

    images: np.ndarray
    six: np.ndarray  # 1 if it has six points, 0 if five
    color: np.ndarray  # index into COLORS


def stars(seed: int, n: int, *, image_size: int = 32) -> Stars:
    """n stars with five or six points; position, size, rotation (up to 12 degrees) and color don't depend on that."""
    u = draws(seed, "limits/stars", np.arange(n), slots=16)
    six, color = below(u[:, 0], 2), below(u[:, 1], len(COLORS))
    images = np.stack([_star(image_size, 5 + int(s), RGB[c], row) for s, c, row in zip(six, color, u[:, 2:])])
    return Stars(images.transpose(0, 3, 1, 2), six, color)


def _star(size: int, points: int, rgb: np.ndarray, u: np.ndarray) -> np.ndarray:
    """One star (size, size, 3) uint8; `u` (14,) in [0, 2**32) gives size, rotation, position, background and tint."""
    r = u / 2**32
    radius, cx, cy = size * (0.2 + 0.06 * r[0]), size * (0.32 + 0.36 * r[2]), size * (0.32 + 0.36 * r[3])
    x, y = (np.arange(size)[None, :] + 0.5 - cx) / radius, (np.arange(size)[:, None] + 0.5 - cy) / radius
    turn = below(int(u[1]), 25) - 12 - 90  # one arm points up, to within 12 degrees
    arms = [turned(turn + 360 * i / points) for i in range(points)]
    along = np.stack([c * x + s * y for c, s in arms])  # (points, size, size): distance along each arm
    across = np.abs(np.stack([c * y - s * x for c, s in arms]))
    nearest = along.argmax(axis=0)[None]
    along, across = (np.take_along_axis(a, nearest, axis=0)[0] for a in (along, across))
    c, s = turned(180 / points)  # an edge runs from the tip at (1, 0) to (c, s) / 2, halfway to the next tip
    nx, ny = s / 2, 1 - c / 2
    distance = (nx * (along - 1) + ny * across) / float(np.sqrt(nx * nx + ny * ny))
    alpha = np.floor(np.clip(0.5 - distance * radius, 0, 1) * 255 + 0.5).astype(np.int64)[..., None]
    back = np.where(below(int(u[4]), 2), 200, 30) + below(u[5:8], 41) - 20
    image = back + (rgb + below(u[8:11], 31) - 15 - back) * alpha // 255
    return np.clip(image, 0, 255).astype(np.uint8)

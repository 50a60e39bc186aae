"""Glyphs: invented breeds of small creatures, drawn from a grammar of seven traits, for the game of notebook 11.

A seed gives the same breeds and pictures on each machine: random numbers are hashes, sines and cosines are rounded.
"""

from collections.abc import Sequence

import numpy as np

from ..config import need
from ..data.shapes.painting import below, draws

TRAITS = {
    "body": ("round", "square", "triangular", "oval"),
    "arms": ("three", "four", "five", "six"),
    "length": ("short", "long"),
    "ending": ("knobs", "forks", "bars"),
    "coat": ("plain", "striped", "dotted"),
    "eyes": ("one", "two"),
    "tail": ("straight", "curly", "split"),
}
SIZES = tuple(len(options) for options in TRAITS.values())
COUNT = int(np.prod(SIZES))  # 1,728 possible breeds
RGB = np.array([list(bytes.fromhex(c)) for c in "d65a31 e0a526 3f9b4f 3aa6a6 4a69c4 9a55b0 d873a0 8a6a4a".split()])
_BEGIN, _MIDDLE, _END = "v m t b d k r z l n".split(), "el or ani um ira og".split(), "mo ka vin dee tu bas".split()


def breeds(seed: int, count: int, *, unseen: bool) -> np.ndarray:
    """(count, 7) int traits of different breeds: of the fifth that no model trains on if `unseen`, else of the rest.

    Raises MinclipError if there are fewer than `count`.
    """
    kept = np.flatnonzero((draws(0, "glyphs/unseen", np.arange(COUNT), slots=1)[:, 0] % 5 == 0) == unseen)
    need(count <= len(kept), f"there are {len(kept)} such breeds, asked for {count}")
    order = np.argsort(draws(seed, "glyphs/breeds", kept, slots=1)[:, 0], kind="stable")
    return np.stack(np.unravel_index(kept[order[:count]], SIZES), axis=1)


def named_traits(seed: int, count: int, *, traits: int) -> np.ndarray:
    """(count, 7) bool: which of the seven traits each breed's sentence names, `traits` of them."""
    u = draws(seed, "glyphs/named", np.arange(count), slots=7)
    return u.argsort(axis=1, kind="stable").argsort(axis=1) < traits


def names(count: int) -> list[str]:
    """The first `count` of 60 invented names, all different."""
    return [b + _MIDDLE[(i + j) % 6] + _END[(i * 5 + j) % 6] for j in range(6) for i, b in enumerate(_BEGIN)][:count]


def sentence(breed: Sequence[int], named: Sequence[bool], *, name: str = "") -> str:
    """The named ones of a breed's traits, (7,) each: "a velmo has long arms with knobs and a curly tail"."""
    said = {key: TRAITS[key][int(t)] if n else "" for key, t, n in zip(TRAITS, breed, named)}
    arms = " ".join(filter(None, (said["arms"], said["length"], "arms")))
    arms += f" with {said['ending']}" if said["ending"] else ""
    eyes = {"one": "one eye", "two": "two eyes"}.get(said["eyes"])
    body = f"a{'n' * (said['body'] == 'oval')} {said['body']} body" if said["body"] else ""
    coat, tail = (f"a {said[trait]} {trait}" if said[trait] else "" for trait in ("coat", "tail"))
    *first, last = filter(None, (body, arms if arms != "arms" else "", coat, eyes, tail))
    return f"{f'a {name}' if name else 'it'} has {' and '.join(filter(None, (', '.join(first), last)))}"


def own_traits(of_breeds: np.ndarray, *, seed: int, odd: float = 0.2) -> np.ndarray:
    """Traits (n, 7) of an animal for each row of `of_breeds` (n, 7); a share `odd` differs from its breed in one."""
    own, u = np.array(of_breeds), draws(seed, "glyphs/odd", np.arange(len(of_breeds)), slots=3)
    for row in np.flatnonzero(u[:, 0] < odd * 2**32):
        k = u[row, 1] % 7
        own[row, k] = (own[row, k] + 1 + below(u[row, 2], SIZES[k] - 1)) % SIZES[k]
    return own


def pictures(own: np.ndarray, *, seed: int, size: int = 64) -> np.ndarray:
    """Images (n, 3, size, size) uint8 of animals with these traits (n, 7); color, angle, place and grain vary."""
    u = draws(seed, "glyphs/looks", np.arange(len(own)), slots=12)
    images = np.stack([_paint(traits, row, size) for traits, row in zip(own, u)])
    grain = below(draws(seed, "glyphs/grain", np.arange(len(own)), slots=size**2), 33).reshape(-1, size, size, 1) - 16
    return np.clip(images + grain, 0, 255).astype(np.uint8).transpose(0, 3, 1, 2)


# ---- drawing: distances to outlines, in a frame in which the creature has radius 1, x to the right and y down


def turned(degrees: float) -> tuple[float, float]:
    """Cosine and sine, rounded, so that they are the same on each machine."""
    return round(float(np.cos(np.deg2rad(degrees))), 6), round(float(np.sin(np.deg2rad(degrees))), 6)


def _stroke(x: np.ndarray, y: np.ndarray, a: tuple, b: tuple, width: float) -> np.ndarray:
    """Distance to a line from a to b with round ends."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    t = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return np.sqrt((x - a[0] - t * dx) ** 2 + (y - a[1] - t * dy) ** 2) - width


def _disc(x: np.ndarray, y: np.ndarray, at: tuple, radius: float) -> np.ndarray:
    return np.sqrt((x - at[0]) ** 2 + (y - at[1]) ** 2) - radius


def _limbs(x: np.ndarray, y: np.ndarray, traits: np.ndarray) -> np.ndarray:
    """Arms with their endings, and the tail."""
    _, arms, length, ending, _, _, tail = traits.tolist()
    out, far = [], (0.66, 0.95)[length]
    for i in range(arms + 3):
        c, s = turned(-90 - 125 + 250 * i / (arms + 2))

        def at(along: float, across: float, c: float = c, s: float = s) -> tuple[float, float]:
            return along * c - across * s, along * s + across * c

        neck = far - 0.16 if ending == 1 else far
        out.append(_stroke(x, y, (0, 0), at(neck, 0), 0.045))
        out += [_disc(x, y, at(far, 0), 0.115)] * (ending == 0)
        for side in (-1, 1) if ending else ():
            out.append(_stroke(x, y, at(neck, 0), at(far, 0.13 * side), 0.04))
    out.append(_stroke(x, y, (0, 0), (0, (0.95, 0.6, 0.62)[tail]), (0.06, 0.05, 0.06)[tail]))
    if tail == 1:
        out.append(np.abs(_disc(x, y, (0.15, 0.72), 0.17)) - 0.05)
    elif tail == 2:
        out += [_stroke(x, y, (0, 0.62), (side * 0.25, 0.95), 0.05) for side in (-1, 1)]
    return np.minimum.reduce(out)


def _paint(traits: np.ndarray, u: np.ndarray, size: int) -> np.ndarray:
    """One creature with `traits` (7,), the rest drawn from `u` (12,) in [0, 2**32): (size, size, 3) int64, no grain."""
    r = u / 2**32
    scale, (c, s) = size * (0.36 + 0.07 * r[0]), turned(-20 + 40 * below(int(u[1]), 17) / 16)
    px, py = (np.arange(size) + 0.5 - size * (0.5 + 0.08 * (r[k] - 0.5)) for k in (2, 3))
    x, y = (c * px[None] + s * py[:, None]) / scale, (c * py[:, None] - s * px[None]) / scale
    light, color = int(r[4] < 0.6), RGB[below(int(u[5]), len(RGB))] + below(u[6:9], 31) - 15
    image = np.full((size, size, 3), (38, 222)[light]) + below(u[9:12], 31) - 15

    def lay(distance: np.ndarray, rgb: object) -> None:
        nonlocal image
        alpha = np.floor(np.clip(0.5 - distance * scale, 0, 1) * 255 + 0.5).astype(int)[..., None]
        image = image + (np.asarray(rgb) - image) * alpha // 255

    body = (
        _disc(x, y, (0, 0), 0.42),
        np.maximum(np.abs(x), np.abs(y)) - 0.38,
        np.maximum(y - 0.36, (1.9 * np.abs(x) - (y + 0.58)) / 2.15),
        (np.sqrt((x / 1.35) ** 2 + (y / 0.8) ** 2) - 0.42) * 0.9,
    )[traits[0]]
    stripes = np.abs((y / 0.2) % 1 - 0.5) * 0.2 - 0.045
    dots = _disc((x / 0.22) % 1, (y / 0.22) % 1, (0.5, 0.5), 0) * 0.22 - 0.06
    lay(_limbs(x, y, traits), color * 4 // 5)
    lay(body, color)
    if traits[4]:
        lay(np.maximum(body + 0.03, (stripes, dots)[traits[4] - 1]), color * 2 // 5)
    for across in ((0,), (-0.14, 0.14))[traits[5]]:
        lay(_disc(x, y, (across, -0.1), 0.125), (250, 250, 250))
        lay(_disc(x, y, (across, -0.1), 0.06), (15, 15, 15))
    return image

"""Portraits: faces of invented people, drawn as cartoons, for notebook 13.

A person is a head, hair, its color, a beard or none, and a nose.  Glasses, a hat, the mood, the background and the
shirt change from portrait to portrait.  All faces have the same skin color, that of paper.  A seed gives the same
people and pictures on every machine: random numbers are hashes, and the drawing needs only exactly rounded operations.
"""

from collections.abc import Sequence

import numpy as np

from ..config import need
from ..data.shapes.painting import below, draws

PERSON = {
    "head": ("round", "long", "square"),
    "hair": ("short", "long", "curly", "spiky"),
    "color": ("black", "brown", "red", "blond", "gray"),
    "beard": ("", "a beard"),
    "nose": ("small", "large"),
}
CHANGING = {
    "glasses": ("", "glasses"),
    "hat": ("", "a hat"),
    "mood": ("", "smiling", "surprised"),
    "background": ("white", "blue", "green", "yellow"),
    "shirt": ("white", "red", "blue", "black"),
}
TRAITS = {**PERSON, **CHANGING}
SIZES = tuple(len(options) for options in TRAITS.values())
PEOPLE = int(np.prod(SIZES[:5]))  # 240 possible people
NAMES = ("Ada", "Bruno", "Cleo")
_HAIR = np.array([list(bytes.fromhex(c)) for c in "20201e 6e4220 b8461e e0bc5c a4a4a4".split()])
_WALL = np.array([list(bytes.fromhex(c)) for c in "eeeeea a8c8e8 b4dcb4 f0e2a0".split()])
_SHIRT = np.array([list(bytes.fromhex(c)) for c in "fafafa c83c3c 3c5ab4 303030".split()])
_FACE, _DARK, _HAT = np.array((236, 205, 175)), np.array((30, 30, 30)), np.array((96, 60, 130))


def people(seed: int, count: int, *, unseen: bool) -> np.ndarray:
    """Traits (count, 5) int64 of distinct people: of the fifth kept from training if `unseen`, else of the rest.

    Raises MinclipError if there are fewer than `count`.
    """
    kept = np.flatnonzero((draws(0, "portraits/unseen", np.arange(PEOPLE), slots=1)[:, 0] % 5 == 0) == unseen)
    need(count <= len(kept), f"there are {len(kept)} such people, asked for {count}")
    order = np.argsort(draws(seed, "portraits/people", kept, slots=1)[:, 0], kind="stable")
    return np.stack(np.unravel_index(kept[order[:count]], SIZES[:5]), axis=1)


def portraits(of_people: np.ndarray, *, seed: int) -> np.ndarray:
    """Traits (n, 10) int64 of one portrait for each row of `of_people` (n, 5); those of CHANGING are random."""
    u = draws(seed, "portraits/changing", np.arange(len(of_people)), slots=5)
    return np.concatenate([np.asarray(of_people), below(u, np.array(SIZES[5:]))], axis=1)


def description(traits: Sequence[int], named: Sequence[bool] | None = None, *, who: str = "a person") -> str:
    """A portrait (10,) in words: "a smiling person with long red hair, a beard and a hat on a blue background".

    `named` (6,) selects the details to mention: hair, beard, glasses, hat, mood, background; None selects all.  Absent
    things are never mentioned.  `who` begins with "a ", or is a name.
    """
    value = {trait: options[int(t)] for (trait, options), t in zip(TRAITS.items(), traits)}
    said = dict(zip(("hair", "beard", "glasses", "hat", "mood", "background"), named or [True] * 6))
    things = [f"{value['hair']} {value['color']} hair"] if said["hair"] else []
    things += [value[trait] for trait in ("beard", "glasses", "hat") if said[trait] and value[trait]]
    *first, last = things or [""]
    with_things = f" with {' and '.join(filter(None, (', '.join(first), last)))}" if last else ""
    if mood := value["mood"] if said["mood"] else "":
        who = f"a {mood} {who[2:]}" if who.startswith("a ") else f"{mood} {who}"
    place = f" on a {value['background']} background" if said["background"] else ""
    return who + with_things + place


def captions(rows: np.ndarray, *, seed: int, who: Sequence[str] = ()) -> list[str]:
    """n descriptions of portraits (n, 10), each detail mentioned with probability 0.7; `who` (n,) has their names."""
    named = draws(seed, "portraits/named", np.arange(len(rows)), slots=6) < 0.7 * 2**32
    names = who or ["a person"] * len(rows)
    return [description(row, details.tolist(), who=name) for row, details, name in zip(rows, named, names)]


# ---- drawing: approximate signed distances to outlines, negative inside; the face at (0, 0), x to the right, y down


def pictures(rows: np.ndarray, *, seed: int, size: int = 64) -> np.ndarray:
    """Images (n, 3, size, size) uint8 of portraits (n, 10); `seed` varies their position, scale and grain."""
    u = draws(seed, "portraits/looks", np.arange(len(rows)), slots=4)
    images = np.stack([_paint(dict(zip(TRAITS, row)), of, size) for row, of in zip(np.asarray(rows).tolist(), u)])
    grain = below(draws(seed, "portraits/grain", np.arange(len(rows)), slots=size**2), 21).reshape(-1, size, size, 1)
    return np.clip(images + grain - 10, 0, 255).astype(np.uint8).transpose(0, 3, 1, 2)


def _ellipse(x: np.ndarray, y: np.ndarray, a: float, b: float) -> np.ndarray:
    return (np.sqrt((x / a) ** 2 + (y / b) ** 2) - 1) * min(a, b)


def _box(x: np.ndarray, y: np.ndarray, a: float, b: float) -> np.ndarray:
    return np.maximum(np.abs(x) - a, np.abs(y) - b)


def _hair(x: np.ndarray, y: np.ndarray, head: np.ndarray, kind: int) -> np.ndarray:
    """Signed distance (size, size) to the hair in front of the face; `head` is that to the head."""
    top = np.maximum(head - 0.06, y + 0.3)
    if kind == 2:
        places = ((-0.5, -0.2), (-0.42, -0.46), (-0.18, -0.62), (0.1, -0.64), (0.36, -0.52), (0.5, -0.24))
        return np.minimum.reduce([top, *(_ellipse(x - a, y - b, 0.2, 0.2) for a, b in places)])
    if kind == 3:
        spikes = [np.maximum(y + 0.36, (2.4 * np.abs(x - a) - (y + 0.95)) / 2.6) for a in (-0.4, -0.2, 0, 0.2, 0.4)]
        return np.minimum.reduce([top, *spikes])
    return top


def _paint(value: dict[str, int], u: np.ndarray, size: int) -> np.ndarray:
    """One portrait (size, size, 3) int64 without grain; `u` (4,) in [0, 2**32) gives its scale and position."""
    r = u / 2**32
    scale = size * (0.46 + 0.05 * r[0])
    middle = 0.5 + 0.06 * (r[1] - 0.5), 0.54 + 0.06 * (r[2] - 0.5)
    x, y = np.meshgrid(*((np.arange(size) + 0.5 - size * at) / scale for at in middle))
    image = np.broadcast_to(_WALL[value["background"]], (size, size, 3)).astype(int)
    hair = _HAIR[value["color"]]

    def lay(distance: np.ndarray, rgb: np.ndarray) -> None:
        nonlocal image
        alpha = np.floor(np.clip(0.5 - distance * scale, 0, 1) * 255 + 0.5).astype(int)[..., None]
        image = image + (rgb - image) * alpha // 255

    head = (
        _ellipse(x, y, 0.56, 0.56),
        _ellipse(x, y, 0.46, 0.66),
        np.maximum(_box(x, y, 0.5, 0.56), (np.abs(x) + np.abs(y) - 0.86) * 0.7071),
    )[value["head"]]
    if value["hair"] == 1:
        lay(np.maximum(_ellipse(x, y - 0.15, 0.72, 0.86), y - 0.72), hair)
    lay(_ellipse(x, y - 1.25, 0.85, 0.62), _SHIRT[value["shirt"]])
    lay(_box(x, y - 0.6, 0.16, 0.16), _FACE * 9 // 10)
    lay(head, _FACE)
    if value["beard"]:
        lay(np.maximum(head - 0.05, 0.2 - y + 0.25 * (0.45 - np.abs(x))), hair)
    on_top = _hair(x, y, head, value["hair"])
    lay(np.maximum(on_top, -0.42 - y) if value["hat"] else on_top, hair)
    for side in (-0.2, 0.2):
        lay(_ellipse(x - side, y + 0.1, 0.085, 0.085), np.array((250, 250, 250)))
        lay(_ellipse(x - side, y + 0.1, 0.045, 0.045), _DARK)
        if value["glasses"]:
            lay(np.abs(_ellipse(x - side, y + 0.1, 0.17, 0.17)) - 0.03, _DARK)
    if value["glasses"]:
        lay(_box(x, y + 0.1, 0.05, 0.025), _DARK)
    lay(_ellipse(x, y - 0.1, *((0.04, 0.06), (0.1, 0.13))[value["nose"]]), _FACE * 3 // 4)
    mouth = (
        _box(x, y - 0.36, 0.16, 0.03),
        np.maximum(np.abs(_ellipse(x, y - 0.26, 0.2, 0.17)) - 0.035, 0.3 - y),
        _ellipse(x, y - 0.37, 0.09, 0.11),
    )[value["mood"]]
    lay(mouth, np.array((150, 40, 40)))
    if value["hat"]:
        lay(np.minimum(_box(x, y + 0.42, 0.72, 0.06), _box(x, y + 0.66, 0.42, 0.26)), _HAT)
    return image

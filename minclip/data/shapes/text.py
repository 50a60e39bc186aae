"""The shapes world in words: the contents of its scenes, their captions, and the zero-shot tasks."""

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...batches import Task

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "crescent")
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
FILLS = ("solid", "striped", "outlined")
SIZES = ("small", "large")
BACKGROUNDS = ("plain", "gradient", "noisy")
WORDS = ("STAR", "HEART", "RING", "CROSS", "RED", "BLUE", "GREEN", "CAT")
NUMBERS = ("one", "two", "three", "four")
RADII = [base + k / 2 for base in (9, 11, 13, 17) for k in range(3)]  # of objects, in 64ths of the image's side
FRUIT = 8  # a ninth shape: the fruit, so that "orange" has two meanings

# Pairs of attributes that no object of a training scene has: zero-shot has to combine them.
HELD_OUT = ("blue star", "red heart", "green circle", "yellow cross", "purple square", "pink triangle")
HELD_OUT += ("striped ring", "outlined crescent")

OTHER_COLORS = ("crimson", "orange", "golden", "emerald", "turquoise", "cobalt", "violet", "rosy")
SYNONYMS = {
    **{shape: (shape,) for shape in SHAPES},
    **{color: (color, color, other) for color, other in zip(COLORS, OTHER_COLORS)},
    "solid": ("solid", "filled"),
    "striped": ("striped", "striped", "stripy"),
    "outlined": ("outlined", "outlined", "hollow"),
    "small": ("small", "small", "tiny", "little"),
    "large": ("large", "large", "big", "huge"),
}
PLURALS = {"cross": "crosses"}
RELATED = {
    "above": ("above", "above", "over"),
    "below": ("below", "below", "under"),
    "to the left of": ("to the left of", "left of"),
    "to the right of": ("to the right of", "right of"),
}
RELATIONS = tuple(RELATED)


@dataclass(frozen=True)
class Scenes:
    """n scenes as arrays: an entry per scene, or one for each of 4 objects, of which the first `count` are painted."""

    index: np.ndarray  # (n,) number within the split
    seed: int
    split: str
    count: np.ndarray  # (n,) 1 to 4
    color: np.ndarray  # (n, 4) index into COLORS
    shape: np.ndarray  # (n, 4) index into SHAPES, or FRUIT
    fill: np.ndarray  # (n, 4) index into FILLS
    large: np.ndarray  # (n, 4) index into SIZES
    x: np.ndarray  # (n, 4) centers and radii in 64ths of the image's side, from the top left
    y: np.ndarray
    radius: np.ndarray  # one of RADII
    word: np.ndarray  # (n,) index into WORDS, or -1
    word_top: np.ndarray  # (n,) 1 if the word is above the objects
    background: np.ndarray  # (n,) index into BACKGROUNDS
    dark: np.ndarray  # (n,) 1 if the background is dark
    tilt: np.ndarray  # (n, 4) index of the angle
    noise: np.ndarray  # (n, 16) draws for the background
    tint: np.ndarray  # (n, 4, 3) draws for the shade of each object
    words: np.ndarray  # (n, 5, 40) draws for the wording of the five captions

    def take(self, rows: slice) -> "Scenes":
        return replace(self, **{name: v[rows] for name, v in vars(self).items() if isinstance(v, np.ndarray)})


class Thing(namedtuple("Thing", "color shape fill size x y")):
    """One object of one scene: four words, and its center in 64ths of the image's side, from the top left."""

    @property
    def kind(self) -> tuple[str, ...]:
        return self[:4]


def things_of(s: Scenes) -> list[list[Thing]]:
    """The painted objects of each scene."""
    names = (*SHAPES, "fruit")
    columns = (a.tolist() for a in (s.count, s.color, s.shape, s.fill, s.large, s.x, s.y))
    return [
        [Thing(COLORS[c[k]], names[sh[k]], FILLS[f[k]], SIZES[z[k]], x[k], y[k]) for k in range(n)]
        for n, c, sh, f, z, x, y in zip(*columns)
    ]


def relation(a: Thing, b: Thing) -> str | None:
    """The relation of a to b, one of RELATIONS; None near a diagonal, where two would be true."""
    dx, dy = b.x - a.x, b.y - a.y
    if abs(dx) > 2 * abs(dy):
        return "to the left of" if dx > 0 else "to the right of"
    return None if abs(dy) <= 2 * abs(dx) else "above" if dy > 0 else "below"


# ---- the grammar

Pick = Callable[[tuple], Any]  # takes the next draw and chooses


def _noun(thing: Thing, pick: Pick, detail: str, plural: bool = False) -> str:
    """Adjectives and noun; the letters of `detail` choose s(ize), f(ill), c(olor) and n(oun; else "shape")."""
    if thing.shape == "fruit":
        noun = pick(("orange", "orange", "orange fruit"))
        size = "tiny " if thing.size == "small" and "s" in detail else ""
        return size + (noun + "s" if plural and noun == "orange" else noun)
    said = (("s", thing.size), ("f", thing.fill), ("c", thing.color))
    adjectives = [pick(SYNONYMS[word]) for letter, word in said if letter in detail]
    noun = pick(SYNONYMS[thing.shape]) if "n" in detail else "shape"
    return " ".join([*adjectives, PLURALS.get(noun, noun + "s") if plural else noun])


def _a(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _place(thing: Thing) -> str:
    row = "top" if thing.y < 24 else "bottom" if thing.y > 40 else ""
    column = "left" if thing.x < 24 else "right" if thing.x > 40 else ""
    if row and column:
        return f"in the {row} {column} corner"
    return f"at the {row}" if row else f"on the {column}" if column else "in the middle"


def _objects(things: list[Thing], pick: Pick, detail: str) -> str:
    """All objects of a scene: "a red star and a blue ring", "two green stars"."""
    if len({t.kind for t in things}) == 1 and len(things) > 1:
        # captions rarely give the number, so that counting is hard to learn, as it is for CLIP
        group = "a pair of " if len(things) == 2 else "a group of "
        number = pick((f"{NUMBERS[len(things) - 1]} ", group, "", "some "))
        return number + _noun(things[0], pick, detail, plural=True)
    *others, last = (_a(_noun(t, pick, detail)) for t in things)
    return f"{', '.join(others)} and {last}" if others else last


def _caption(things: list[Thing], word: str, side: str, scenery: tuple[str, ...], style: int, draws: list[int]) -> str:
    """One caption in one of five styles: full, short, relation or place, with the background, any."""
    stream = iter(draws)

    def pick(options: tuple) -> Any:
        return options[next(stream) % len(options)]

    few = len(things) < 3
    if style == 0:
        text = _objects(things, pick, "sfcn" if few else "cn")
    elif style == 1:
        text = _objects(things, pick, pick(("cn", "cn", "n", "scn", "fn")))
    elif style == 2 and len(things) == 1:
        text = f"{_a(_noun(things[0], pick, pick(('cn', 'n', 'sn'))))} {_place(things[0])}"
    elif style == 2 and len({t.kind for t in things}) > 1:
        a, b = pick(((things[0], things[-1]), (things[-1], things[0])))
        detail = "cn" if a.kind[:2] != b.kind[:2] else "sfcn"
        words = RELATED.get(relation(a, b), ("next to", "near", "and"))
        text = f"{_a(_noun(a, pick, detail))} {pick(words)} {_a(_noun(b, pick, detail))}"
    elif style == 3:
        text = _objects(things, pick, pick(("c", "fc", "n", "sn", "fn", "sfn") if few else ("n", "cn")))
        text += pick(("", " on " + pick(scenery)))
    else:
        text = _objects(things, pick, pick(("n", "sn", "fn", "sfn", "cn", "fcn") if few else ("n", "cn", "fn")))
    if word:
        with_word = f"the word {word} and {text}", f"{text} with the word {word}"
        text = pick((*with_word, f"{text} and a sign that says {word}", f"the word {word} {side} {text}"))
    elif style in (1, 3):
        text = pick(("", "", "a picture of ", "a drawing of ")) + text
    capital = text[0].upper() + text[1:]
    return pick((text, text, capital, capital + "."))


def captions_of(s: Scenes) -> list[list[str]]:
    """Five captions for each scene, of different length and detail, some with a capital and a full stop."""
    out, columns = [], (a.tolist() for a in (s.words, s.word, s.word_top, s.background, s.dark))
    for things, draws, word, top, background, dark in zip(things_of(s), *columns):
        light, pattern = ("light", "dark")[dark], BACKGROUNDS[background]
        scenery = tuple(f"a {words} background" for words in (light, pattern, f"{pattern} {light}"))
        scene = things, (*WORDS, "")[word], ("below", "above")[top], scenery  # word -1 is none
        out.append([_caption(*scene, style, row) for style, row in enumerate(draws)])
    return out


# ---- the tasks: the paper's evaluation table in miniature


def tasks_of(s: Scenes) -> dict[str, Task]:
    """Zero-shot tasks over a split's scenes; a task without a suitable scene is left out."""
    things, written = things_of(s), s.word >= 0
    fruit = (s.shape == FRUIT) & (np.arange(4) < s.count[:, None])
    plain = ~written & ~fruit.any(axis=1)
    single = np.flatnonzero(plain & (s.count == 1))
    color, shape, fill, size = (of_object[single, 0] for of_object in (s.color, s.shape, s.fill, s.large))
    pictures = ("{}", "a picture of {}", "a drawing of {}")
    a_thing, a_shape = (tuple(t.format(noun) for t in pictures) for noun in ("a {}", "a {} shape"))
    pairs, fills = (tuple(f"{a} {b}" for a in words for b in SHAPES) for words in (COLORS, FILLS))
    tasks = {
        "colour": Task(COLORS, a_shape, single, color),
        "shape": Task(SHAPES, a_thing, single, shape),
        "size": Task(SIZES, a_shape, single, size),
        "fill": Task(FILLS, a_shape, single, fill),
        "colour+shape": Task(pairs, a_thing, single, len(SHAPES) * color + shape),
        "fill+shape": Task(fills, a_thing, single, len(SHAPES) * fill + shape),
    }
    counts = ("one shape", *(f"{number} shapes" for number in NUMBERS[1:]))
    tasks["count"] = Task(counts, pictures, np.flatnonzero(plain), s.count[plain] - 1)
    two = [i for i in np.flatnonzero(plain & (s.count == 2)) if relation(*things[i])]
    two = np.array([i for i in two if things[i][0].kind[:2] != things[i][1].kind[:2]], np.int64)
    related = np.array([RELATIONS.index(relation(*things[i])) for i in two], np.int64)
    subjects = tuple({name: _a(f"{t.color} {t.shape}") for name, t in zip("ab", things[i])} for i in two)
    tasks["relation"] = Task(RELATIONS, ("{a} {} {b}", "a picture of {a} {} {b}"), two, related, subjects)
    tasks["word"] = Task(WORDS, ("the word {}", "a sign that says {}"), np.flatnonzero(written), s.word[written])
    if s.split == "heldout":
        # Two tasks (Xian et al. 2017).  Zero-shot: choose among the unseen pairs.  Generalized zero-shot: choose among
        # all pairs, which is harder, since a model prefers those that it has seen.
        shown = [{pairs[a], fills[b]} for a, b in zip(tasks["colour+shape"].labels, tasks["fill+shape"].labels)]
        unseen = [next(i for i, pair in enumerate(HELD_OUT) if pair in of_scene) for of_scene in shown]
        tasks["held-out pairs"] = Task(HELD_OUT, a_thing, single, np.array(unseen, np.int64))
        by_color = np.isin(HELD_OUT, pairs)[unseen]
        for name, keep in (("colour+shape", by_color), ("fill+shape", ~by_color)):
            tasks[name] = replace(tasks[name], indices=single[keep], labels=tasks[name].labels[keep])
    return {name: task for name, task in tasks.items() if len(task.indices)}

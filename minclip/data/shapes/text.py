"""What is in a scene of the shapes world, how people would write about it, and what can be asked about it."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from ...batches import Task

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "crescent")
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
FILLS = ("solid", "striped", "outlined")
SIZES = ("small", "large")
BACKGROUNDS = ("plain", "gradient", "noisy")
WORDS = ("STAR", "HEART", "RING", "CROSS", "RED", "BLUE", "GREEN", "CAT")
NUMBERS = ("one", "two", "three", "four")
RELATIONS = ("above", "below", "to the left of", "to the right of")
FRUIT = 8  # a shape of its own: the orange that one can eat, so that "orange" has two senses

# Pairs of attributes that no object of a training scene has: zero-shot has to combine them.
HELD_OUT_COLORS = (
    ("blue", "star"), ("red", "heart"), ("green", "circle"), ("yellow", "cross"), ("purple", "square"),
    ("pink", "triangle"),
)  # fmt: skip
HELD_OUT_FILLS = (("striped", "ring"), ("outlined", "crescent"))


def is_held_out(color: str, fill: str, shape: str) -> bool:
    """Whether an object has a pair of attributes that the training splits never show."""
    return (color, shape) in HELD_OUT_COLORS or (fill, shape) in HELD_OUT_FILLS


SYNONYMS = {
    **{shape: (shape,) for shape in SHAPES},
    **{color: (color, color, synonym) for color, synonym in zip(COLORS, (
        "crimson", "", "golden", "emerald", "turquoise", "cobalt", "violet", "rosy"))},
    "orange": ("orange",),
    "solid": ("solid", "filled"),
    "striped": ("striped", "striped", "stripy"),
    "outlined": ("outlined", "outlined", "hollow"),
    "small": ("small", "small", "tiny", "little"),
    "large": ("large", "large", "big", "huge"),
}  # fmt: skip
PLURALS = {"cross": "crosses"}


@dataclass(frozen=True)
class Scenes:
    """n scenes as arrays: one entry for each scene, or for each of four objects, of which the first `count` are painted."""

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
    radius: np.ndarray
    word: np.ndarray  # (n,) index into WORDS, or -1
    word_top: np.ndarray  # (n,) 1 if the word is above the objects
    background: np.ndarray  # (n,) index into BACKGROUNDS
    dark: np.ndarray  # (n,) 1 if the background is dark
    tilt: np.ndarray  # (n, 4) index of the angle
    noise: np.ndarray  # (n, 16) draws for the background
    tint: np.ndarray  # (n, 4, 3) draws for the shade of each object
    words: np.ndarray  # (n, 5, 40) draws for the wording of the five captions

    def take(self, rows: slice) -> "Scenes":
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Scenes(**{name: v[rows] if isinstance(v, np.ndarray) else v for name, v in values.items()})


@dataclass(frozen=True)
class Thing:
    """One object of one scene, in words."""

    color: str
    shape: str
    fill: str
    size: str
    x: float
    y: float

    @property
    def kind(self) -> tuple[str, ...]:
        return self.color, self.shape, self.fill, self.size

    @property
    def pair(self) -> str:
        return f"{self.color} {self.shape}"


def things_of(s: Scenes) -> list[list[Thing]]:
    """The painted objects of each scene."""
    names = (*SHAPES, "fruit")
    columns = (a.tolist() for a in (s.count, s.color, s.shape, s.fill, s.large, s.x, s.y))
    return [
        [Thing(COLORS[c[k]], names[sh[k]], FILLS[f[k]], SIZES[z[k]], x[k], y[k]) for k in range(n)]
        for n, c, sh, f, z, x, y in zip(*columns)
    ]


def relation(a: Thing, b: Thing) -> str | None:
    """The relation of a to b, one of RELATIONS; None if two would be true."""
    dx, dy = b.x - a.x, b.y - a.y
    if abs(dx) > 2 * abs(dy):
        return "to the left of" if dx > 0 else "to the right of"
    if abs(dy) > 2 * abs(dx):
        return "above" if dy > 0 else "below"
    return None


# ---- the grammar

Pick = Callable[[tuple[str, ...]], str]  # takes the next draw and chooses


def _noun(thing: Thing, pick: Pick, detail: str, plural: bool = False) -> str:
    """Adjectives and noun, at a detail of letters: s(ize), f(ill), c(olor), n(oun; "shape" without it)."""
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


def _join(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _place(thing: Thing) -> str:
    row = "top" if thing.y < 24 else "bottom" if thing.y > 40 else ""
    column = "left" if thing.x < 24 else "right" if thing.x > 40 else ""
    if row and column:
        return f"in the {row} {column} corner"
    if row:
        return f"at the {row}"
    return f"on the {column}" if column else "in the middle"


def _relate(a: Thing, b: Thing, pick: Pick, detail: str) -> str:
    words = {
        "above": ("above", "above", "over"),
        "below": ("below", "below", "under"),
        "to the left of": ("to the left of", "left of"),
        "to the right of": ("to the right of", "right of"),
        None: ("next to", "near", "and"),
    }
    return f"{_a(_noun(a, pick, detail))} {pick(words[relation(a, b)])} {_a(_noun(b, pick, detail))}"


def _objects(things: list[Thing], pick: Pick, detail: str) -> str:
    """All objects of a scene: "a red star and a blue ring", "two green stars"."""
    if len({t.kind for t in things}) == 1 and len(things) > 1:
        # most people don't count: so the count stays hard to learn, as it is for CLIP
        group = "a pair of " if len(things) == 2 else "a group of "
        number = pick((f"{NUMBERS[len(things) - 1]} ", group, "", "some "))
        return number + _noun(things[0], pick, detail, plural=True)
    return _join([_a(_noun(t, pick, detail)) for t in things])


def _caption(things: list[Thing], word: str, backdrop: tuple[str, ...], style: int, pick: Pick) -> str:
    """One caption in one of five styles: full, short, relation or place, with the background, any."""
    alike = len({t.kind for t in things}) == 1
    few = len(things) < 3
    if style == 0:
        text = _objects(things, pick, "sfcn" if few else "cn")
    elif style == 1:
        text = _objects(things, pick, pick(("cn", "cn", "n", "scn", "fn")))
    elif style == 2 and len(things) == 1:
        text = f"{_a(_noun(things[0], pick, pick(('cn', 'n', 'sn'))))} {_place(things[0])}"
    elif style == 2 and not alike:
        a, b = (things[0], things[-1]) if pick(("ab", "ba")) == "ab" else (things[-1], things[0])
        text = _relate(a, b, pick, "cn" if a.kind[:2] != b.kind[:2] else "sfcn")
    elif style == 3:
        text = _objects(things, pick, pick(("c", "fc", "n", "sn", "fn", "sfn") if few else ("n", "cn")))
        text += pick(("", " on " + pick(backdrop)))
    else:
        text = _objects(things, pick, pick(("n", "sn", "fn", "sfn", "cn", "fcn") if few else ("n", "cn", "fn")))
    if word:
        with_word = f"the word {word} and {text}", f"{text} with the word {word}"
        text = pick((*with_word, f"{text} and a sign that says {word}", f"the word {word} {{}} {text}"))
    elif style in (1, 3):
        text = pick(("", "", "a picture of ", "a drawing of ")) + text
    return text


def captions_of(s: Scenes) -> list[list[str]]:
    """Five captions for each scene, of different length and detail, some with a capital and a full stop."""
    out = []
    columns = (a.tolist() for a in (s.words, s.word, s.word_top, s.background, s.dark))
    for things, draws, w, top, b, dark in zip(things_of(s), *columns):
        light, ground = "dark" if dark else "light", BACKGROUNDS[b]
        backdrop = tuple(f"a {words} background" for words in (light, ground, f"{ground} {light}"))
        captions = []
        for style, row in enumerate(draws):
            stream = iter(row)

            def pick(options: tuple[str, ...], stream: Iterator[int] = stream) -> str:
                return options[next(stream) % len(options)]

            text = _caption(things, WORDS[w] if w >= 0 else "", backdrop, style, pick)
            text = text.replace("{}", "above" if top else "below")
            capital = text[0].upper() + text[1:]
            captions.append(pick((text, text, capital, capital + ".")))
        out.append(captions)
    return out


# ---- the tasks: the paper's evaluation table in miniature


def tasks_of(s: Scenes) -> dict[str, Task]:
    """Zero-shot tasks over a split's scenes; a task that no scene fits is left out."""
    things = things_of(s)
    fruit = (s.shape == FRUIT) & (np.arange(4)[None, :] < s.count[:, None])
    plain = (s.word < 0) & ~fruit.any(axis=1)
    single = np.flatnonzero(plain & (s.count == 1))
    pictures = ("{}", "a picture of {}", "a drawing of {}")
    thing, shape = (tuple(t.format(noun) for t in pictures) for noun in ("a {}", "a {} shape"))
    two = [(i, *things[i]) for i in np.flatnonzero(plain & (s.count == 2))]
    two = [(i, a, b) for i, a, b in two if a.kind[:2] != b.kind[:2] and relation(a, b)]

    def numbers(values: Iterable[int]) -> np.ndarray:
        return np.array(list(values), dtype=np.int64)

    pairs, fills = (tuple(f"{a} {b}" for a in words for b in SHAPES) for words in (COLORS, FILLS))
    only = [things[i][0] for i in single]
    tasks = {
        "colour": Task(COLORS, shape, single, s.color[single, 0]),
        "shape": Task(SHAPES, thing, single, s.shape[single, 0]),
        "size": Task(SIZES, shape, single, s.large[single, 0]),
        "fill": Task(FILLS, shape, single, s.fill[single, 0]),
        "colour+shape": Task(pairs, thing, single, numbers(pairs.index(t.pair) for t in only)),
        "fill+shape": Task(fills, thing, single, numbers(fills.index(f"{t.fill} {t.shape}") for t in only)),
        "count": Task(
            ("one shape", "two shapes", "three shapes", "four shapes"),
            pictures,
            np.flatnonzero(plain),
            s.count[plain] - 1,
        ),
        "relation": Task(
            RELATIONS,
            ("{a} {} {b}", "a picture of {a} {} {b}"),
            numbers(i for i, _, _ in two),
            numbers(RELATIONS.index(relation(a, b)) for _, a, b in two),
            tuple({"a": _a(a.pair), "b": _a(b.pair)} for _, a, b in two),
        ),
        "word": Task(WORDS, ("the word {}", "a sign that says {}"), np.flatnonzero(s.word >= 0), s.word[s.word >= 0]),
    }
    if s.split == "heldout":
        # Two questions (Xian et al. 2017).  Zero-shot: which of the pairs that were never seen?  And generalized
        # zero-shot, harder: which of all pairs, where those that were seen have the advantage.
        unseen = tuple(f"{a} {b}" for a, b in (*HELD_OUT_COLORS, *HELD_OUT_FILLS))
        of_scene = [next(p for p in unseen if p in (t.pair, f"{t.fill} {t.shape}")) for (t,) in things]
        tasks["held-out pairs"] = Task(unseen, thing, single, numbers(map(unseen.index, of_scene)))
        by_color = np.array([p in pairs for p in of_scene])
        for name, keep in (("colour+shape", by_color), ("fill+shape", ~by_color)):
            tasks[name] = replace(tasks[name], indices=single[keep], labels=tasks[name].labels[keep])
    return {name: task for name, task in tasks.items() if len(task.indices)}

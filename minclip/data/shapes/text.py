"""What a scene of the shapes world holds, how people would write about it, and what can be asked about it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np

from ...batches import Task

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "crescent")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
FILLS = ("solid", "striped", "outlined")
SIZES = ("small", "large")
BACKGROUNDS = ("plain", "gradient", "noisy")
WORDS = ("STAR", "HEART", "RING", "CROSS", "RED", "BLUE", "GREEN", "CAT")
NUMBERS = ("one", "two", "three", "four")
RELATIONS = ("above", "below", "to the left of", "to the right of")
FRUIT = 8  # a shape of its own: the orange that one can eat, so that "orange" has two senses

# Attribute pairs that no training scene shows on one object: zero-shot has to put them together by itself.
HELD_OUT_COLOURS = tuple(
    zip(
        ("blue", "red", "green", "yellow", "purple", "pink"), ("star", "heart", "circle", "cross", "square", "triangle")
    )
)
HELD_OUT_FILLS = (("striped", "ring"), ("outlined", "crescent"))


def is_held_out(colour: str, fill: str, shape: str) -> bool:
    """Whether an object holds a pair that the training splits never show."""
    return (colour, shape) in HELD_OUT_COLOURS or (fill, shape) in HELD_OUT_FILLS


SYNONYMS = {
    **{shape: (shape,) for shape in SHAPES},
    "red": ("red", "red", "crimson"),
    "orange": ("orange",),
    "yellow": ("yellow", "yellow", "golden"),
    "green": ("green", "green", "emerald"),
    "cyan": ("cyan", "cyan", "turquoise"),
    "blue": ("blue", "blue", "cobalt"),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "rosy"),
    "solid": ("solid", "filled"),
    "striped": ("striped", "striped", "stripy"),
    "outlined": ("outlined", "outlined", "hollow"),
    "small": ("small", "small", "tiny", "little"),
    "large": ("large", "large", "big", "huge"),
}
PLURALS = {"cross": "crosses"}


@dataclass(frozen=True)
class Scenes:
    """n scenes as arrays: one entry a scene, or four (one an object, of which the first `count` are painted)."""

    index: np.ndarray  # (n,) number within the split
    seed: int
    split: str
    count: np.ndarray  # (n,) 1 to 4
    colour: np.ndarray  # (n, 4) index into COLOURS
    shape: np.ndarray  # (n, 4) index into SHAPES, or FRUIT
    fill: np.ndarray  # (n, 4) index into FILLS
    large: np.ndarray  # (n, 4) index into SIZES
    x: np.ndarray  # (n, 4) centres and radii in 64ths of the picture's side, from the top left
    y: np.ndarray
    radius: np.ndarray
    word: np.ndarray  # (n,) index into WORDS, or -1
    word_top: np.ndarray  # (n,) 1 where the word stands above the objects
    background: np.ndarray  # (n,) index into BACKGROUNDS
    dark: np.ndarray  # (n,) 1 where the background is dark
    tilt: np.ndarray  # (n, 4) index of the angle
    noise: np.ndarray  # (n, 16) draws for the background
    tint: np.ndarray  # (n, 4, 3) draws for the shade of each object
    words: np.ndarray  # (n, 5, 40) draws for the wording of the five captions

    def take(self, rows: slice) -> "Scenes":
        return Scenes(
            **{f.name: v[rows] if isinstance(v := getattr(self, f.name), np.ndarray) else v for f in fields(self)}
        )


@dataclass(frozen=True)
class Thing:
    """One object of one scene, in words."""

    colour: str
    shape: str
    fill: str
    size: str
    x: float
    y: float

    @property
    def kind(self) -> tuple[str, ...]:
        return self.colour, self.shape, self.fill, self.size


def things_of(s: Scenes) -> list[list[Thing]]:
    """The painted objects of each scene."""
    names = (*SHAPES, "fruit")
    columns = (a.tolist() for a in (s.count, s.colour, s.shape, s.fill, s.large, s.x, s.y))
    return [
        [Thing(COLOURS[c[k]], names[sh[k]], FILLS[f[k]], SIZES[z[k]], x[k], y[k]) for k in range(n)]
        for n, c, sh, f, z, x, y in zip(*columns)
    ]


def relation(a: Thing, b: Thing) -> str | None:
    """The relation of RELATIONS in which a stands to b, or None where two would be true."""
    dx, dy = b.x - a.x, b.y - a.y
    if abs(dx) > 2 * abs(dy):
        return "to the left of" if dx > 0 else "to the right of"
    if abs(dy) > 2 * abs(dx):
        return "above" if dy > 0 else "below"
    return None


# ---- the grammar

Pick = Callable[[tuple[str, ...]], str]  # takes the next draw and chooses


def _noun(thing: Thing, pick: Pick, detail: str, plural: bool = False) -> str:
    """Adjectives and noun, at a detail of letters: s(ize), f(ill), c(olour), n(oun; "shape" without it)."""
    if thing.shape == "fruit":
        noun = pick(("orange", "orange", "orange fruit"))
        return ("tiny " if thing.size == "small" and "s" in detail else "") + (
            noun + "s" if plural and noun == "orange" else noun
        )
    adjectives = [
        pick(SYNONYMS[w])
        for letter, w in (("s", thing.size), ("f", thing.fill), ("c", thing.colour))
        if letter in detail
    ]
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
        number = pick(
            (f"{NUMBERS[len(things) - 1]} ", "a pair of " if len(things) == 2 else "a group of ", "", "some ")
        )
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
        text = pick(
            (
                f"the word {word} and {text}",
                f"{text} with the word {word}",
                f"{text} and a sign that says {word}",
                f"the word {word} {{}} {text}",
            )
        )
    elif style in (1, 3):
        text = pick(("", "", "a picture of ", "a drawing of ")) + text
    return text


def captions_of(s: Scenes) -> list[list[str]]:
    """Five captions of each scene, of different length and detail, some with a capital and a full stop."""
    words, tops = s.word.tolist(), s.word_top.tolist()
    out = []
    for things, draws, w, top, b, dark in zip(
        things_of(s), s.words.tolist(), words, tops, s.background.tolist(), s.dark.tolist()
    ):
        light = "dark" if dark else "light"
        backdrop = (f"a {light} background", f"a {BACKGROUNDS[b]} background", f"a {BACKGROUNDS[b]} {light} background")
        captions = []
        for style, row in enumerate(draws):
            stream = iter(row)

            def pick(options: tuple[str, ...], stream: Iterator[int] = stream) -> str:
                return options[next(stream) % len(options)]

            text = _caption(things, WORDS[w] if w >= 0 else "", backdrop, style, pick).replace(
                "{}", "above" if top else "below"
            )
            captions.append(pick((text, text, text[0].upper() + text[1:], text[0].upper() + text[1:] + ".")))
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
    thing = tuple(t.format("a {}") for t in pictures)
    shape = tuple(t.format("a {} shape") for t in pictures)
    both = [
        i
        for i in np.flatnonzero(plain & (s.count == 2))
        if things[i][0].kind[:2] != things[i][1].kind[:2] and relation(*things[i])
    ]

    def pair_name(t: Thing) -> str:
        return f"{t.colour} {t.shape}"

    pairs, fills = [f"{c} {h}" for c in COLOURS for h in SHAPES], [f"{f} {h}" for f in FILLS for h in SHAPES]
    tasks = {
        "colour": Task(COLOURS, shape, single, s.colour[single, 0]),
        "shape": Task(SHAPES, thing, single, s.shape[single, 0]),
        "size": Task(SIZES, shape, single, s.large[single, 0]),
        "fill": Task(FILLS, shape, single, s.fill[single, 0]),
        "colour+shape": Task(
            tuple(pairs),
            thing,
            single,
            np.array([pairs.index(pair_name(things[i][0])) for i in single], dtype=np.int64),
        ),
        "fill+shape": Task(
            tuple(fills),
            thing,
            single,
            np.array([fills.index(f"{things[i][0].fill} {things[i][0].shape}") for i in single], dtype=np.int64),
        ),
        "count": Task(
            ("one shape", "two shapes", "three shapes", "four shapes"),
            pictures,
            np.flatnonzero(plain),
            s.count[plain] - 1,
        ),
        "relation": Task(
            RELATIONS,
            ("{a} {} {b}", "a picture of {a} {} {b}"),
            np.array(both, dtype=np.int64),
            np.array([RELATIONS.index(relation(*things[i])) for i in both], dtype=np.int64),
            tuple({"a": _a(pair_name(things[i][0])), "b": _a(pair_name(things[i][1]))} for i in both),
        ),
        "word": Task(WORDS, ("the word {}", "a sign that says {}"), np.flatnonzero(s.word >= 0), s.word[s.word >= 0]),
    }
    if s.split == "heldout":
        # Two questions (Xian et al. 2017).  Zero-shot: which of the pairs that were never seen?  And generalised
        # zero-shot, harder: which of all pairs, where those that were seen have the advantage.
        unseen = [f"{a} {b}" for a, b in (*HELD_OUT_COLOURS, *HELD_OUT_FILLS)]
        of_scene = [next(p for p in unseen if p in (pair_name(t), f"{t.fill} {t.shape}")) for (t,) in things]
        tasks["held-out pairs"] = Task(tuple(unseen), thing, single, np.array([unseen.index(p) for p in of_scene]))
        by_colour = np.array([p in pairs for p in of_scene])
        for name, keep in (("colour+shape", by_colour), ("fill+shape", ~by_colour)):
            tasks[name] = replace(tasks[name], indices=single[keep], labels=tasks[name].labels[keep])
    return {name: task for name, task in tasks.items() if len(task.indices)}

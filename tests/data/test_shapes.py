"""The shapes world: the same everywhere, true in every word, and honest about what it holds out.

`python tests/data/test_shapes.py` prints new DIGESTS, for when the world was changed on purpose.
"""

import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minclip.config import MinclipError
from minclip.data import load_pairs, shapes
from minclip.data.shapes import SPLITS, load_shapes, scenes
from minclip.data.shapes.painting import FONT, RGB, SHIFTS, paint, shift
from minclip.data.shapes.text import (
    BACKGROUNDS,
    COLORS,
    FILLS,
    FRUIT,
    HELD_OUT,
    NUMBERS,
    PLURALS,
    RELATIONS,
    SHAPES,
    SYNONYMS,
    WORDS,
    captions_of,
    tasks_of,
    things_of,
)
from minclip.weights.hub import data_folder

HELD_OUT_COLORS, HELD_OUT_FILLS = ([tuple(pair.split()) for pair in part] for part in (HELD_OUT[:6], HELD_OUT[6:]))

# sha256 over images, captions and task labels of the first 64 scenes, 64 pixels, seed 0
DIGESTS = {
    "train": "2aec1fef0ce09cdddfcef6fe1ec958b16552edbdcbb92f9c5b035b0c0f8ae0f2",
    "val": "2f60db11a793af6e228356600bb080ebbeb269f2f8df2386c6f754f3b71c30d4",
    "test": "54c686dc24f0a3dd4f09815ca77e2efc6cc0ce1231290c72b7cc0afe8d215d0a",
    "heldout": "916c8698fd63e38a6d2b7db96e5ea89804db26b113fa5b05b5f3f9c921dc7538",
    "test-sketch": "7118fb9399815ff67e3ea6b31d5b4cf7475c62cf049804b0935c8cf63b390f61",
    "test-inverted": "23df17fc611fe330f65fecd972795711d82aa4eb4bfd687ec78c4a4154518475",
    "test-blurred": "eb0799eca5c0a3847f8f896008274c42b2f8dcd043f0cf74f2c9c32abc90aa68",
    "test-noisy": "939dc74173d2806a1ec9317ba9f13a88f8f5b7cbf5fb4115d5c9bbeff1ca3b0f",
    "test-rotated": "ac9fab5075edb75803fa63575652ad9c8674ebb3c7998ae07ec1e652758f8be9",
    "test-tinted": "2d56ecf8b425bb1d2bc4c5a1914e89068580770aa9aed55eb84fb4b659b1da3e",
}


def digest(split):
    pairs = load_shapes(split, image_size=64, size=64)
    tasks = {
        name: [t.class_names, t.templates, t.indices.tolist(), t.labels.tolist(), t.subjects]
        for name, t in pairs.tasks.items()
    }
    text = json.dumps([pairs.captions, pairs.names, tasks])
    return hashlib.sha256(pairs.images.tobytes() + text.encode()).hexdigest()


# ---- the same everywhere


@pytest.mark.parametrize("split", [*SPLITS, *(f"test-{kind}" for kind in SHIFTS)])
def test_same_seed_gives_the_same_bytes(split):
    assert digest(split) == DIGESTS[split]


def test_another_seed_gives_other_images_and_captions():
    a, b = load_shapes("val", image_size=16, size=8, seed=0), load_shapes("val", image_size=16, size=8, seed=1)
    assert not (a.images == b.images).all() and a.captions != b.captions


def test_splits_share_no_scene():
    a, b = scenes("train", 100), scenes("val", 100)
    assert not (a.words == b.words).any(axis=(1, 2)).any() or not (a.x == b.x).all()
    assert len({a.noise[i].tobytes() for i in range(100)} & {b.noise[i].tobytes() for i in range(100)}) == 0


@pytest.mark.parametrize("split", ["train", "heldout", "test-noisy", "test-tinted"])
def test_scene_does_not_depend_on_how_many_are_asked_for(split):
    few, many = load_shapes(split, image_size=32, size=5), load_shapes(split, image_size=32, size=40)
    np.testing.assert_array_equal(few.images, many.images[:5])
    assert few.captions == many.captions[:5]


def test_scene_1000_does_not_depend_on_the_painter_s_blocks():
    s = scenes("val", 1003)
    np.testing.assert_array_equal(paint(s, 16)[998:], paint(s.take(slice(998, 1003)), 16))


# ---- what can be asked for


@pytest.mark.parametrize("size", [16, 17, 33, 100])
def test_any_size_from_16_pixels_on_works(size):
    images = load_shapes("val", image_size=size, size=4).images
    assert images.shape == (4, 3, size, size) and images.dtype == np.uint8


@pytest.mark.parametrize("size", [15, 0])
def test_fewer_than_16_pixels_is_an_error(size):
    with pytest.raises(MinclipError, match="16 pixels"):
        load_shapes("val", image_size=size, size=4)


@pytest.mark.parametrize("split", ["trian", "", "test-", "test-upside-down", "-sketch"])
def test_unknown_split_is_an_error_that_names_the_splits(split):
    with pytest.raises(MinclipError, match=r"train, val, test, heldout.*test-sketch"):
        load_shapes(split, image_size=16, size=2)


def test_a_negative_number_of_scenes_is_an_error():
    with pytest.raises(MinclipError, match="-3"):
        load_pairs("shapes", "val", image_size=16, size=-3)


@pytest.mark.parametrize("name", ["shape", "flickr9k"])
def test_unknown_data_set_is_an_error_that_guesses(name):
    with pytest.raises(MinclipError, match="did you mean"):
        load_pairs(name)


def test_load_pairs_passes_everything_on():
    a, b = (
        load_pairs("shapes", "test-sketch", image_size=16, size=3, seed=5),
        load_shapes("test-sketch", image_size=16, size=3, seed=5),
    )
    assert (a.images == b.images).all() and a.captions == b.captions and len(a) == 3


def test_val_and_test_have_a_thousand_scenes():
    assert SPLITS == {"train": 20_000, "val": 1_000, "test": 1_000, "heldout": 1_000}
    assert len(load_shapes("val", image_size=16)) == 1_000


# ---- what is in a scene

BIG = {split: scenes(split, 2000) for split in SPLITS}
captions = cache(lambda split: captions_of(BIG[split]))
written = cache(lambda split: "\n".join(c for five in captions(split) for c in five))
splits = pytest.mark.parametrize("split", SPLITS)
painted = {split: np.arange(4)[None, :] < s.count[:, None] for split, s in BIG.items()}


def test_scenes_hold_one_to_four_objects():
    assert set(BIG["train"].count) == {1, 2, 3, 4}


def test_held_out_scenes_hold_one_object():
    assert set(BIG["heldout"].count) == {1}


@splits
def test_objects_lie_inside_the_picture(split):
    s = BIG[split]
    assert (np.minimum(s.x, s.y) - s.radius >= 0).all() and (np.maximum(s.x, s.y) + s.radius <= 64).all()


@splits
def test_no_two_objects_overlap(split):
    s = BIG[split]
    for a in range(4):
        for b in range(a):
            gap = np.maximum(abs(s.x[:, a] - s.x[:, b]), abs(s.y[:, a] - s.y[:, b])) - s.radius[:, a] - s.radius[:, b]
            assert (gap[painted[split][:, a]] >= 0).all()


def test_large_objects_are_larger_than_small_ones():
    s = BIG["train"]
    for alone in (s.count == 1, s.count > 1):
        large, radius = s.large[alone], s.radius[alone]
        assert radius[large == 1].min() > 1.2 * radius[large == 0].max()


@splits
def test_every_attribute_occurs(split):
    s, there = BIG[split], painted[split]
    assert set(s.color[there]) == set(range(8)) if split != "heldout" else len(set(s.color[there])) >= 6
    assert set(s.shape[there]) - {FRUIT} == set(range(8))
    assert set(s.fill[there]) == {0, 1, 2} and set(s.large[there]) == {0, 1}
    assert set(s.background) == {0, 1, 2} and set(s.dark) == {0, 1}


def test_every_word_occurs_above_and_below():
    s = BIG["train"]
    there = s.word >= 0
    assert {(w, t) for w, t in zip(s.word[there], s.word_top[there])} == {(w, t) for w in range(8) for t in (0, 1)}


def test_both_senses_of_orange_occur():
    s, there = BIG["train"], painted["train"]
    assert ((s.shape == FRUIT) & there).sum() > 50
    assert ((s.shape != FRUIT) & (s.color == COLORS.index("orange")) & there).sum() > 50


def test_both_senses_of_orange_are_written():
    text = written("train").lower()
    shapes = "|".join(form for shape in SHAPES for form in SYNONYMS[shape])
    assert re.search(rf"orange ({shapes})\b", text) and re.search(
        r"an orange( (and|with|on|above|below)\b|\.?$)", text, re.M
    )


# ---- what is held out


def held_out(thing):
    """The held-out pairs that an object has."""
    return {f"{thing.color} {thing.shape}", f"{thing.fill} {thing.shape}"} & {*HELD_OUT}


def test_there_are_six_pairs_of_a_color_and_two_of_a_fill():
    adjectives = [pair.split()[0] for pair in HELD_OUT]
    assert len({*HELD_OUT}) == 8 and {*adjectives[:6]} <= {*COLORS} and {*adjectives[6:]} <= {*FILLS}


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_no_object_shows_a_held_out_pair(split):
    assert not any(held_out(t) for things in things_of(BIG[split]) for t in things)


def test_every_held_out_scene_shows_a_held_out_pair_and_every_pair_occurs():
    shown = [held_out(t) for things in things_of(BIG["heldout"]) for t in things]
    assert all(shown) and set.union(*shown) == {*HELD_OUT}


def forms(name):
    """All ways to write a word: synonyms, singular and plural."""
    out = set()
    for word in SYNONYMS[name]:
        out |= {word, PLURALS.get(word, word + "s")} if name in SHAPES else {word}
    return out


def says(pair):
    """A pattern of all ways to write a pair of attributes; between a fill and a shape there may be a color."""
    adjective, shape = pair.split()
    colors = "|".join(form for c in COLORS for form in SYNONYMS[c])
    between = f"(?:(?:{colors}) )?" if adjective in FILLS else ""
    return rf"\b(?:{'|'.join(forms(adjective))}) {between}(?:{'|'.join(forms(shape))})\b"


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("pair", HELD_OUT)
def test_no_caption_says_a_held_out_pair(split, pair):
    assert re.search(says(pair), written(split).lower()) is None


@pytest.mark.parametrize("pair", HELD_OUT[:6])
def test_held_out_captions_say_held_out_pairs(pair):
    assert re.search(says(pair), written("heldout").lower())


# ---- the grammar is true: a reader of its own, that knows nothing of how the captions are made

MEANING = {form: name for name in SYNONYMS for form in forms(name)}
ADJECTIVES = {f: m for f, m in MEANING.items() if m not in SHAPES}
NOUNS = {f: m for f, m in MEANING.items() if m in SHAPES} | {
    "shape": "",
    "shapes": "",
    "orange fruit": "fruit",
    "orange": "fruit",
    "oranges": "fruit",
}
NUMBER = {"a": 1, "an": 1, "two": 2, "a pair of": 2, "three": 3, "four": 4}
ALL = {"some": 2, "a group of": 3}  # uncounted plurals stand for all objects of a scene, which are at least so many
PLURAL = {form for form in NOUNS if form.endswith("s") and form != "cross"} | {"orange fruit"}


def one_of(words):
    return "|".join(sorted(words, key=len, reverse=True))


NOUN_PHRASE = re.compile(
    rf"\b(?:(?P<number>{one_of([*NUMBER, *ALL])}) )?(?P<adjectives>(?:(?:{one_of(ADJECTIVES)}) (?={one_of([*ADJECTIVES, *NOUNS])}))*)(?P<noun>{one_of(NOUNS)})\b"
)


def read(caption):
    """The noun phrases of a caption as [(number, {what is said}, start, end)], and the text without them."""
    phrases = []
    for m in NOUN_PHRASE.finditer(caption):
        said = {ADJECTIVES[w] for w in m["adjectives"].split()} | {NOUNS[m["noun"]]} - {""}
        if said == {"orange", "fruit"}:
            said = {"fruit"}  # "orange fruit"
        number = NUMBER.get(m["number"] or "")
        if number is None:
            number = "all" if m["noun"] in PLURAL else "a noun without an article"
        phrases.append((number, said, m.start(), m.end()))
    return phrases, NOUN_PHRASE.sub("@", caption)


def fits(said, thing):
    return said <= set(thing.kind)


def strip(caption):
    return (caption[0].lower() + caption[1:]).rstrip(".")


def true_of(caption, things, word, top, dark, background):
    """None where all that a caption says is true, else what is false."""
    phrases, frame = read(caption)
    phrases = [(len(things) if n == "all" else n, *rest) for n, *rest in phrases]
    if any(not isinstance(n, int) for n, *_ in phrases):
        return "no article"
    if "a group of" in caption and len(things) < ALL["a group of"]:
        return "a group"
    if not phrases:
        return "nothing said"
    # each phrase is about objects of its own
    wanted = [said for number, said, *_ in phrases for _ in range(number)]
    if not any(all(map(fits, wanted, order)) for order in permutations(things, len(wanted))):
        return f"the objects {wanted}"
    pair = re.search(r"@ (above|over|below|under|(?:to the )?left of|(?:to the )?right of|next to|near) @", frame)
    if pair:
        true = {
            "above": lambda a, b: a.y < b.y,
            "below": lambda a, b: a.y > b.y,
            "left of": lambda a, b: a.x < b.x,
            "right of": lambda a, b: a.x > b.x,
        }.get({"over": "above", "under": "below"}.get(pair[1], pair[1].removeprefix("to the ")), lambda a, b: True)
        a, b = phrases
        if not any(fits(a[1], s) and fits(b[1], t) and true(s, t) for s in things for t in things if s is not t):
            return pair[1]
    elif " @" in frame.replace("@ and @", "").replace("@, @", "") and re.search(r"@ (?!and|with|on|in|at)\w+ @", frame):
        return f"unread: {frame}"
    place = re.search(
        r"(?:in the (top|bottom) (left|right) corner|at the (top|bottom)|on the (left|right)|in the (middle))", frame
    )
    if place:
        said, t = set(filter(None, place.groups())), things[0]
        where = {"top": t.y < 30, "bottom": t.y > 34, "left": t.x < 30, "right": t.x > 34}
        where["middle"] = 20 < t.x < 44 and 20 < t.y < 44
        if len(things) != 1 or not all(where[w] for w in said):
            return place[0]
    ground = re.search(r"on a ((?:plain |gradient |noisy |dark |light )+)background", frame)
    if ground and not set(ground[1].split()) <= {background, "dark" if dark else "light"}:
        return ground[0]
    if ("background" in frame) != bool(ground):
        return "unread background"
    written = re.search(r"(?:the word|a sign that says) ([A-Z]+)(?: (above|below)\b)?", frame)
    if (written[1] if written else "") != word:
        return "the word"
    if written and written[2] and (written[2] == "above") != bool(top):
        return written[0]
    rest = re.sub(
        rf"@|{re.escape(pair[1]) if pair else '@'}|{place[0] if place else '@'}|{ground[0] if ground else '@'}|{written[0] if written else '@'}"
        r"|a (picture|drawing) of|and|with|,|:",
        "",
        frame,
    )
    return f"unread: {rest}" if rest.strip() else None


@given(st.sampled_from(list(SPLITS)), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_every_word_of_every_caption_is_true(split, seed):
    s = scenes(split, 20, seed=seed)
    for i, (things, captions) in enumerate(zip(things_of(s), captions_of(s))):
        word = WORDS[s.word[i]] if s.word[i] >= 0 else ""
        for caption in captions:
            false = true_of(strip(caption), things, word, s.word_top[i], s.dark[i], BACKGROUNDS[s.background[i]])
            assert false is None, f"{split} seed {seed} scene {i}: {caption!r} of {things}: {false}"


def test_the_reader_of_captions_sees_what_is_false():
    s = scenes("train", 300)
    things, captions = things_of(s), captions_of(s)
    words = [WORDS[w] if w >= 0 else "" for w in s.word]
    # captions of the next scene: hardly any is true of this one
    false = [
        true_of(strip(captions[i + 1][0]), things[i], words[i], s.word_top[i], s.dark[i], BACKGROUNDS[s.background[i]])
        for i in range(299)
    ]
    assert sum(f is None for f in false) < 10


def test_the_reader_reads_a_caption():
    assert read("two tiny filled emerald squares over an orange")[0][0][:2] == (
        2,
        {"small", "solid", "green", "square"},
    )
    assert read("an orange and an orange crescent")[0][1][1] == {"orange", "crescent"}
    assert read("an orange and an orange crescent")[0][0][1] == {"fruit"}


def test_each_scene_has_five_captions():
    assert {len(five) for five in captions("train")} == {5}


def test_a_caption_of_all_objects_names_each_once():
    s = BIG["train"]
    for things, five in zip(things_of(s), captions("train")):
        # the first caption is the full one
        numbers = [number for number, *_ in read(strip(five[0]))[0]]
        assert numbers == ["all"] or sum(numbers) == len(things)


def test_a_and_an_are_right():
    text = written("train")
    assert re.findall(r"\b[Aa] [aeiou]\w*|\b[Aa]n [^aeiou]\w*", text) == []
    assert re.search(r"\b[Aa]n [aeiou]", text) and re.search(r"\b[Aa] [b-df]", text)


def test_every_synonym_and_relation_is_written():
    text = written("train").lower()
    wanted = {w for words in SYNONYMS.values() for w in words} | {
        "to the left of",
        "right of",
        "above",
        "under",
        "over",
        "below",
    }
    assert [w for w in sorted(wanted) if not re.search(rf"\b{w}\b", text)] == []


def test_some_captions_have_a_capital_and_a_full_stop():
    lines = written("train").splitlines()
    assert {line[0].isupper() + line.endswith(".") for line in lines} == {0, 1, 2}


# ---- tasks


@pytest.fixture(scope="module")
def tasks():
    s = BIG["test"]
    return s, things_of(s), tasks_of(s)


def test_all_nine_tasks_are_there(tasks):
    assert set(tasks[2]) == {
        "colour",
        "shape",
        "size",
        "fill",
        "colour+shape",
        "fill+shape",
        "count",
        "relation",
        "word",
    }


def test_task_indices_are_scenes_and_labels_are_classes(tasks):
    for task in tasks[2].values():
        assert len(task.indices) == len(task.labels) > 0 and len(set(task.indices)) == len(task.indices)
        assert task.indices.min() >= 0 and task.indices.max() < 2000
        assert task.labels.min() >= 0 and task.labels.max() < len(task.class_names)
        assert task.chance == pytest.approx(1 / len(task.class_names))


def test_templates_have_one_place_for_the_class(tasks):
    assert all(t.count("{}") == 1 for task in tasks[2].values() for t in task.templates)


@pytest.mark.parametrize("name", ["colour", "shape", "size", "fill", "colour+shape", "fill+shape"])
def test_labels_of_single_objects_agree_with_the_scene(tasks, name):
    _, things, all_tasks = tasks
    task = all_tasks[name]
    for i, label in zip(task.indices, task.labels):
        (thing,) = things[i]
        assert set(task.class_names[label].split()) <= set(thing.kind)


def test_labels_of_the_count_agree_with_the_scene(tasks):
    _, things, all_tasks = tasks
    task = all_tasks["count"]
    for i, label in zip(task.indices, task.labels):
        assert NUMBERS.index(task.class_names[label].split()[0]) + 1 == len(things[i])
    assert set(task.labels) == {0, 1, 2, 3}


def test_labels_of_the_relation_agree_with_the_scene(tasks):
    _, things, all_tasks = tasks
    task = all_tasks["relation"]
    assert (
        len(task.subjects) == len(task.indices) and task.class_names == RELATIONS and set(task.labels) == {0, 1, 2, 3}
    )
    for i, label, subject in zip(task.indices, task.labels, task.subjects):
        a, b = things[i]
        assert true_of(f"{subject['a']} {RELATIONS[label]} {subject['b']}", [a, b], "", 0, 0, "") is None
        opposite = RELATIONS[label ^ 1]
        assert true_of(f"{subject['a']} {opposite} {subject['b']}", [a, b], "", 0, 0, "") is not None


def test_labels_of_the_word_agree_with_the_scene(tasks):
    s, _, all_tasks = tasks
    task = all_tasks["word"]
    assert (s.word[task.indices] == task.labels).all() and len(task.indices) == (s.word >= 0).sum()


def test_tasks_that_no_scene_fits_are_left_out():
    assert "relation" not in tasks_of(BIG["heldout"]) and "word" not in tasks_of(BIG["heldout"])


def test_labels_of_the_labelled_pairs_are_those_of_their_scenes():
    pairs = load_shapes("test", image_size=16, size=50)
    assert {n: t.labels.tolist() for n, t in pairs.tasks.items()} == {
        n: t.labels.tolist() for n, t in tasks_of(scenes("test", 50)).items()
    }


# ---- the paint shows it


@pytest.fixture(scope="module")
def pictures():
    s = scenes("test", 400)
    return s, paint(s, 64)


def test_the_middle_of_a_large_solid_square_has_its_color(pictures):
    s, images = pictures
    rows = np.flatnonzero((s.shape[:, 0] == SHAPES.index("square")) & (s.fill[:, 0] == 0) & (s.large[:, 0] == 1))
    assert len(rows) > 5
    for i in rows:
        x, y = int(s.x[i, 0]), int(s.y[i, 0])
        mean = images[i, :, y - 4 : y + 5, x - 4 : x + 5].mean(axis=(1, 2))
        assert abs(mean - np.clip(RGB[s.color[i, 0]], 0, 255)).max() <= 13
        nearest = ((np.array(RGB) - mean) ** 2).sum(axis=1).argmin()
        assert nearest == s.color[i, 0]


def test_each_object_paints_its_own_place_and_no_other(pictures):
    s, images = pictures
    bare = paint(replace(s, count=0 * s.count), 64)
    changed = (images != bare).any(axis=1)
    grid = np.arange(64) + 0.5
    for i in range(0, 400, 3):
        near = np.zeros((64, 64), dtype=bool)
        for k in range(s.count[i]):
            inside = np.hypot(grid[None, :] - s.x[i, k], grid[:, None] - s.y[i, k]) <= s.radius[i, k] * 1.3 + 1.5
            assert changed[i][inside].sum() > s.radius[i, k] ** 2 / 4
            near |= inside
        assert not changed[i][~near].any()


def test_outlined_objects_are_hollow_and_solid_ones_are_not():
    s = scenes("test", 100)
    one = replace(s, count=np.ones_like(s.count), shape=np.zeros_like(s.shape), word=np.full_like(s.word, -1))
    middle = np.arange(100), slice(None), s.y[:, 0].astype(int), s.x[:, 0].astype(int)
    bare = paint(replace(one, count=0 * s.count), 64)[middle]
    for fill, same in ((0, False), (2, True)):
        pixels = paint(replace(one, fill=np.full_like(s.fill, fill)), 64)[middle]
        assert ((pixels == bare).all(axis=1) == same).all()


def test_striped_objects_have_gaps():
    s = scenes("test", 100)
    one = replace(s, count=np.ones_like(s.count), shape=np.zeros_like(s.shape))
    bare = paint(replace(one, count=0 * s.count), 64)
    inked = [(paint(replace(one, fill=np.full_like(s.fill, f)), 64) != bare).mean() for f in range(3)]
    assert inked[1] < 0.85 * inked[0] and inked[2] < 0.6 * inked[0]


def test_dark_backgrounds_are_dark(pictures):
    s, _ = pictures
    tone = paint(replace(s, count=0 * s.count, word=0 * s.word - 1), 64).mean(axis=(1, 2, 3))
    assert tone[s.dark == 1].max() < 100 < 150 < tone[s.dark == 0].min()


def drawn(word, top):
    """A word in the 5 × 7 font, doubled and centred, as a mask (64, 64)."""
    mask = np.zeros((64, 64), dtype=bool)
    left = (64 - (12 * len(word) - 2)) // 2
    for n, letter in enumerate(word):
        for row in range(14):
            for column in range(10):
                mask[(3 if top else 47) + row, left + 12 * n + column] = (
                    int(FONT[letter][row // 2 * 2 :][:2], 16) >> (4 - column // 2) & 1
                )
    return mask


def test_the_painted_word_is_the_one_that_is_told(pictures):
    s, images = pictures
    without = paint(replace(s, word=0 * s.word - 1), 64)
    inked = (images != without).any(axis=1)
    for i in range(400):
        expected = drawn(WORDS[s.word[i]], s.word_top[i]) if s.word[i] >= 0 else np.zeros((64, 64), dtype=bool)
        np.testing.assert_array_equal(inked[i], expected)


def test_a_written_word_stands_out_from_its_background(pictures):
    s, images = pictures
    gray = images.mean(axis=1)
    for i in np.flatnonzero(s.word >= 0):
        mask, band = drawn(WORDS[s.word[i]], s.word_top[i]), slice(3, 17) if s.word_top[i] else slice(47, 61)
        ink, paper = gray[i][mask], gray[i][band][~mask[band]]
        assert abs(ink.mean() - paper.mean()) > 100


@pytest.mark.parametrize("size", [16, 96])
def test_a_written_word_is_there_at_every_size(size):
    s = scenes("test", 40)
    written = s.word >= 0
    inked = (paint(s, size) != paint(replace(s, word=0 * s.word - 1), size)).any(axis=1).mean(axis=(1, 2))
    assert (inked[written] > 0.02).all() and (inked[~written] == 0).all()


@pytest.mark.parametrize("size", [32, 96])
def test_a_picture_of_another_size_shows_the_same_scene(size):
    one = scenes("test", 60)

    def small(x):
        return x.reshape(60, 3, 16, x.shape[-1] // 16, 16, x.shape[-1] // 16).mean(axis=(3, 5))

    plain = replace(one, background=0 * one.background)
    assert abs(small(paint(plain, size).astype(float)) - small(paint(plain, 64).astype(float))).mean() < 6


# ---- shifts


@pytest.mark.parametrize("kind", SHIFTS)
def test_a_shift_changes_every_image_and_no_caption(kind):
    plain, shifted = load_shapes("test", image_size=32, size=40), load_shapes(f"test-{kind}", image_size=32, size=40)
    assert (plain.images != shifted.images).any(axis=(1, 2, 3)).all()
    assert plain.captions == shifted.captions
    assert all((plain.tasks[n].labels == shifted.tasks[n].labels).all() for n in plain.tasks)


def test_a_sketch_has_no_color():
    images = load_shapes("test-sketch", image_size=48, size=100).images
    assert (images == images[:, :1]).all() and images.min() < 40 and images.max() == 250


def test_inverting_twice_gives_the_image_back():
    images = load_shapes("test", image_size=16, size=10).images
    np.testing.assert_array_equal(shift(shift(images, "inverted"), "inverted"), images)


@pytest.mark.parametrize("kind", ["blurred", "rotated"])
def test_an_even_image_stays_as_it_is_when(kind):
    even = np.full((2, 3, 33, 33), 77, dtype=np.uint8)
    np.testing.assert_array_equal(shift(even, kind), even)


def test_rotation_turns_by_about_twenty_degrees():
    image = np.zeros((2, 3, 65, 65), dtype=np.uint8)
    image[0, :, 32, 52:55] = 255  # to the right of the middle
    image[1, :, 52:55, 32] = 255  # below it
    (y, x), (v, u) = ([axis.mean() - 32 for axis in np.nonzero(picture[0])] for picture in shift(image, "rotated"))
    turned = np.degrees(np.arctan2([y, v], [x, u])) - [0, 90]
    assert abs(turned) == pytest.approx([19, 19], abs=2) and turned[0] == pytest.approx(turned[1], abs=3)
    assert np.hypot([x, u], [y, v]) == pytest.approx([21, 21], abs=1.5)


# ---- painted once


@pytest.fixture
def calls(monkeypatch, data_home):
    """The calls of `paint`, in a world that keeps as few as eight scenes."""
    made, paint = [], shapes.paint
    monkeypatch.setattr(shapes, "CACHED", 8)
    monkeypatch.setattr(shapes, "paint", lambda *given, **named: made.append(1) or paint(*given, **named))
    return made


def test_many_scenes_are_painted_once_and_found_again(calls):
    first, again = (load_shapes("train", size=8, image_size=16) for _ in range(2))
    assert len(calls) == 1 and np.array_equal(first.images, again.images) and not again.images.flags.writeable
    for other in ({"size": 9}, {"seed": 1}, {"image_size": 32}):
        load_shapes("train", **{"size": 8, "image_size": 16, **other})
    assert len(calls) == 4
    assert len(list((data_folder() / "cache").glob("shapes-*"))) == 1  # the last ones only


def test_few_scenes_are_not_kept(calls):
    load_shapes("train", size=7, image_size=16)
    load_shapes("train", size=7, image_size=16)
    assert len(calls) == 2 and not (data_folder() / "cache").exists()


def test_scenes_that_were_cut_off_are_painted_again(calls):
    first = load_shapes("train", size=8, image_size=16).images.copy()
    (file,) = (data_folder() / "cache").glob("shapes-*.npy")
    for size in (0, 50, file.stat().st_size - 1):
        file.write_bytes(file.read_bytes()[:size])
        assert np.array_equal(load_shapes("train", size=8, image_size=16).images, first)
    assert len(calls) == 4


def test_scenes_that_can_not_be_kept_are_painted_all_the_same(calls):
    data_folder().mkdir(parents=True, exist_ok=True)
    (data_folder() / "cache").write_text("not a folder")
    assert len(load_shapes("train", size=8, image_size=16)) == 8 and len(calls) == 1


if __name__ == "__main__":
    print("DIGESTS = {")
    for name in (*SPLITS, *(f"test-{kind}" for kind in SHIFTS)):
        print(f'    "{name}": "{digest(name)}",')
    print("}")

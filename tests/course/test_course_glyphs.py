"""The game of notebook 11: pictures, rules, simulated reader, stored opponent, checks, widget and plots."""

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from course_answers import exercises
from matplotlib.text import Text

from minclip.config import MinclipError
from minclip.course import checks, glyphs, plots, widgets


def unit(x, dim=-1):
    return F.normalize(x, dim=dim)


def mixed(texts, examples, w):
    return unit(w * texts + (1 - w) * unit(examples.mean(dim=1))).T


def gain(before, after, right):
    return (after == right).float() - (before == right).float()


def by_group(values, before):
    return tuple(values[rows].sum() / len(values) for rows in (before < 0, before >= 0))


def where_gained(before, after, right):
    return by_group(gain(before, after, right), before)


SOLUTIONS = [(checks.mixed, mixed), (checks.where_gained, where_gained)]
WRONG = [
    (checks.mixed, lambda t, e, w: unit(w * t + (1 - w) * e.mean(dim=1)).T, "before you mix"),
    (checks.mixed, lambda t, e, w: (w * t + (1 - w) * unit(e.mean(dim=1))).T, "at the end, too"),
    (checks.mixed, lambda t, e, w: (w * t + (1 - w) * e.mean(dim=1)).T, "nothing was normalized"),
    (checks.mixed, lambda t, e, w: mixed(t, e, 1 - w), "w belongs to the sentence"),
    (checks.mixed, lambda t, e, w: mixed(t, e, 0), "the examples only"),
    (checks.mixed, lambda t, e, w: mixed(t, e[:, :1], w), "the first example only"),
    (checks.mixed, lambda t, e, w: unit(mixed(t, e, w), dim=-1), "the shape is right"),
    (checks.mixed, lambda t, e, w: unit(w * t + (1 - w) * unit(e.mean(dim=1)), dim=0).T, "not along the classes"),
    (checks.mixed, lambda t, e, w: mixed(t, e, w).T, "^transpose it"),
    (checks.where_gained, lambda b, a, y: where_gained(b, a, y)[::-1], "the order is"),
    (checks.where_gained, lambda b, a, y: tuple(gain(b, a, y)[m].mean() for m in (b < 0, b >= 0)), "of each group"),
    (checks.where_gained, lambda b, a, y: tuple(len(y) * x for x in where_gained(b, a, y)), "these are counts"),
    (checks.where_gained, lambda b, a, y: by_group(a == y, b), "subtract the one"),
    (checks.where_gained, lambda b, a, y: by_group(gain(b, a, y).clamp(min=0), b), "as a loss"),
    (checks.where_gained, lambda b, a, y: tuple(map(abs, where_gained(b, a, y))), "a loss is negative"),
    (checks.where_gained, lambda b, a, y: (a == y).float().mean() - (b == y).float().mean(), "expected"),
]  # fmt: skip


TestExercises = exercises(SOLUTIONS, WRONG)


# ---- breeds, sentences, pictures


def test_a_seed_gives_the_same_pictures_everywhere():
    images = glyphs.pictures(glyphs.own_traits(glyphs.breeds(3, 100, unseen=False), seed=3), seed=3)
    assert images.shape == (100, 3, 64, 64) and images.dtype == np.uint8
    assert hashlib.md5(images.tobytes()).hexdigest() == "185b5c5d593362c0583f01b36e917d1a"


def test_breeds_are_different_and_those_of_the_game_are_never_trained_on():
    known, new = (
        {tuple(row) for row in glyphs.breeds(seed, count, unseen=unseen)}
        for seed, count, unseen in ((0, 1300, False), (1, 300, True))
    )
    assert (len(known), len(new), len(known & new)) == (1300, 300, 0)
    assert glyphs.COUNT == 1728
    with pytest.raises(MinclipError, match="asked for 1000"):
        glyphs.breeds(0, 1000, unseen=True)


def test_one_animal_in_five_has_one_trait_of_its_own():
    of = np.tile(glyphs.breeds(0, 50, unseen=False), (40, 1))
    differ = (glyphs.own_traits(of, seed=1) != of).sum(axis=1)
    assert set(differ) == {0, 1} and differ.mean() == pytest.approx(0.2, abs=0.03)
    assert not (glyphs.own_traits(of, seed=1, odd=0) != of).any()


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (
            (1, 1, 1, 1, 1, 1, 1),
            "a velmo has an oval body, six long arms with bars, a dotted coat, two eyes and a split tail",
        ),
        ((0, 0, 1, 1, 0, 0, 0), "a velmo has long arms with bars"),
        ((0, 1, 0, 0, 0, 1, 0), "a velmo has six arms and two eyes"),
        ((1, 0, 0, 0, 0, 0, 0), "a velmo has an oval body"),
    ],
)  # fmt: skip
def test_a_sentence_says_the_traits_that_are_named(named, expected):
    assert glyphs.sentence([3, 3, 1, 2, 2, 1, 2], named, name="velmo") == expected


def test_a_sentence_names_as_many_traits_as_asked_and_names_are_different():
    assert (glyphs.named_traits(5, 12, traits=3).sum(axis=1) == 3).all()
    assert len(set(glyphs.names(60))) == 60


@pytest.mark.parametrize("trait", range(7))
def test_every_trait_is_visible(trait):
    """Two animals that differ in one trait only differ in their pictures, in at least 15 pixels."""
    one = np.zeros((glyphs.SIZES[trait], 7), dtype=int)
    one[:, trait] = range(len(one))
    pictures = np.stack([glyphs._paint(row, np.full(12, 2**31), 64) for row in one])
    for i in range(len(one)):
        for j in range(i):
            assert (abs(pictures[i] - pictures[j]).max(axis=-1) > 30).sum() >= 15, (i, j)


# ---- the game


@pytest.fixture(scope="module")
def game():
    return widgets.new_game()


@pytest.fixture(scope="module")
def opponent(game):
    """The model's answers (3, 12): sentence, sentence and one, two examples (mixed 3 : 7)."""
    v = widgets.opponent_vectors()
    classifiers = [v["texts"].T, *(mixed(v["texts"], v["examples"][:, :k], 0.3) for k in (1, 2))]
    return np.stack([(v["questions"] @ c).argmax(dim=1).numpy() for c in classifiers])


def test_the_game_is_always_the_same(game):
    assert game.right.tolist() == [8, 7, 4, 4, 7, 0, 6, 3, 11, 9, 11, 9]
    assert game.names[:2] == ["velmo", "morbas"]
    assert game.sentences[2] == "a tanitu has short arms with bars and one eye"
    assert game.questions.shape == (12, 3, 64, 64) and game.examples.shape == (12, 2, 3, 64, 64)
    assert (widgets.recorded_game(game) == game.right).sum(axis=1).tolist() == [5, 8, 10]


def test_a_reader_without_mistakes_answers_when_one_sentence_fits_best_and_only_then():
    breeds = np.array([[0, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1]])
    named = np.array([[1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0]], dtype=bool)
    examples = np.repeat(breeds[:, None], 2, axis=1)
    answers = widgets.simulated_reader(breeds, breeds=breeds, named=named, examples=examples, slip=0, seed=0)
    assert answers.tolist() == [[-1, -1, 2], [0, 1, 2], [0, 1, 2]]  # only an example distinguishes the first two


def test_a_reader_misreads_a_trait_as_often_as_asked():
    breeds, named = np.zeros((2, 7), dtype=int), np.zeros((2, 7), dtype=bool)
    breeds[1, 4], named[:, 4] = 1, True  # only the coat, of three kinds, counts
    seen = np.zeros((4000, 7), dtype=int)
    known = {"breeds": breeds, "named": named, "examples": breeds[:, None].repeat(2, axis=1)}
    answers = widgets.simulated_reader(seen, **known, slip=0.1, seed=1)[0]
    shares = [(answers == i).mean() for i in (0, 1, -1)]
    assert shares == pytest.approx([0.9, 0.05, 0.05], abs=0.015)


def test_the_board_shows_the_round_and_the_examples(game, opponent):
    for count, shots, scores in ((0, 0, 0), (13, 1, 2), (24, 2, 4)):
        figure = widgets.game_figure(game, opponent, [0] * count)
        pictures = [axis for axis in figure.axes if axis.images]
        assert [axis.images[0].get_array().shape[1] // 64 for axis in pictures] == [1] + 2 * [shots] * bool(shots)
        assert sum(len(axis.patches) for axis in figure.axes) == scores  # a bar for you and one for the model a round
        assert f"Round {shots}, picture {count % 12}" in figure.texts[-1].get_text()
    with pytest.raises(MinclipError, match="36 answers, got 37"):
        widgets.game_figure(game, opponent, [0] * 37)


def test_the_end_shows_the_scores_of_both(game, opponent):
    answers = [*game.right, *[-1] * 12, *game.right]
    figure = widgets.game_figure(game, opponent, answers)
    theirs = ", ".join(str(n) for n in (opponent == game.right).sum(axis=1))
    assert figure.get_suptitle().endswith(f"you 12, 0, 12; the model {theirs}")
    assert plots.png(figure)


def test_a_whole_game_by_the_widget(game, opponent, monkeypatch):
    # the texts of a figure instead of its pixels, which take a third of a second each; tests/browser draws them all
    monkeypatch.setattr(plots, "png", lambda figure: repr([t.get_text() for t in figure.findobj(Text)]).encode())
    box = widgets.glyph_game(game, opponent)
    breed, (back, again, state), picture = box.children[0], box.children[1].children, box.children[2]
    start = picture.value
    assert back.disabled and state.value == "round 0, picture 0"
    for i, answer in enumerate(widgets.recorded_game(game).reshape(-1).tolist()):
        before = picture.value
        breed.value = answer
        assert picture.value != before and breed.value is None
        if i == 12:
            assert state.value == "round 1, picture 1"
            back.click()
            assert state.value == "round 1, picture 0" and picture.value == before
            breed.value = answer
    assert state.value == "the game is over" and breed.disabled
    again.click()
    assert picture.value == start and not breed.disabled


def test_the_stored_opponent_has_unit_vectors_and_answers_better_with_an_example(game, opponent):
    v = widgets.opponent_vectors()
    assert {name: tuple(x.shape) for name, x in v.items()} == {
        **dict.fromkeys(("texts", "full_texts", "questions"), (12, 32)),
        "examples": (12, 2, 32),
        "images": (12, 20, 32),
    }
    assert all(torch.allclose(x.norm(dim=-1), torch.ones(x.shape[:-1])) for x in v.values())
    assert (opponent == game.right).sum(axis=1).tolist() == [5, 11, 12]


# ---- plots of the results


def test_each_group_has_three_bars_with_their_percentages():
    groups = {"people": ([0.5, 0.75, 0.754], [0, 0, 0]), "b": ([0, 0, 0], [0.1, 0, 0])}
    axis = plots.three_rounds(groups, note="").axes[0]
    assert [text.get_text() for text in axis.texts][::2] == ["50.0", "75.0", "75.4"]
    assert [text.get_text() for text in axis.get_xticklabels()] == ["people", "b"]


def test_levels_and_curves_are_in_percent():
    figure = plots.by_length([1, 2], {"a": ([0.1, 0.2], [0, 0])}, {"one example": (0.87, 0.01)}, note="stored")
    axis = figure.axes[0]
    assert axis.lines[0].get_ydata().tolist() == [10, 20] and axis.lines[1].get_ydata()[0] == 87
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "one example: 87 %"]

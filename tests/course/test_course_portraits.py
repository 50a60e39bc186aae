"""Notebook 13 on written words and portraits: checks, the generator, plots, the widget."""

import numpy as np
import pytest
import torch
from course_answers import exercises

from minclip.config import MinclipError
from minclip.course import checks, plots, portraits, widgets


def word_wins(answers, shapes, words):
    won = [a == w for a, s, w in zip(answers, shapes, words) if w is not None and w != s]
    return sum(won) / len(won)


def chance_of_same(sizes):
    total = sum(sizes)
    return sum(n * (n - 1) for n in sizes) / (total * (total - 1))


def with_agreement(answers, shapes, words):
    won = [a == w for a, w in zip(answers, words) if w is not None]
    return sum(won) / len(won)


def of_all(answers, shapes, words):
    return sum(a == w != s for a, s, w in zip(answers, shapes, words)) / len(answers)


def shape_won(answers, shapes, words):
    won = [a == s for a, s, w in zip(answers, shapes, words) if w is not None and w != s]
    return sum(won) / len(won)


def with_none(answers, shapes, words):
    won = [a == w for a, s, w in zip(answers, shapes, words) if w != s]
    return sum(won) / len(won)


SOLUTIONS = [(checks.word_wins, word_wins), (checks.chance_of_same, chance_of_same)]
WRONG = [
    (checks.word_wins, with_agreement, "can't be told apart"),
    (checks.word_wins, of_all, "not by all images"),
    (checks.word_wins, shape_won, "the shape won"),
    (checks.word_wins, with_none, "None names no shape"),
    (checks.word_wins, lambda a, s, w: round(3 * word_wins(a, s, w)), "return a fraction"),
    (checks.chance_of_same, lambda sizes: sum(n * n for n in sizes) / sum(sizes) ** 2, "not its own neighbor"),
    (checks.chance_of_same, lambda sizes: 1 / 3, "equally many"),
    (checks.chance_of_same, lambda sizes: sum(n * (n - 1) for n in sizes) / sum(sizes) ** 2, "divide by N − 1"),
    (checks.chance_of_same, lambda sizes: np.mean([n - 1 for n in sizes]) / (sum(sizes) - 1), "six times"),
    (checks.chance_of_same, lambda sizes: 70 / 240, r"for \[2, 2\]: got 0.2917, expected 0.3333"),
    (checks.chance_of_same, lambda sizes: torch.ones(2), "should be one number"),
]

TestExercises = exercises(SOLUTIONS, WRONG)


# ---- the generator


def test_no_person_is_seen_and_unseen():
    seen, unseen = ({*map(tuple, portraits.people(3, n, unseen=u).tolist())} for n, u in ((199, False), (41, True)))
    assert len(seen) == 199 and len(unseen) == 41 and not seen & unseen
    with pytest.raises(MinclipError, match="there are 41 such people, asked for 42"):
        portraits.people(0, 42, unseen=True)


def test_a_portrait_keeps_its_person_and_changes_the_rest():
    of = portraits.people(0, 2, unseen=True)[[0] * 100 + [1] * 100]
    rows = portraits.portraits(of, seed=0)
    assert (rows[:, :5] == of).all()
    assert [len(set(column)) for column in rows[:, 5:].T.tolist()] == [2, 2, 3, 4, 4]


def test_a_description_names_what_is_there_and_what_is_asked_for():
    row = [0, 1, 2, 1, 0, 1, 1, 1, 1, 0]
    full = "a smiling person with long red hair, a beard, glasses and a hat on a blue background"
    assert portraits.description(row) == full
    assert portraits.description(row, [False, True, False, False, False, False]) == "a person with a beard"
    assert portraits.description(row, [True] + [False] * 5, who="Ada") == "Ada with long red hair"
    assert portraits.description([0] * 10, [False] * 6) == "a person"


def test_pictures_are_the_same_on_each_machine_and_show_the_hat():
    rows = np.zeros((2, 10), dtype=int)
    rows[1, 6] = 1
    bare, hat = portraits.pictures(rows[[0, 0]], seed=0)[0], portraits.pictures(rows[[1, 1]], seed=0)[0]
    changed = (bare.astype(int) != hat).any(axis=0)
    assert changed[:24].sum() > 200 and not changed[36:].any()
    assert int(portraits.pictures(rows, seed=0).astype(int).sum()) == 5_215_421


# ---- pictures and the widget


def test_a_curve_that_is_shorter_ends_at_the_right():
    figure = plots.by_count([0, 10, 20], {"a": ([0.1, 0.2, 0.3], [0] * 3), "b": ([0.5, 0.6], [0] * 2)}, note="live")
    assert [line.get_xdata().tolist() for line in figure.axes[0].lines] == [[0, 1, 2], [1, 2]]


def test_numbers_of_near_points_stand_apart():
    curves = {"a": ([0.57], [0]), "b": ([0.6], [0]), "c": ([0.66], [0])}
    texts = plots.by_count([0], curves, note="live").axes[0].texts
    assert [text.get_text() for text in texts] == ["66", "60", "57"]
    assert [(text.xyann[0], round(text.xy[1])) for text in texts] == [(0, 72), (12, 60), (0, 51)]


def test_medians_are_written_at_their_lines():
    figure = plots.neighbor_rows({"a": np.array([0.1, 0.5, 0.6]), "b": np.array([0.9])}, note="live", xlabel="x")
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.50", "0.90"]


def test_neighbors_of_another_person_are_marked():
    images = np.zeros((3, 3, 8, 8), dtype=np.uint8)
    figure = plots.nearest_rows(images, [1, 0, 0], [0, 0, 1], note="live", columns=3)
    assert [axis.get_xlabel() for axis in figure.axes[3:]] == ["same", "same", "another"]


def scores(images, texts):  # the text that names a hat, if the picture has the hat's purple
    hat = (np.abs(images.transpose(0, 2, 3, 1).astype(int) - (96, 60, 130)).max(axis=-1) < 20).mean(axis=(1, 2)) > 0.05
    return torch.tensor([[0.5 if ("hat" in text) == bool(has) else 0.1 for text in texts] for has in hat])


def test_the_widgets_face_and_its_nearest_text():
    texts = ["a person with a hat", "a person"]
    figure = widgets.portrait_figure(scores, texts, hat="a hat")
    assert "a person with a hat" in figure.get_suptitle()
    assert [text.get_text() for text in figure.axes[1].texts] == ["0.50", "0.10"]
    assert "“a person”" in widgets.portrait_figure(scores, texts, hair="long").get_suptitle()


def test_each_control_of_the_widget_redraws_the_face():
    *controls, picture = widgets.portrait_playground(scores, ["a person with a hat", "a person"]).children
    for control, value in zip(controls, ("square", "curly", "red", "smiling", True, True, True)):
        before = picture.value
        control.value = value
        assert picture.value != before

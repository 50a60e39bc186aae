"""Notebook 13 on limits and their causes: the worlds, checks, the plot, the widget."""

import hashlib

import numpy as np
import pytest
import torch
from course_answers import exercises

from minclip.course import checks, plots, widgets
from minclip.course import limits_worlds as worlds


def blind_accuracy(groups):
    return len(groups) / sum(len(group) for group in groups)


def chance(groups):
    return 1 / sum(map(len, groups))


def unweighted(groups):
    return sum(1 / len(group) for group in groups) / len(groups)


def alone(groups):
    return sum(len(group) == 1 for group in groups) / sum(map(len, groups))


def swap_colors(caption, colors):
    words = caption.split()
    a, b = (i for i, word in enumerate(words) if word in colors)
    words[a], words[b] = words[b], words[a]
    return " ".join(words)


def one_by_one(caption, colors):
    a, b = (word for word in caption.split() if word in colors)
    return caption.replace(a, b).replace(b, a)


def first_only(caption, colors):
    a, b = (word for word in caption.split() if word in colors)
    return caption.replace(a, b)


def swap_objects(caption, colors):
    words = caption.split()
    a, b = (i for i, word in enumerate(words) if word in colors)
    words[a : a + 2], words[b : b + 2] = words[b : b + 2], words[a : a + 2]
    return " ".join(words)


SOLUTIONS = [(checks.blind_accuracy, blind_accuracy), (checks.swap_colors, swap_colors)]
WRONG = [
    (checks.blind_accuracy, chance, "that is chance"),
    (checks.blind_accuracy, unweighted, "give it more weight"),
    (checks.blind_accuracy, alone, "a guess among k"),
    (checks.blind_accuracy, lambda g: float(len(g)), "divide it by"),
    (checks.blind_accuracy, lambda g: 100 * blind_accuracy(g), "in percent"),
    (checks.blind_accuracy, lambda g: 1 - blind_accuracy(g), "wrong answers"),
    (checks.blind_accuracy, lambda g: "half", "should be one number"),
    (checks.swap_colors, one_by_one, "both colors became red"),
    (checks.swap_colors, first_only, "both colors became blue"),
    (checks.swap_colors, swap_objects, "that swaps the objects"),
    (checks.swap_colors, lambda caption, colors: caption, "as it was"),
    (checks.swap_colors, lambda caption, colors: swap_colors(caption, colors).split(), "a list of words"),
]

TestExercises = exercises(SOLUTIONS, WRONG)


# ---- the worlds


def test_a_world_is_the_same_on_every_machine():
    found = {
        name: hashlib.sha256(world.images.tobytes()).hexdigest()[:12]
        for name, world in (
            ("groups", worlds.groups(0, 40)),
            ("two objects", worlds.two_objects(0, 40)),
            ("stars", worlds.stars(0, 40)),
        )
    }
    assert found == {"groups": "1176ab5045a7", "two objects": "dc23572d68d8", "stars": "aab2d1c63d32"}


def test_an_image_of_a_group_has_as_many_separate_objects_as_it_says():
    ndimage = pytest.importorskip("scipy.ndimage")
    world = worlds.groups(3, 60, image_size=64)
    solid = [i for i in range(60) if world.shape[i] in (0, 1, 2)]  # circles, squares, triangles
    seen = []
    for i in solid:
        image = world.images[i].astype(int)
        spread = image.max(axis=0) - image.min(axis=0)  # the objects are colored, the background is nearly gray
        labels, _ = ndimage.label(spread > 90)
        seen.append(int((np.bincount(labels.ravel())[1:] > 60).sum()))
    assert seen == world.count[solid].tolist()


def test_groups_have_every_count_equally_often_whatever_their_kind():
    world = worlds.groups(1, 2000, image_size=16)
    assert np.bincount(world.count)[1:].min() > 450
    for other in (world.color, world.shape):
        assert abs(np.corrcoef(world.count, other)[0, 1]) < 0.06


def test_groups_are_named_in_the_singular_and_the_plural():
    world = worlds.groups(0, 10)
    assert world.counted(0, 1) == "one yellow triangle"
    assert world.counted(0, 3) == "three yellow triangles" and world.counted(3, 2) == "two purple crosses"


def center(image, color):
    """Where (x, y) the pixels are that are nearest to a color of the shapes world, and how many."""
    far = np.abs(image.astype(int).transpose(1, 2, 0) - worlds.RGB[color]).sum(axis=2)
    y, x = np.nonzero(far < 60)
    return x.mean(), y.mean(), len(x)


def test_two_objects_have_the_stated_relation_and_sizes():
    world, compared = worlds.two_objects(0, 300, image_size=64), 0
    for i in range(300):
        (ax, ay, a), (bx, by, b) = (center(world.images[i], world.color[i, k]) for k in (0, 1))
        assert [bx - ax > 8, ax - bx > 8, by - ay > 8, ay - by > 8][world.place[i]], i
        if world.shape[i, 0] in (0, 1) and world.shape[i, 1] in (0, 1):  # circles and squares have about equal areas
            assert (a > b) == (world.depth[i] == 4), i
            compared += 1
    assert compared >= 5


def test_two_objects_differ_in_color_and_shape():
    world = worlds.two_objects(2, 500, image_size=16, kinds=6)
    assert (world.color[:, 0] != world.color[:, 1]).all() and (world.shape[:, 0] != world.shape[:, 1]).all()
    assert world.color.max() == world.shape.max() == 5
    assert np.bincount(world.place).min() > 90 and np.bincount(world.depth)[4:].min() > 200


def test_swapped_names_have_each_others_color():
    world = worlds.two_objects(0, 1)
    assert world.names(0) == ("a cyan star", "a pink square")
    assert world.names(0, swapped=True) == ("a pink star", "a cyan square")


def test_five_and_six_points_cover_the_same_area_and_differ_in_their_points():
    world = worlds.stars(0, 400, image_size=64)
    back = world.images[:, :, :1, :1].astype(int)
    area = (np.abs(world.images - back).sum(axis=1) > 60).sum(axis=(1, 2))
    means = [area[world.six == k].mean() for k in (0, 1)]
    assert means[1] / means[0] == pytest.approx(1.0, abs=0.06)
    with_five, with_six = (worlds._star(64, n, np.array([255, 0, 0]), np.full(14, 2**31)) for n in (5, 6))
    assert (with_five != with_six).any(axis=2).sum() > 60


# ---- the plot and the widget


def test_marks_stand_at_their_percentages_beside_chance():
    rows = {"a": {"x": (0.5, 0.1), "y": (1.0, 0.0)}, "b": {"x": (0.25, 0.0), "y": (0.75, 0.0)}}
    axis = plots.beside_chance(rows, {"a": 0.5, "b": 0.25}, "t", note="live: ").axes[0]
    assert [text.get_text() for text in axis.texts] == ["50", "100", "25", "75"]
    assert [line.get_xdata()[0] for line in axis.lines if len(line.get_xdata()) == 2] == [50, 25]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["chance", "x", "y"]


@pytest.fixture(scope="module")
def game():
    counts = [1, 2, 3, 4, 3, 1, 2, 4]
    texts = [[f"{n} stars, image {i}" for n in range(1, 5)] for i in range(8)]
    right = torch.eye(4)[torch.tensor(counts) - 1] * 5
    images = np.random.default_rng(0).integers(0, 255, (8, 3, 16, 16), dtype=np.uint8)
    return (images, texts, {"knows": right, "always four": torch.tensor([[0.0, 0, 0, 5]]).repeat(8, 1)}), counts


def test_the_widget_shows_the_answers_of_the_chosen_image(game):
    world, counts = game
    figure = widgets.counts_figure(*world, counts=counts, count=3, number=1)
    assert figure.get_suptitle() == "1 of 2 models answer 3 stars, image 4"
    picture, knows, four = figure.axes
    assert (np.asarray(picture.images[0].get_array()).transpose(2, 0, 1) == world[0][4]).all()
    assert knows.texts[0].get_text().startswith("3 stars, image 4 ✓") and four.texts[0].get_text().startswith("4 stars")


def test_each_control_of_the_widget_redraws_the_picture(game):
    world, counts = game
    count, number, picture = widgets.counts_playground(*world, counts=counts).children
    for control, value in ((count, 4), (number, 1)):
        before = picture.value
        control.value = value
        assert picture.value != before

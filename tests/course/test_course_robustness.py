"""Notebook 12 on robustness: checks, plots, the widget."""

import math

import numpy as np
import pytest
import torch
from course_answers import exercises

from minclip.course import checks, plots, widgets


def logit(p):
    return math.log(p / (1 - p))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def effective_robustness(accuracy, shifted, slope, intercept):
    line = slope * logit(accuracy) + intercept
    return logit(shifted) - line, 100 * (shifted - sigmoid(line))


def in_logits(change):
    return lambda a, s, m, b: (change(a, s, m, b), effective_robustness(a, s, m, b)[1])


def in_points(change):
    return lambda a, s, m, b: (effective_robustness(a, s, m, b)[0], change(a, s, m, b))


def mix_weights(a, b, alpha):
    return {name: (1 - alpha) * a[name] + alpha * b[name] for name in a}


def in_place(a, b, alpha):
    for name in a:
        a[name].lerp_(b[name], alpha)
    return a


SOLUTIONS = [(checks.effective_robustness, effective_robustness), (checks.mix_weights, mix_weights)]
WRONG = [
    (
        checks.effective_robustness,
        in_logits(lambda a, s, m, b: m * logit(a) + b - logit(s)),
        "above the line is positive",
    ),
    (checks.effective_robustness, in_logits(lambda a, s, m, b: s - (m * a + b)), "transform both accuracies"),
    (checks.effective_robustness, in_logits(lambda a, s, m, b: s - (m * logit(a) + b)), "take its logit, too"),
    (checks.effective_robustness, in_logits(lambda a, s, m, b: logit(s) - logit(a)), "subtract what the line predicts"),
    (
        checks.effective_robustness,
        in_logits(lambda a, s, m, b: math.log(s) - (m * math.log(a) + b)),
        "log p is not the logit",
    ),
    (checks.effective_robustness, in_points(lambda *x: effective_robustness(*x)[1] / 100), "that is a fraction"),
    (checks.effective_robustness, in_points(lambda *x: 100 * effective_robustness(*x)[0]), "are not points"),
    (checks.effective_robustness, in_points(lambda a, s, m, b: 100 * (s - a)), "fall from the ordinary images"),
    (checks.effective_robustness, in_points(lambda a, s, m, b: 100 * (s - m * logit(a) - b)), "into an accuracy first"),
    (
        checks.effective_robustness,
        in_points(lambda *x: 100 * sigmoid(effective_robustness(*x)[0])),
        "sigmoid of the difference",
    ),
    (checks.effective_robustness, lambda *x: effective_robustness(*x)[0], "return two numbers"),
    (checks.effective_robustness, lambda *x: ("high", "higher"), "return two numbers"),
    (checks.mix_weights, lambda a, b, alpha: mix_weights(b, a, alpha), "alpha is the weight of b"),
    (checks.mix_weights, lambda a, b, alpha: {n: a[n] + alpha * b[n] for n in a}, "must add up to 1"),
    (checks.mix_weights, lambda a, b, alpha: {**a, "head": torch.lerp(a["head"], b["head"], alpha)}, "the head only"),
    (checks.mix_weights, in_place, "build new tensors"),
    (checks.mix_weights, lambda a, b, alpha: torch.lerp(a["head"], b["head"], alpha), "return a dict"),
    (checks.mix_weights, lambda a, b, alpha: {n: a[n].sum() for n in a}, "should be a tensor of shape"),
]

TestExercises = exercises(SOLUTIONS, WRONG)


# ---- plots


def test_the_plane_has_logit_axes_and_the_line_that_is_given():
    points = {" ": (0.5, 0.2), "<zero-shot": (0.9, 0.8, 0.01, 0.02)}
    figure = plots.robustness_plane({"models": points}, "title", line=(0.5, -1.0), note="live")
    (axis,) = figure.axes
    x, y = axis.lines[0].get_data()
    assert x == pytest.approx([0, logit(0.9)]) and y == pytest.approx([logit(0.2), logit(0.8)])
    line = axis.lines[-1]
    assert np.polyfit(*line.get_data(), 1) == pytest.approx([0.5, -1.0])
    ticks = dict(zip([label.get_text() for label in axis.get_xticklabels()], axis.get_xticks()))
    assert ticks["90"] == pytest.approx(logit(0.9)) and ticks["50"] == pytest.approx(0)
    assert [text.get_text() for text in axis.texts] == ["", "zero-shot"]


def test_equal_logit_steps_are_unequal_in_points():
    plain, logits = plots.two_scales([(0.5, 0.75), (0.9, 27 / 28)]).axes
    texts = [text.get_text() for text in plain.texts if text.get_text()]
    assert texts == ["+25.0 points", "+6.4 points"]
    assert [text.get_text() for text in logits.texts if text.get_text()] == ["+1.10 logits", "+1.10 logits"]


def test_dots_stand_at_their_accuracies():
    rows = {"a": {"before": 0.5, "after": 0.75}, "b": {"before": 0.25, "after": 1.0}}
    (axis,) = plots.dots_by_name(rows, "title").axes
    assert [c.get_offsets().tolist() for c in axis.collections] == [[[50, 0], [25, 1]], [[75, 0], [100, 1]]]


def test_mixtures_are_drawn_over_alpha():
    curves = {"test": ([0.5, 0.7, 0.6], [0, 0, 0])}
    (axis,) = plots.mixtures([0, 0.5, 1], curves, "title", marked=0.5, ylim=(40, 90), note="live").axes
    assert axis.get_ylim() == (40, 90)
    assert axis.lines[0].get_ydata() == pytest.approx([50, 70, 60])
    assert list(axis.lines[1].get_xdata()) == [0.5, 0.5]


def test_each_column_of_images_has_its_name():
    images = np.zeros((2, 3, 8, 8), dtype=np.uint8)
    axes = plots.image_columns({"plain": images, "sketch": images + 9}, "title").axes
    assert len(axes) == 4 and sorted(a.get_title(loc="center") for a in axes) == ["", "", "plain", "sketch"]


# ---- the widget


@pytest.fixture
def mixed():
    """Two classes and one feature; the heads disagree about the images between 0 and 1."""
    heads = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, -1.0]])  # x > 0, and x > 1
    x = torch.tensor([[-1.0], [0.25], [0.75], [2.0]])
    return heads, {"narrow": (x, torch.tensor([0, 0, 0, 1])), "ordinary": (x, torch.tensor([0, 1, 1, 1]))}


def test_a_card_counts_what_a_mixture_gains_and_loses(mixed):
    figure = widgets.mixture_figure(*mixed, alphas=(0.0, 0.5, 1.0))
    shown = [[text.get_text() for text in axis.texts] for axis in figure.axes]
    assert shown == [
        ["50.0 %\n+0 −0", "100.0 %\n+0 −0"],
        ["75.0 %\n+250 −0", "75.0 %\n+0 −250"],
        ["100.0 %\n+500 −0", "50.0 %\n+0 −500"],
    ]


def test_the_slider_redraws_the_picture(mixed):
    slider, picture = widgets.mixture_slider(*mixed, alpha=0.5).children
    before = picture.value
    slider.value = 1.0
    assert picture.value != before

"""Notebook 11 on labels and sentences: checks, plots, the widget."""

import math

import numpy as np
import pytest
import torch
from course_answers import exercises

from minclip.course import checks, plots, widgets
from minclip.evaluate import probe


def coarse_to_fine(score, steps=(8, 4, 2, 1), last=False):
    found = {i: score(i) for i in range(0, 97, 16)}
    for step in steps:
        best = max(sorted(found, reverse=last), key=found.get)
        found |= {i: score(i) for i in (best - step, best + step) if 0 <= i <= 96}
    return max(sorted(found, reverse=last), key=found.get)


def every(score):
    return max(range(97), key=score)


def outside(score):
    return max(range(0, 98), key=score)


def shots_worth(curve, zero_shot, scale=math.log2, back=lambda y: 2**y):
    ks = sorted(curve)
    if curve[ks[0]] >= zero_shot:
        return ks[0]
    for a, b in zip(ks, ks[1:]):
        if curve[b] >= zero_shot:
            part = (zero_shot - curve[a]) / (curve[b] - curve[a])
            return back(scale(a) + part * (scale(b) - scale(a)))
    return None


def first_above(curve, zero_shot):
    return next((k for k in sorted(curve) if curve[k] >= zero_shot), None)


def last_below(curve, zero_shot):
    if max(curve.values()) < zero_shot:
        return None
    return max((k for k in curve if curve[k] < zero_shot), default=min(curve))


def last_crossing(curve, zero_shot):
    ks = sorted(curve)
    from_the_end = next((i for i in reversed(range(len(ks))) if curve[ks[i]] < zero_shot), None)
    if from_the_end is None:
        return ks[0]
    return None if from_the_end == len(ks) - 1 else shots_worth({k: curve[k] for k in ks[from_the_end:]}, zero_shot)


def same(x):
    return x


SOLUTIONS = [
    (checks.coarse_to_fine, coarse_to_fine),
    (checks.shots_worth, shots_worth),
    (checks.shots_worth, probe.crossing),
]
WRONG = [
    (checks.coarse_to_fine, every, "tried 97 of the 97"),
    (checks.coarse_to_fine, outside, "numbered from 0 to 96"),
    (checks.coarse_to_fine, lambda s: coarse_to_fine(s, steps=()), "you stopped at 48"),
    (checks.coarse_to_fine, lambda s: coarse_to_fine(s, last=True), "a tie goes to the smallest"),
    (checks.coarse_to_fine, lambda s: coarse_to_fine(s, steps=(8, 4)), "the steps are 8, 4, 2 and 1"),
    (checks.coarse_to_fine, lambda s: 10 ** (coarse_to_fine(s) / 8 - 6), "C itself"),
    (checks.coarse_to_fine, lambda s: str(coarse_to_fine(s)), "a whole number"),
    (checks.shots_worth, lambda c, z: shots_worth(c, z, scale=same, back=same), "interpolate log2 k"),
    (checks.shots_worth, lambda c, z: shots_worth(c, z) and math.log2(shots_worth(c, z)), "return k"),
    (checks.shots_worth, first_above, "first k at or above"),
    (checks.shots_worth, last_below, "last k below"),
    (checks.shots_worth, last_crossing, r"the \*first\* crossing"),
    (checks.shots_worth, lambda c, z: shots_worth(c, z) or max(c), "stays below"),
    (checks.shots_worth, lambda c, z: None if c[1] > z else shots_worth(c, z), "starts above"),
    (checks.shots_worth, lambda c, z: shots_worth(c, z + 1e-9), "equals zero-shot"),
]

TestExercises = exercises(SOLUTIONS, WRONG)


# ---- the widget


@pytest.fixture(scope="module")
def tasks():
    """Two tasks with two classes: "easy", which the first feature separates, and "noise"."""
    rng = np.random.default_rng(0)
    y = torch.arange(40) % 2
    x = torch.from_numpy(rng.normal(size=(40, 3))).float()
    easy = x.clone()
    easy[:, 0] = 6.0 * y - 3
    images = rng.integers(0, 255, (40, 3, 16, 16), dtype=np.uint8)
    shared = {"images": images, "names": ["a", "b"], "zero_shot": 0.9}
    return {
        "easy": {"train": (easy, y), "test": (easy, y), **shared},
        "noise": {"train": (x, y), "test": (x, y), **shared},
    }


def test_the_widgets_bars_are_probes_on_the_images_that_it_shows(tasks):
    figure = widgets.few_labels_figure(tasks, task="easy", k=4, sample=3)
    axis = figure.axes[-1]
    assert [bar.get_height() for bar in axis.patches] == [100, 100]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["k = 1", "k = 4"]
    assert "10 points above" in figure.get_suptitle()
    shown = np.stack([np.asarray(a.images[0].get_array()) for a in figure.axes[:-1]]).transpose(0, 3, 1, 2)
    (x, y), images = tasks["easy"]["train"], tasks["easy"]["images"]
    places = [next(i for i in range(40) if (images[i] == picture).all()) for picture in shown]
    assert len(places) == 8 and y[places].tolist() == [0] * 4 + [1] * 4
    chosen = torch.tensor(places)
    noise = widgets.few_labels_figure(tasks, task="noise", k=4, sample=3).axes[-1].patches[1].get_height()
    (x, y) = tasks["noise"]["train"]
    columns = probe.fit(x[chosen].double(), y[chosen], 0.1)
    assert noise == pytest.approx(100 * float((probe.predict(x.double(), columns).argmax(dim=1) == y).float().mean()))


def test_each_control_of_the_widget_redraws_the_picture(tasks):
    box = widgets.few_labels(tasks, ks=(1, 2, 4))
    task, k, sample, picture = box.children
    for control, value in ((task, "noise"), (k, 4), (sample, 2)):
        before = picture.value
        control.value = value
        assert picture.value != before


# ---- pictures


def test_margins_are_sorted_and_in_points():
    axis = plots.margins(["a", "b", "c"], [0.1, -0.2, 0.3], [0.01, 0.0, 0.02], title="", note="live").axes[0]
    assert [text.get_text() for text in axis.texts] == ["-20.0", "+10.0", "+30.0"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["b", "a", "c"]


def test_a_crossing_that_is_not_there_is_marked():
    figure = plots.crossings({"a": 2.5, "b": None, "c": 1.0}, most={"a": 64, "b": 16, "c": 64}, title="", note="live")
    assert [text.get_text() for text in figure.axes[0].texts] == ["> 16", "2.5", "≤ 1"]


def test_the_chosen_c_is_marked_on_its_curve():
    curve, mark = plots.c_curve({0.1: 0.5, 1.0: 0.75, 10.0: 0.6}, 1.0).axes[0].lines
    assert curve.get_ydata().tolist() == [50, 75, 60] and (mark.get_xdata()[0], mark.get_ydata()[0]) == (1.0, 75)


def test_a_panel_shows_the_curve_and_zero_shot_in_percent():
    figure = plots.shot_panels({"a": ([1, 4], [0.25, 0.5], [0.0, 0.0])}, {"a": 0.75}, title="", note="live", columns=1)
    curve, level = figure.axes[0].lines
    assert curve.get_xdata().tolist() == [0, 2] and curve.get_ydata().tolist() == [25, 50]
    assert level.get_ydata()[0] == 75


def test_narrow_panels_have_a_line_for_each_way_and_test_set():
    way = {"probe": ([0.5, 0.75], [0.0, 0.01]), "mixed": ([0.25, 0.5], [0.0, 0.0])}
    figure = plots.narrow_panels([1, 4], {"narrow": way, "ordinary": way}, title="", note="live")
    assert [len(axis.containers) for axis in figure.axes] == [2, 2]
    assert figure.axes[0].lines[0].get_ydata().tolist() == [50, 75]

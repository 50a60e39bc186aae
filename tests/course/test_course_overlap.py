"""Notebook 10 on copies of test images and on bias: checks, plots, the slider, and functions that its cells define."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from course_answers import exercises

from minclip.course import checks, plots, widgets

EXPERIMENTS = Path(__file__).parents[2] / "tools" / "experiments"


def flattery(right, overlap):
    return right.float().mean() - right[~overlap].float().mean()


def too_many(cosines, group, k):
    return group[cosines.topk(k).indices].float().mean() / group.float().mean()


def share(values):
    return values.float().mean()


SOLUTIONS = [(checks.flattery, flattery), (checks.too_many, too_many)]
WRONG = [
    (checks.flattery, lambda r, o: share(r[o]) - share(r[~o]), "compare .all. images"),
    (checks.flattery, lambda r, o: share(r[o]) - share(r), "compare all with the clean"),
    (checks.flattery, lambda r, o: share(r[~o]) - share(r), "sign is reversed"),
    (checks.flattery, lambda r, o: share(r) - (r & ~o).float().mean(), "divide by the number of clean"),
    (checks.flattery, lambda r, o: share(r[~o]), "subtract it"),
    (checks.flattery, lambda r, o: share(o), "upper bound"),
    (checks.flattery, lambda r, o: 100 * flattery(r, o), "in percentage points"),
    (checks.flattery, lambda r, o: r, "one number"),
    (checks.too_many, lambda c, g, k: share(g[c.topk(k).indices]), "divide it by the group's share"),
    (checks.too_many, lambda c, g, k: share(g[c.topk(k).indices]) - share(g), "that is the difference"),
    (checks.too_many, lambda c, g, k: 1 / too_many(c, g, k), "ratio is inverted"),
    (checks.too_many, lambda c, g, k: too_many(-c, g, k), "lowest"),
    (checks.too_many, lambda c, g, k: share(g[:k]) / share(g), "first k images"),
    (checks.too_many, lambda c, g, k: g[c.topk(k).indices].sum() / g.sum(), "divide by k"),
    (checks.too_many, lambda c, g, k: g[c.topk(k).indices].sum() / share(g), "not their share"),
]  # fmt: skip


TestExercises = exercises(SOLUTIONS, WRONG)


@pytest.fixture(scope="module")
def notebook():
    """What the cells with the tag "experiment" define."""
    sys.path.insert(0, str(EXPERIMENTS))
    import common

    yield common.from_notebook("10_where_pairs_come_from")
    sys.path.pop(0)


# ---- intervals


@pytest.mark.parametrize(("k", "n"), [(0, 10), (10, 10), (5, 10), (1, 200), (150, 200), (1300, 2000)])
def test_the_interval_matches_scipy(notebook, k, n):
    stats = pytest.importorskip("scipy.stats")
    expected = stats.binomtest(k, n).proportion_ci(0.995, method="exact")
    assert notebook.clopper_pearson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert notebook.at_least(k, n, 0.6) == pytest.approx(stats.binom.sf(k - 1, n, 0.6), abs=1e-9)


def test_the_intervals_of_none_and_all_match_the_closed_forms(notebook):
    assert notebook.clopper_pearson(0, 10) == pytest.approx((0, 1 - 0.0025**0.1), abs=1e-12)
    assert notebook.clopper_pearson(10, 10) == pytest.approx((0.0025**0.1, 1), abs=1e-12)
    assert [notebook.at_least(k, 2, 0.5) for k in range(4)] == pytest.approx([1, 0.75, 0.25, 0])


# ---- the detector's threshold


def test_the_lowest_threshold_with_the_precision_is_chosen(notebook):
    copies, strangers = torch.tensor([0.95, 0.9, 0.6]), torch.tensor([0.7, 0.5, 0.4])
    assert notebook.choose_threshold(copies, strangers) == pytest.approx(0.9)
    assert notebook.choose_threshold(copies, strangers, 0.7) == pytest.approx(0.6)
    assert notebook.precision_recall(copies, strangers, 0.5) == (3 / 5, 1)
    assert notebook.precision_recall(copies, strangers, 1.0) == (0, 0)


def test_compressing_changes_little_with_a_small_step_and_removes_all_with_a_large_one(notebook):
    x = 255 * torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(notebook.DCT @ notebook.DCT.T, torch.eye(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(notebook.compressed(x, 1e-3), x, atol=1e-2, rtol=0)
    flat = notebook.compressed(x, 1e4)  # every coefficient is rounded to 0
    assert flat.abs().max() < 1e-3


# ---- planted copies, and worlds


def test_planting_keeps_the_number_of_pairs_and_takes_the_captions_along(notebook):
    images, captions, test, labels, known = notebook.with_plants(0.5, copies=2, size=30, test_size=10)
    assert (len(images), len(captions), len(test), len(labels), int(known.sum())) == (30, 30, 10, 10, 5)
    of_test = notebook.shapes.captions_of(notebook.single_scenes("test", 10))
    planted = [of_test.index(five) for five in captions[20:]]
    assert sorted(planted) == sorted(2 * known.nonzero()[:, 0].tolist())
    gap = (images[20:].float() - test[planted].float()).abs().mean(dim=(1, 2, 3))
    assert (gap > 0.5).all() and (gap < 40).all()  # copies, none of them exact


def test_a_world_of_red_stars_is_balanced_elsewhere(notebook):
    world = notebook.star_world(0.9, size=3200)
    star, color = world.shape[:, 0] == notebook.STAR, world.color[:, 0]
    assert abs((color[star] == notebook.RED).mean() - 0.9) < 0.03
    assert set(np.bincount(color[~star], minlength=8)) == {350}
    again = notebook.resampled(world)
    colors = np.bincount(again.color[star, 0], minlength=8)
    assert colors.min() > 30 and colors.max() < 70 and (again.shape[:, 0] == world.shape[:, 0]).all()


def test_shapes_called_stars_are_counted_by_color(notebook):
    """A model that calls everything a star if "cross" is missing, and nothing otherwise."""

    class Model:
        def encode_text(self, tokens):
            star = notebook.PAIR_WORDS.index("star") + 1
            value = (tokens == star).any(dim=1).float() * (1 if len(tokens) == 7 else -1)
            return torch.stack([value, torch.zeros_like(value)], dim=1)

    color, shape = np.tile([0, 3, 0, 5], 8), np.arange(8).repeat(4)
    counts = notebook.without_their_name(Model(), torch.tensor([[1.0, 0.0]] * 32), color, shape)
    assert counts["cross, missing"] == [1, 1] and counts["cross, present"] == [0, 0] and len(counts) == 14


# ---- pictures and the slider


def some_pairs(n=12):
    images = np.random.default_rng(0).integers(0, 255, (2, n, 3, 16, 16), dtype=np.uint8)
    return np.linspace(0.5, 1, n), np.arange(n) > 7, (images[0], images[1])


def test_the_slider_counts_what_the_threshold_finds():
    cosines, known, pairs = some_pairs()
    figure = widgets.threshold_figure(cosines, known, pairs, threshold=0.8)
    assert re.findall(r"[\d.]+", figure.get_suptitle()) == ["0.80", "5", "80", "4", "4"]
    assert plots.png(widgets.threshold_figure(cosines, known, pairs, threshold=1.1))
    assert plots.png(widgets.threshold_figure(cosines, known, pairs, threshold=0.1))


def test_the_slider_redraws_the_picture():
    slider, picture = widgets.threshold_slider(*some_pairs(), threshold=0.8).children
    before = picture.value
    slider.value = 0.95
    assert picture.value != before


def test_the_pairs_next_to_the_threshold_are_shown():
    cosines, known, pairs = some_pairs()
    axes = plots.threshold_pairs(cosines, known, pairs, threshold=0.8, shown=2).axes[1:]
    texts = [axis.get_xlabel().replace("\n", " ") for axis in axes if axis.get_xlabel()]
    assert texts == ["0.727 other", "0.773 other", "0.818 other", "0.864 copy"]


def test_an_interval_has_its_ends_and_its_numbers():
    axis = plots.intervals({"all": (0.5, 0.4, 0.6)}, line=0.45).axes[0]
    assert list(axis.lines[0].get_xdata()) == [40, 60] and axis.texts[0].get_text() == "50.0 (40.0 to 60.0)"


def test_each_row_has_its_means():
    axis = plots.row_spread(["x", "y"], {"a": ([0.1, 0.2], [0.01, 0]), "b": ([0.3, 0.4], [0, 0])}).axes[0]
    assert [text.get_text() for text in axis.texts] == ["10", "20", "30", "40"]

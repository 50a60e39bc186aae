"""What notebook 04 shows and asks: checks, widget, plots."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from course_answers import exercises

from minclip.course import checks, plots, widgets
from minclip.losses import clip_loss, similarity


def my_cosines(image, text, dim=1, power=1):
    image, text = (x / x.norm(dim=dim, keepdim=True) ** power for x in (image, text))
    return image @ text.T


def my_scale(right, wrong, batch, p):
    return math.log((batch - 1) * p / (1 - p)) / (right - wrong)


def my_csls(s, k, factor=2, mean=torch.mean, largest=True, rows=1, columns=1):
    row = mean(s.topk(k, dim=1, largest=largest).values, dim=1, keepdim=True)
    column = mean(s.topk(k, dim=0, largest=largest).values, dim=0)
    return factor * s - rows * row - columns * column


SOLUTIONS = [(checks.cosine_matrix, my_cosines), (checks.scale_needed, my_scale), (checks.csls, my_csls)]
WRONG = [
    (checks.cosine_matrix, lambda i, t: i @ t.T, "plain dot products"),
    (checks.cosine_matrix, lambda i, t: F.normalize(i, dim=1) @ t.T, "texts still have"),
    (checks.cosine_matrix, lambda i, t: i @ F.normalize(t, dim=1).T, "images still have"),
    (checks.cosine_matrix, lambda i, t: my_cosines(i, t, dim=0), "normalized the columns"),
    (checks.cosine_matrix, lambda i, t: my_cosines(i, t, power=2), "not by its square"),
    (checks.cosine_matrix, lambda i, t: my_cosines(t, i), "transpose"),
    (checks.cosine_matrix, lambda i, t: my_cosines(i, t).diagonal(), "should have shape"),
    (checks.cosine_matrix, lambda i, t: 2 * my_cosines(i, t), "the numbers are not"),
    (checks.scale_needed, lambda r, w, b, p: my_scale(r, w, b + 1, p), "not among them"),
    (checks.scale_needed, lambda r, w, b, p: my_scale(r, w, 2, p), "only one wrong caption"),
    (checks.scale_needed, lambda r, w, b, p: my_scale(r, w, b, 0.5), "use p, too"),
    (checks.scale_needed, lambda r, w, b, p: math.log((b - 1) * p) / (r - w), r"p / \(1 - p\), not p"),
    (checks.scale_needed, lambda r, w, b, p: my_scale(1, 0, b, p), "divide by the difference"),
    (checks.scale_needed, lambda r, w, b, p: my_scale(r, 0, b, p), "not right alone"),
    (checks.scale_needed, lambda r, w, b, p: 1 / my_scale(r, w, b, p), "the temperature"),
    (checks.scale_needed, lambda r, w, b, p: math.log(my_scale(r, w, b, p)), "the logarithm"),
    (checks.scale_needed, lambda r, w, b, p: my_scale(w, r, b, p), "sign is wrong"),
    (checks.scale_needed, lambda r, w, b, p: 100, "expected"),
    (checks.csls, lambda s, k: my_csls(s, k, factor=1), "similarity twice"),
    (checks.csls, lambda s, k: my_csls(s, k, columns=0), "columns' means are missing"),
    (checks.csls, lambda s, k: my_csls(s, k, rows=0), "rows' means are missing"),
    (checks.csls, lambda s, k: 2 * s - s.mean(dim=1, keepdim=True) - s.mean(dim=0), "k largest only"),
    (checks.csls, lambda s, k: my_csls(s, k, largest=False), "k smallest"),
    (checks.csls, lambda s, k: my_csls(s, k, mean=torch.sum), "not the sums"),
    (checks.csls, lambda s, k: my_csls(s, k, rows=-1, columns=-1), "subtract the means"),
]


TestExercises = exercises(SOLUTIONS, WRONG)


def test_the_solutions_hold_in_the_package():
    torch.manual_seed(0)
    image, text = torch.randn(2, 6, 4)
    unit_image, unit_text = F.normalize(image, dim=1), F.normalize(text, dim=1)
    torch.testing.assert_close(my_cosines(image, text), similarity(unit_image, unit_text))
    cosines = torch.full((7, 7), 0.1).fill_diagonal_(0.4)  # the loss is -ln p
    loss = clip_loss(cosines, torch.eye(7), my_scale(0.4, 0.1, 7, 0.8))
    assert loss.item() == pytest.approx(-math.log(0.8), abs=1e-5)


@pytest.fixture
def matrix_and_images():
    torch.manual_seed(0)
    images = np.random.default_rng(0).integers(0, 255, (4, 3, 8, 8), dtype=np.uint8)
    return my_cosines(*torch.randn(2, 4, 8)), images


def test_each_control_of_the_temperature_playground_redraws_the_picture(matrix_and_images):
    scale, shift, picture = widgets.temperature_playground(*matrix_and_images, scale=10.0).children
    for control, value in ((scale, 100.0), (shift, -0.5), (scale, 0.1), (scale, 1000.0)):
        before = bytes(picture.value)
        control.value = value
        assert bytes(picture.value) != before and before.startswith(b"\x89PNG"), control.description


def test_the_temperature_figure_shows_softmax_and_gradient(matrix_and_images):
    matrix, images = matrix_and_images
    leaf = matrix.clone().requires_grad_()
    logits, target = 7 * leaf, torch.arange(4)
    ((F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2).backward()
    shown = [axis.images[0].get_array() for axis in widgets.temperature_figure(matrix, images, scale=7.0).axes[1:4]]
    for seen, expected in zip(shown, (matrix, logits.softmax(dim=1), leaf.grad)):
        np.testing.assert_allclose(seen, expected.detach(), atol=1e-6)


def test_a_shift_of_all_cosines_changes_neither_softmax_nor_loss(matrix_and_images):
    plain, shifted = (widgets.temperature_figure(*matrix_and_images, scale=7.0, shift=shift) for shift in (0.0, -0.5))
    np.testing.assert_allclose(*(figure.axes[2].images[0].get_array() for figure in (plain, shifted)), atol=1e-5)
    assert shifted.get_suptitle().endswith(plain.get_suptitle())


def test_arrows_clouds_and_distributions_are_all_drawn():
    torch.manual_seed(0)
    image, text = F.normalize(torch.randn(2, 20, 5), dim=-1)
    figure = plots.arrows({"a": (image[:2, :2], text[:2, :2]), "b": (image[:2, :2], text[:2, :2])})
    assert [t.get_text() for t in figure.axes[1].texts if t.get_text()] == ["image 0", "image 1", "text 0", "text 1"]
    clouds = plots.two_clouds({"a": (image, text)}).axes[0].collections
    means = [points.get_offsets().mean(axis=0) for points in clouds]
    assert means[0][0] - means[1][0] == pytest.approx((image.mean(dim=0) - text.mean(dim=0)).norm().item(), abs=1e-5)
    assert means[0][1] == pytest.approx(means[1][1], abs=1e-5)  # upwards is perpendicular to the line between them
    histograms = plots.cosine_histograms({"a": {"x": torch.tensor([-1.0, 1.0]), "y": torch.tensor([0.5])}})
    assert [t.get_text() for t in histograms.axes[0].get_legend().get_texts()] == ["x: 0.00", "y: 0.50"]


def test_counts_and_gradients_are_all_drawn():
    lines = plots.occurrences({"a": torch.tensor([3, 0, 1]), "b": torch.tensor([1, 1, 1])}).axes[0].lines
    assert [line.get_ydata().tolist() for line in lines] == [[0, 1, 3], [1, 1, 1]]
    axis = plots.gradient_norms([1, 10], torch.tensor([[1.0, 2.0, 3.0], [0.0, 5.0, 9.0]])).axes[0]
    assert [line.get_ydata().tolist() for line in axis.lines[:2]] == [[2, 5], [3, 9]]

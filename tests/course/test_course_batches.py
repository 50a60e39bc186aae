"""Notebook 15, batches, memory and pixels: checks, plots, the widget, and what its cells define."""

import importlib
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from course_answers import exercises, experiment_cells

from minclip.course import checks, plots, widgets
from minclip.losses import clip_loss

ROOT = Path(__file__).parents[2]


def matrix_part(batch, gpus):
    return 4 * (batch // gpus) * batch


def attention_share(tokens, width):
    return tokens / (tokens + 6 * width)


SOLUTIONS = [(checks.matrix_part, matrix_part), (checks.attention_share, attention_share)]
WRONG = [
    (checks.matrix_part, lambda b, g: 4 * b**2, "the whole matrix"),
    (checks.matrix_part, lambda b, g: b * b // g, "multiply by the 4 bytes"),
    (checks.matrix_part, lambda b, g: 4 * (b // g) ** 2, "fewer negatives"),
    (checks.matrix_part, lambda b, g: 2 * b * b // g, "that is for 16-bit numbers"),
    (checks.matrix_part, lambda b, g: 4 * b * b / g / 1e6, "in megabytes"),
    (checks.matrix_part, lambda b, g: 17, "got 17, expected 524288"),
    (checks.attention_share, lambda n, w: n / (n + 2 * w), "the MLP is part of the block"),
    (checks.attention_share, lambda n, w: n / (n + 12 * w), "two products of this kind"),
    (checks.attention_share, lambda n, w: n / (6 * w), "divide by the sum of both"),
    (checks.attention_share, lambda n, w: 1 - attention_share(n, w), "the share of the matrices"),
    (checks.attention_share, lambda n, w: 100 * attention_share(n, w), "in percent"),
    (checks.attention_share, lambda n, w: "0.1", "should be one number"),
]

TestExercises = exercises(SOLUTIONS, WRONG)


# ---- the notebook's cells


@pytest.fixture(scope="module")
def notebook():
    return experiment_cells("15_compute_and_scale")


def test_one_group_is_clips_loss_and_its_gradient(notebook):
    torch.manual_seed(0)
    image, text = (F.normalize(torch.randn(12, 5), dim=1).requires_grad_() for _ in range(2))
    ours, packages = notebook.grouped_loss(image, text, 14.3, 12), clip_loss(image, text, 14.3)
    torch.testing.assert_close(ours, packages)
    for mine, expected in zip(*(torch.autograd.grad(loss, [image, text]) for loss in (ours, packages))):
        torch.testing.assert_close(mine, expected)


def test_groups_average_the_losses_of_their_own_pairs(notebook):
    torch.manual_seed(0)
    image, text = (F.normalize(torch.randn(12, 5), dim=1) for _ in range(2))
    parts = [clip_loss(*part, 14.3) for part in zip(image.split(4), text.split(4))]
    torch.testing.assert_close(notebook.grouped_loss(image, text, 14.3, 4), sum(parts) / 3)
    assert notebook.grouped_loss(image, text, 14.3, 1) == 0


def test_an_images_vector_does_not_depend_on_the_rest_of_the_batch(notebook):
    torch.manual_seed(0)
    model, images = notebook.BagCLIP(notebook.small_conv(), 7), torch.randint(0, 255, (6, 3, 16, 16)).byte()
    together, alone = model(images, torch.ones(1, 7))[0], model(images[:1], torch.ones(1, 7))[0]
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(6))


def test_a_bag_has_the_words_of_its_caption_and_the_classes_theirs(notebook):
    scenes = notebook.BagScenes("train", 40, 16)
    words = {word for word, used in zip(scenes.vocabulary, scenes.classes[0]) if used}
    assert scenes.bags.shape == (40, 5, len(scenes.vocabulary)) and 2 <= len(words) <= 3
    assert notebook.words_of("A red Star, small.") == ["a", "red", "star", "small"]
    assert set(scenes.bags.unique().tolist()) == {0, 1} and len(scenes.labels) == len(scenes.asked)


def test_all_batches_see_the_same_images_and_the_loss_falls(notebook):
    scenes = notebook.BagScenes("train", 64, 16)
    losses = {}
    for batch in (16, 64):
        torch.manual_seed(0)
        model, seen = notebook.BagCLIP(notebook.small_conv(), len(scenes.vocabulary)), []
        model.tower.register_forward_hook(lambda _, inputs, __, seen=seen: seen.append(len(inputs[0])))
        losses[batch] = notebook.train_groups(model, scenes, images=1280, batch=batch, group=16, rate=4e-3)
        assert sum(seen) == 1280 and len(seen) == 1280 // batch
    assert losses[16] < math.log(16) - 0.3


# ---- stored results


@pytest.fixture(scope="module")
def made():
    """The module tools/experiments/batches_and_pixels.py, which imports `common` from its own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tools" / "experiments")
        return importlib.import_module("batches_and_pixels")


@pytest.fixture(scope="module")
def results():
    stored = json.loads((ROOT / "data" / "experiments" / "batches_and_pixels.json").read_text(encoding="utf-8"))
    return {name: part["results"] for name, part in stored["parts"].items()}


def test_each_rate_is_the_best_of_the_stored_search_and_not_at_its_edge(made, results):
    for batch, rate in made.RATES.items():
        tried = results["rates"][str(batch)]
        assert rate == float(max(tried, key=lambda name: tried[name]["val"]["mean"])), batch
        assert min(map(float, tried)) < rate < max(map(float, tried))


def test_every_way_costs_the_same_within_a_hundredth(made):
    at_48, at_64 = 16_549_888, 29_366_272  # operations of a training image, as torch.utils.flop_counter counts them
    costs = [made.AT_48 * at_48, made.AT_64 * at_64, made.BEFORE * at_48 + made.EPOCH * at_64]
    assert max(costs) < 1.01 * min(costs)


# ---- the widget and the pictures


def test_the_pieces_of_memory_are_those_of_the_formulas():
    one = widgets.memory_pieces(32_768, 1, "as it is")
    assert one["similarities"] == 2 * 4 * 32_768**2 and one["weights and Adam"] == 16 * 151_277_313
    many = widgets.memory_pieces(32_768, 256, "as it is")
    assert many["activations"] == one["activations"] / 256 and many["similarities"] == one["similarities"] / 256
    cached = widgets.memory_pieces(32_768, 1, "cached, 256 pairs at a time")
    assert cached["activations"] == widgets.memory_pieces(256, 1, "as it is")["activations"]
    assert cached["similarities"] == 2 * 4 * 128 * 32_768
    halves = [widgets.memory_pieces(512, 1, way)["activations"] for way in ("as it is", "16 bits")]
    assert halves[0] == 2 * halves[1]
    assert widgets.memory_pieces(512, 1, "16 bits, checkpoints")["activations"] < halves[1] / 4


def test_every_control_of_the_widget_redraws_the_picture():
    box = widgets.memory_playground()
    batch, gpus, way, picture = box.children
    for control, value in ((batch, 1024), (gpus, 8), (way, "16 bits")):
        before = picture.value
        control.value = value
        assert picture.value != before


def test_amounts_are_said_in_the_unit_that_fits():
    assert [plots.amount(x) for x in (4.29e9, 1.87e12, 168e6, 9000)] == ["4.3 GB", "1.9 TB", "168 MB", "9 kB"]


def test_a_panel_of_memory_has_a_bar_for_each_piece_and_the_sum():
    figure = plots.memory_panels({"a": {"x": 3e9, "y": 5e8}}, "title")
    axis = figure.axes[0]
    assert axis.get_title() == "a\n3.5 GB in all"
    assert [text.get_text() for text in axis.texts] == ["3.0 GB", "500 MB"]


def test_batch_curves_are_in_percent_with_their_spread():
    curves = {"one": ([16, 64], [0.25, 0.5], [0.01, 0.02])}
    axis = plots.batch_curves({"panel": ("batch size", curves)}, "title", note="stored").axes[0]
    line, *_ = axis.lines
    assert line.get_xdata().tolist() == [16, 64] and line.get_ydata().tolist() == [25, 50]
    assert [text.get_text() for text in axis.texts] == ["25.0", "50.0"]


def test_the_size_that_was_trained_at_is_marked():
    axis = plots.over_pixels([48, 64], [0.5, 0.9], trained=64, title="", note="live").axes[0]
    assert axis.lines[0].get_ydata().tolist() == [50, 90] and axis.lines[1].get_xdata()[0] == 64


def test_each_way_has_a_dot_for_each_seed():
    axis = plots.ways({"a": [0.2, 0.3, 0.4]}, "title", note="stored").axes[0]
    assert [text.get_text() for text in axis.texts] == ["30.0 ± 10.0"]
    assert any(
        line.get_xdata().tolist() == pytest.approx([20, 30, 40]) for line in axis.lines if len(line.get_xdata()) == 3
    )

"""Notebook 15 on compute and scale: the counter, checks, plots, the widget."""

import math

import numpy as np
import pytest
import torch
from course_answers import exercises, experiment_cells
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import minclip
from minclip.config import CLIPConfig, TextConfig, VisionConfig
from minclip.course import checks, plots, widgets


def conv(side, before, after, kernel, stride, groups, twice=2, up=True):
    out = -(-side // stride) if up else side // stride
    return twice * out**2 * after * kernel**2 * (before // groups)


def slope(compute, error, x=math.log, y=math.log):
    return float(np.polyfit([x(c) for c in compute], [y(e) for e in error], 1)[0])


def same(x):
    return x


SOLUTIONS = [(checks.convolution_flops, conv), (checks.power_law, slope)]
WRONG = [
    (checks.convolution_flops, lambda *a: conv(*a, twice=1), "two operations"),
    (checks.convolution_flops, lambda s, b, a, k, stride, g: conv(s, b, a, k, 1, g), "every second pixel"),
    (checks.convolution_flops, lambda s, b, a, k, stride, g: conv(s, b, a, k, stride, 1), "before / groups"),
    (checks.convolution_flops, lambda *a: conv(*a, up=False), "rounded up"),
    (checks.convolution_flops, lambda *a: conv(*a) // a[3], "kernel²"),
    (checks.convolution_flops, lambda *a: conv(*a) // -(-a[0] // a[4]), "the grid is a square"),
    (checks.power_law, lambda c, e: slope(c, e, same, same), "without logarithms"),
    (checks.power_law, lambda c, e: slope(c, e, math.log, same), "compute only"),
    (checks.power_law, lambda c, e: slope(c, e, same), "error only"),
    (checks.power_law, lambda c, e: slope(e, c), "other way round"),
    (checks.power_law, lambda c, e: -slope(c, e), "the sign is wrong"),
    (checks.power_law, lambda c, e: 10 ** slope(c, e), "return the slope"),
    (checks.power_law, lambda c, e: slope(c, e, math.log10), "the compute's logarithm has another base"),
    (checks.power_law, lambda c, e: slope(c, e, math.log, math.log10), "the error's logarithm has another base"),
    (checks.power_law, lambda c, e: math.log(e[-1] / e[0]) / math.log(c[-1] / c[0]), "fit all points"),
    (checks.power_law, lambda c, e: "steep", "one number"),
]

TestExercises = exercises(SOLUTIONS, WRONG)


# ---- the counter that the notebook builds


@pytest.fixture(scope="module")
def nb():
    return experiment_cells("15_compute_and_scale")


PIXELS = {"image_size": 64, "heads": 2}
TOWERS = {
    "vit": VisionConfig(width=24, layers=3, patch_size=16, **PIXELS),
    "conv stem": VisionConfig(width=24, layers=3, patch_size=16, stem="conv", stem_width=8, **PIXELS),
    "resnet": VisionConfig("resnet", width=6, stages=(1, 3, 2, 1), **PIXELS),
}


@pytest.mark.parametrize("name", TOWERS)
def test_the_counter_agrees_with_pytorchs(nb, name):
    text = TextConfig(context_length=9, vocab_size=11, width=16, layers=2, heads=2)
    model = minclip.CLIP(CLIPConfig(embed_dim=20, vision=TOWERS[name], text=text)).eval()
    ids = torch.tensor([[0, 1, 2, 10, 0, 0, 0, 0, 0]])
    for run, ours in (
        (lambda: model.encode_image(torch.zeros(1, 3, 64, 64)), nb.image_flops(TOWERS[name], 20)),
        (lambda: model.encode_text(ids), nb.text_flops(text, 20)),
    ):
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            run()
        assert counter.get_total_flops() == ours


def test_shuffling_moves_each_pixel_once_and_alike_in_all_patches(nb):
    images = torch.arange(2 * 3 * 32 * 32).view(2, 3, 32, 32)
    moved = nb.shuffle(images)
    assert sorted(moved.flatten().tolist()) == images.flatten().tolist() and not torch.equal(moved, images)
    constant = torch.zeros(1, 3, 32, 32)
    constant[:, :, 8:16, 16:24] = 1  # one whole patch
    assert nb.shuffle(constant).view(1, 3, 4, 8, 4, 8).sum(dim=(1, 3, 5)).flatten().sort().values.tolist() == [
        0
    ] * 15 + [192]


# ---- the widget and the pictures


def test_the_days_are_operations_over_speed():
    figure = widgets.days_figure({"a": 86_400e12, "b": 2 * 86_400e12}, gpus=2, peak=1.0, utilization=0.5)
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([1, 2])
    assert "1, 2 days" in figure.axes[0].get_title()
    assert widgets.days_figure({"a": 1e18}, gpus=1, peak=1.0, utilization=1, most=50).axes[0].get_xlim() == (0, 60)


def test_each_control_of_the_widget_redraws_the_picture():
    gpus, peak, utilization, picture = widgets.days_slider({"a": 1e20}).children
    for control, value in ((gpus, 64), (peak, 312.0), (utilization, 0.2)):
        before = picture.value
        control.value = value
        assert picture.value != before


def test_a_model_is_drawn_with_its_cost_and_its_multiple():
    axis = plots.cost_bars(["RN50", "ViT-B/32"], [12.0, 24.0], against=12.0).axes[0]
    assert [text.get_text() for text in axis.texts] == ["12.0  (1.00 ×)", "24.0  (2.00 ×)"]


def test_errors_over_compute_are_in_percent_with_their_fits():
    places = {("ViT", "small"): [1e9, 1e10], ("ResNet", "small"): [1e9, 1e10]}
    curves = {place: ([0.5, 0.25], [0.0, 0.01]) for place in places}
    axis = plots.error_over_compute(places, curves, note="stored", fits={"fit": ([1e9, 1e10], [0.5, 0.25])}).axes[0]
    assert axis.get_xscale() == axis.get_yscale() == "log"
    assert [container.lines[0].get_ydata().tolist() for container in axis.containers] == [[50, 25], [50, 25]]
    assert axis.lines[-1].get_ydata().tolist() == [50, 25] and axis.lines[-1].get_label() == "fit"


def test_paired_errors_have_a_bar_for_each_model():
    axis = plots.paired_errors(["a", "b"], {"x": ([0.5, 0.25], [0, 0]), "y": ([0.1, 0.2], [0, 0])}, note="stored").axes[
        0
    ]
    assert [bar.get_height() for bar in axis.patches] == [50, 25, 10, 20]


def test_a_bar_that_is_missing_says_so():
    axis = plots.paired_errors(["a", "b"], {"x": ([0.5, math.nan], [0, math.nan])}, note="stored").axes[0]
    assert [text.get_text() for text in axis.texts] == ["50", "not trained"]

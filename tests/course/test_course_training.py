"""What notebook 06 shows and asks: checks, plots and the scrubber of training."""

import math

import pytest
import torch
from course_answers import exercises

from minclip.course import checks, plots, widgets
from minclip.training.engine import clip_gradients, schedule


def warmup_cosine(progress, warmup, begin=None, span=None, angle=math.pi, half=True, peak=1.0):
    if progress < warmup:
        return peak * progress / warmup
    begin, span = warmup if begin is None else begin, 1 - warmup if span is None else span
    cosine = math.cos(angle * (progress - begin) / span)
    return (1 + cosine) / 2 if half else cosine


def clip_together(grads, most):
    length = sum((g**2).sum() for g in grads).sqrt()
    return [g * min(1.0, most / length) for g in grads]


def cached_gradients(tower, inputs, size, loss, first_pass=torch.no_grad):
    with first_pass():
        features = torch.cat([tower(part) for part in inputs.split(size)])
    features = features.detach().requires_grad_()
    loss(features).backward()
    for part, share in zip(inputs.split(size), features.grad.split(size)):
        tower(part).backward(share)


def all_graphs(tower, inputs, size, loss):
    loss(torch.cat([tower(part) for part in inputs.split(size)])).backward()


def accumulated(tower, inputs, size, loss, share=1.0):
    for part in inputs.split(size):
        (share * loss(tower(part))).backward()


def twice(tower, inputs, size, loss):
    features = torch.cat([tower(part) for part in inputs.split(size)])
    features.retain_grad()
    loss(features).backward()
    for part, share in zip(inputs.split(size), features.grad.split(size)):
        tower(part).backward(share)


SOLUTIONS = [
    (checks.warmup_cosine, warmup_cosine),
    (checks.clip_together, clip_together),
    (checks.cached_gradients, cached_gradients),
]
WRONG = [
    (checks.warmup_cosine, lambda p, w: warmup_cosine(p, w, begin=0, span=1), "starts where the warm-up ends"),
    (checks.warmup_cosine, lambda p, w: warmup_cosine(p, w, span=1), "divide by that"),
    (checks.warmup_cosine, lambda p, w: warmup_cosine(p, w, half=False), "add 1 and halve"),
    (checks.warmup_cosine, lambda p, w: warmup_cosine(p, w, angle=math.pi / 2), "ends at π/2"),
    (checks.warmup_cosine, lambda p, w: warmup_cosine(p, w, angle=2 * math.pi), "on to 2π"),
    (checks.warmup_cosine, lambda p, w: warmup_cosine(p, w, peak=w), "divide by warmup"),
    (checks.warmup_cosine, lambda p, w: p / w if p < w else (1 - p) / (1 - w), "straight line"),
    (checks.warmup_cosine, lambda p, w: (1 + math.cos(math.pi * (p - w) / (1 - w))) / 2, "warm-up is missing"),
    (checks.warmup_cosine, lambda p, w: 0.5, "the numbers are not"),
    (checks.warmup_cosine, lambda p, w: p / w if p < w else None, "returns nothing"),
    (checks.clip_together, lambda g, m: [clip_together([x], m)[0] for x in g], "on its own"),
    (checks.clip_together, lambda g, m: [x.clamp(-m, m) for x in g], "clamped"),
    (checks.clip_together, lambda g, m: [x * m / sum(y.norm() for y in g) for x in g], "norms don't add up"),
    (checks.clip_together, lambda g, m: [x * min(1, m / sum((y**2).sum() for y in g)) for x in g], "root is missing"),
    (checks.clip_together, lambda g, m: clip_together(g, 1.0), "not `most`"),
    (checks.clip_together, lambda g, m: g, "nothing was clipped"),
    (checks.clip_together, lambda g, m: [x * m / 10 for x in g], "made longer"),
    (checks.clip_together, lambda g, m: torch.cat([x.flatten() for x in g]), "a list of tensors"),
    (checks.cached_gradients, accumulated, "sum of the parts' own losses"),
    (checks.cached_gradients, lambda *given: accumulated(*given, share=1 / 3), "mean of the parts' own losses"),
    (checks.cached_gradients, lambda t, x, size, loss: loss(t(x)).backward(), "more than `size` rows"),
    (checks.cached_gradients, all_graphs, "all graphs were kept at once"),
    (checks.cached_gradients, lambda *given: cached_gradients(*given, first_pass=torch.enable_grad), "kept its graphs"),
    (checks.cached_gradients, twice, "counted twice"),
    (checks.cached_gradients, lambda t, x, size, loss: [t(p) for p in x.split(size)], "no gradient has reached"),
    (checks.cached_gradients, lambda t, x, size, loss: x, "no gradient has reached"),
]


TestExercises = exercises(SOLUTIONS, WRONG)


def test_the_solutions_are_the_packages():
    for progress in (0.05, 0.2, 0.6, 1.0):  # but for the package's first step, which is not 0
        assert warmup_cosine(progress, 0.1) == pytest.approx(schedule(progress, 0.1), abs=0.01)
    parameters = [torch.nn.Parameter(torch.zeros(3)) for _ in range(2)]
    for parameter in parameters:
        parameter.grad = torch.randn(3)
    wanted = clip_together([parameter.grad for parameter in parameters], 0.5)
    clip_gradients(parameters, 0.5)
    for parameter, want in zip(parameters, wanted):
        torch.testing.assert_close(parameter.grad, want)


def test_the_scrubber_redraws_the_picture():
    matrices = [torch.zeros(4, 4), torch.eye(4)]
    moment, picture = widgets.training_scrubber(matrices, [0, 2], losses=[4.2, 3.1], batch=64).children
    before = bytes(picture.value)
    moment.value = 1
    assert bytes(picture.value) != before and before.startswith(b"\x89PNG")


def test_the_scrubbers_title_counts_right_texts():
    figure = widgets.scrubber_figure([torch.eye(4)], [2], moment=0, losses=[4.2, 3.1], batch=64)
    assert "diagonal 1.00, elsewhere 0.00; 4 of 4" in figure.get_suptitle()


def test_a_waterfall_hatches_what_is_saved_and_nothing_where_it_costs_more():
    axis = plots.waterfall({"ms": {"a": 4.0, "b": 3.0, "c": 3.5}}).axes[0]
    assert sorted(patch.get_width() for patch in axis.patches) == [1.0, 3.0, 3.5, 4.0]


def test_norms_have_a_column_for_each_run():
    lines = [{"step": i, "loss": 4.0, "grad_norm": 1.0, "param_norm": 2.0, "update_norm": 0.1} for i in (1, 2)]
    axes = plots.run_norms({"one": lines, "two": lines}, 64).axes
    assert len(axes) == 6 and axes[4].lines[0].get_ydata().tolist() == [0.05, 0.05]

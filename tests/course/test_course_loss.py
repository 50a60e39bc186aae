"""What notebook 05 shows and asks: checks, plots and the playground of the loss."""

import math

import pytest
import torch
import torch.nn.functional as F
from course_answers import exercises

from minclip.config import MinclipError
from minclip.course import checks, plots, widgets
from minclip.losses import clip_loss


def log_softmax(logits, dim=1, top=None):
    x = logits - (logits.amax(dim=dim, keepdim=True) if top is None else top)
    return x - x.exp().sum(dim=dim, keepdim=True).log()


def loss_gradient(logits, rows=1, columns=1, target=2, size=None):
    out = rows * logits.softmax(dim=1) + columns * logits.softmax(dim=0) - target * torch.eye(len(logits))
    return out / (2 * len(logits) if size is None else size)


def merge(top_a, total_a, top_b, total_b, a=True, b=True, sign=1):
    top = torch.maximum(top_a, top_b)
    shrink = [(sign * (old - top)).exp() if on else 1 for old, on in ((top_a, a), (top_b, b))]
    return top, total_a * shrink[0] + total_b * shrink[1]


SOLUTIONS = [
    (checks.log_softmax, log_softmax),
    (checks.loss_gradient, loss_gradient),
    (checks.merge, merge),
]
WRONG = [
    (checks.log_softmax, lambda x: log_softmax(x, dim=0), "not along each column"),
    (checks.log_softmax, lambda x: x.softmax(dim=1), "return its logarithm"),
    (checks.log_softmax, lambda x: log_softmax(x, top=0), "overflows"),
    (checks.log_softmax, lambda x: log_softmax(x, top=x.max()), "its logarithm is −∞"),
    (checks.log_softmax, lambda x: log_softmax(x).exp().log(), "its logarithm is −∞"),
    (checks.log_softmax, lambda x: x - x.amax(dim=1, keepdim=True), "logarithm of the sum is missing"),
    (
        checks.log_softmax,
        lambda x: x - x.amax(dim=1, keepdim=True) - x.logsumexp(dim=1, keepdim=True),
        "subtract first, then sum",
    ),
    (
        checks.log_softmax,
        lambda x: x - (x - x.amax(dim=1, keepdim=True)).logsumexp(dim=1, keepdim=True),
        "not only inside the sum",
    ),
    (checks.log_softmax, lambda x: 2 * x, "the numbers are not"),
    (checks.loss_gradient, lambda x: loss_gradient(x, columns=0, target=1, size=3), "columns' softmax is missing"),
    (checks.loss_gradient, lambda x: loss_gradient(x, rows=0, target=1, size=3), "rows' softmax is missing"),
    (checks.loss_gradient, lambda x: loss_gradient(x, target=1), "identity twice"),
    (checks.loss_gradient, lambda x: loss_gradient(x, target=0), "target is missing"),
    (checks.loss_gradient, lambda x: loss_gradient(x, size=1), "divide by 2B"),
    (checks.loss_gradient, lambda x: loss_gradient(x, size=3), "divide by 2, too"),
    (checks.loss_gradient, lambda x: loss_gradient(x, size=2), "divide by B, too"),
    (checks.loss_gradient, lambda x: loss_gradient(x, size=18), "not over B²"),
    (checks.loss_gradient, lambda x: -loss_gradient(x), "reversed"),
    (checks.merge, lambda *parts: merge(*parts, a=False, b=False), "different scales"),
    (checks.merge, lambda *parts: merge(*parts, b=False), "only the first"),
    (checks.merge, lambda *parts: merge(*parts, a=False), "only the second"),
    (checks.merge, lambda *parts: merge(*parts, sign=-1), "reversed"),
    (checks.merge, lambda a, b, c, d: (a, b), "elementwise maximum"),
    (checks.merge, lambda *parts: merge(*parts)[1], "two tensors"),
    (checks.merge, lambda a, b, c, d: (torch.maximum(a, c), 0 * b), "the numbers are not"),
    (checks.merge, lambda a, b, c, d: (torch.maximum(a, c), merge(a, b, c, d)[1] + 0 * a), "still be empty"),
]


TestExercises = exercises(SOLUTIONS, WRONG)


def vectors(count=16):
    torch.manual_seed(0)
    image = F.normalize(torch.randn(count, 8), dim=1)
    return image, F.normalize(image + 0.5 * torch.randn(count, 8), dim=1)


def test_the_solutions_equal_the_package():
    image, text = vectors()
    logits = (14.3 * image @ text.T).requires_grad_()
    loss = -(log_softmax(logits) + log_softmax(logits.T)).diagonal().mean() / 2
    torch.testing.assert_close(loss, clip_loss(image, text, 14.3))
    torch.testing.assert_close(torch.autograd.grad(loss, logits)[0], loss_gradient(logits.detach()))


def test_each_control_of_the_loss_playground_redraws_the_picture():
    batch, scale, picture = widgets.loss_playground(*vectors()).children
    assert batch.options == (2, 4, 8, 16)
    for control, value in ((batch, 16), (scale, 80.0), (batch, 2), (scale, 1.0)):
        before = bytes(picture.value)
        control.value = value
        assert bytes(picture.value) != before and before.startswith(b"\x89PNG"), control.description


@pytest.mark.parametrize("pairs", [2, 3, 4, 7, 8])
def test_the_loss_playground_takes_a_few_pairs(pairs):
    batch, *_ = widgets.loss_playground(*vectors(pairs)).children
    assert batch.options == tuple(size for size in (2, 4, 8) if size <= pairs) and batch.value == 2


def test_one_pair_makes_no_loss_playground():
    with pytest.raises(MinclipError, match=r"2 pairs.* 1"):
        widgets.loss_playground(*vectors(1))


def test_the_loss_figure_shows_the_loss_at_the_scale_and_all_its_rows():
    image, text = vectors()
    left, right = widgets.loss_figure(image, text, batch=8, scale=10.0).axes
    dot = left.lines[1].get_xydata()[0]
    assert dot.tolist() == pytest.approx([10, clip_loss(image[:8], text[:8], 10.0).item()])
    curve = left.lines[0].get_xydata()
    assert curve[10].tolist() == pytest.approx(dot.tolist())  # 100 ** (10 / 20) is 10
    assert left.lines[2].get_ydata()[0] == pytest.approx(math.log(8))
    assert sum(bar.get_height() for bar in right.patches) == pytest.approx(100)


def test_numbers_are_written_into_their_cells_and_the_diagonal_is_framed():
    figure = plots.numbered([torch.tensor([[1.0, -0.001], [0.5, 2.0]])] * 2, ["a", "b"], limits=[(0, 1), (0, 2)])
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.texts] == ["1.00", "0.00", "0.50", "2.00"]
    assert len(axis.patches) == 2 and figure.axes[1].images[0].get_clim() == (0, 2)


def test_on_the_circle_each_vector_is_drawn_and_long_arrows_only():
    image = F.normalize(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), dim=1)
    moves = torch.tensor([[[0.0, 0.5], [0.0, 0.01]], [[0.0, 0.0], [0.3, 0.0]]])
    axis = plots.on_circle([image], [image], [moves], names=["start"]).axes[0]
    assert [text.get_text() for text in axis.texts if text.get_text()] == ["0", "1", "0", "1"]
    assert sum(text.get_text() == "" for text in axis.texts) == 2  # arrows are annotations without text


def test_memory_has_a_line_for_each_way():
    axis = plots.memory([256, 1024], {"a": [2**18, 2**22], "b": [2**20, 2**20]}).axes[0]
    assert len(axis.lines) == 2 and axis.get_yscale() == "log"

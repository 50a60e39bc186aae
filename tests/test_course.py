"""What the notebooks show and ask: checks, widgets, plots."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minclip.course import checks, plots, widgets
from minclip.losses import clip_loss
from minclip.model import CLIP
from minclip.tokenizer import Tokenizer


def symmetric_loss(image, text, scale):
    logits = scale * image @ text.T
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def one_way(image, text, scale):
    return F.cross_entropy(scale * image @ text.T, torch.arange(len(image)))


SOLUTIONS = [
    (checks.symmetric_loss, symmetric_loss),
    (checks.recall_at_1, lambda s: (s.argmax(dim=1) == torch.arange(len(s))).float().mean()),
]
WRONG = [
    (checks.symmetric_loss, one_way, "the other direction"),
    (checks.symmetric_loss, lambda i, t, s: one_way(t, i, s), "the other direction"),
    (checks.symmetric_loss, lambda i, t, s: symmetric_loss(i, t, 1), "scale is missing"),
    (checks.symmetric_loss, lambda i, t, s: 2 * symmetric_loss(i, t, s), "take their mean"),
    (checks.symmetric_loss, lambda i, t, s: symmetric_loss(i, t, 1 / s), "divided by the scale"),
    (checks.symmetric_loss, lambda i, t, s: i @ t.T, "one number"),
    (checks.symmetric_loss, lambda i, t, s: "a word", "one number"),
    (checks.symmetric_loss, lambda i, t, s: 42.0, "expected"),
    (checks.recall_at_1, lambda s: (s.argmax(dim=0) == torch.arange(3)).float().mean(), "each row"),
    (checks.recall_at_1, lambda s: (s.argmax(dim=1) == torch.arange(3)).sum(), "divide"),
    (checks.recall_at_1, lambda s: s.diagonal().mean(), "diagonal"),
]


@pytest.mark.parametrize(("check", "solution"), SOLUTIONS)
def test_each_solution_is_right(check, solution, capsys):
    check(solution)
    assert capsys.readouterr().out == "right!\n"


@pytest.mark.parametrize(("check", "answer", "message"), WRONG)
def test_a_wrong_answer_fails_and_the_message_names_the_mistake(check, answer, message):
    with pytest.raises(AssertionError, match=message):
        check(answer)


@pytest.mark.parametrize("check", [check for check, _ in SOLUTIONS])
@pytest.mark.parametrize("stub", [lambda *arguments: None, lambda *arguments: ...])
def test_an_untouched_stub_is_not_an_error(check, stub, capsys):
    check(stub)
    assert "not attempted" in capsys.readouterr().out


def test_the_solution_of_the_exercise_is_the_loss_of_the_package():
    image, text = (F.normalize(torch.randn(5, 4), dim=-1) for _ in range(2))
    assert torch.isclose(symmetric_loss(image, text, 7.0), clip_loss(image, text, 7.0))


@pytest.fixture
def model_and_tokenizer():
    from minclip.config import CLIPConfig, TextConfig, VisionConfig

    torch.manual_seed(0)
    tokenizer = Tokenizer.train(["a red star", "a blue ring"], 520)
    vision = VisionConfig(image_size=16, patch_size=8, width=32, layers=1, heads=1)
    text = TextConfig(context_length=16, vocab_size=tokenizer.vocab_size, width=32, layers=1, heads=1)
    return CLIP(CLIPConfig(16, vision, text)).eval(), tokenizer


def test_each_control_of_the_playground_redraws_the_picture(model_and_tokenizer):
    images = np.random.default_rng(0).integers(0, 255, (3, 3, 16, 16), dtype=np.uint8)
    box = widgets.label_playground(*model_and_tokenizer, images, "a red star, a blue ring")
    *controls, picture = box.children
    assert bytes(picture.value).startswith(b"\x89PNG")
    for control, value in zip(controls, (2, "a ring, a star, a red ring", "{}", 80)):
        before = bytes(picture.value)
        control.value = value
        assert bytes(picture.value) != before, control.description


@pytest.mark.parametrize("labels", ["", " , ,", "only one"])
def test_the_playground_survives_odd_labels(model_and_tokenizer, labels):
    image = np.zeros((3, 16, 16), dtype=np.uint8)
    figure = widgets.label_probabilities(*model_and_tokenizer, image, labels, "no braces", 14.3)
    assert plots.png(figure).startswith(b"\x89PNG")


def test_scale_0_makes_all_labels_alike(model_and_tokenizer):
    image = np.zeros((3, 16, 16), dtype=np.uint8)
    figure = widgets.label_probabilities(*model_and_tokenizer, image, "a, b, c, d", "{}", 0.0)
    bars = [patch.get_width() for patch in figure.axes[1].patches]
    assert bars == pytest.approx([0.25] * 4)


def test_a_grid_shows_every_image_with_its_caption():
    figure = plots.image_grid(np.zeros((3, 3, 8, 8), dtype=np.uint8), ["one", "two", "three"], columns=2)
    shown = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_xlabel() for axis in shown] == ["one", "two", "three"]
    assert all(axis.images for axis in shown)


def test_captions_are_wrapped_between_words():
    assert plots.wrap("a red star and a blue ring", 12) == "a red star\nand a blue\nring"

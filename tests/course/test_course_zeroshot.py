"""What notebook 08 shows and asks: checks, plots, the prompt playground."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from course_answers import exercises

import minclip
from minclip.batches import normalize
from minclip.course import checks, plots, widgets
from minclip.evaluate import embed_texts


def ensemble(prompts):
    return F.normalize(F.normalize(prompts, dim=-1).mean(dim=0), dim=-1).T


def mean_per_class(answers, labels):
    return torch.stack([(answers[labels == c] == c).float().mean() for c in labels.unique()]).mean()


def per_class(answers, labels):
    """The accuracies of classes 0 to 3, NaN where a class has no image."""
    return torch.stack([(answers[labels == c] == c).float().mean() for c in range(4)])


def reject(cosines, threshold):
    best, answer = cosines.max(dim=1)
    return torch.where(best < threshold, -1, answer)


def unit(x, dim=-1):
    return F.normalize(x, dim=dim)


SOLUTIONS = [(checks.ensemble, ensemble), (checks.mean_per_class, mean_per_class), (checks.reject, reject)]
WRONG = [
    (checks.ensemble, lambda p: unit(p).mean(dim=0).T, "normalize it again, at the end$"),
    (checks.ensemble, lambda p: unit(p.mean(dim=0)).T, "before the mean: longer"),
    (checks.ensemble, lambda p: p.mean(dim=0).T, "nothing was normalized"),
    (checks.ensemble, lambda p: unit(unit(p).mean(dim=1)).T, "not over the classes"),
    (checks.ensemble, lambda p: unit(unit(p).mean(dim=0).T), "not each row"),
    (checks.ensemble, lambda p: unit(unit(p, dim=1).mean(dim=0)).T, "the last dimension"),
    (checks.ensemble, lambda p: unit(p[0]).T, "the first template only"),
    (checks.ensemble, lambda p: ensemble(p).T, "^transpose it"),
    (checks.ensemble, lambda p: unit(p).mean(dim=0), "again, at the end; and transpose it"),
    (checks.ensemble, lambda p: p, "should have shape"),
    (checks.mean_per_class, lambda a, y: (a == y).float().mean(), "plain accuracy"),
    (checks.mean_per_class, lambda a, y: per_class(a, y).nan_to_num().mean(), "leave it out"),
    (checks.mean_per_class, lambda a, y: per_class(a, y).mean(), "0 of 0"),
    (checks.mean_per_class, lambda a, y: mean_per_class(y, a), "precision"),
    (checks.mean_per_class, lambda a, y: 3 * mean_per_class(a, y), "that is the sum"),
    (checks.mean_per_class, lambda a, y: 1.5 * mean_per_class(a, y), "without a single right"),
    (checks.mean_per_class, lambda a, y: (a == y).sum() / 3, "number of images of its class"),
    (checks.mean_per_class, lambda a, y: a, "one number"),
    (checks.mean_per_class, lambda a, y: 100 * mean_per_class(a, y), "in percent"),
    (checks.mean_per_class, lambda a, y: per_class(a, y)[a.unique()].mean(), "0 of 0"),
    (checks.reject, lambda c, t: c.argmax(dim=1), "nothing is rejected"),
    (checks.reject, lambda c, t: reject(c, 0.5), "the threshold that was passed"),
    (checks.reject, lambda c, t: torch.where(c.amax(dim=1) <= t, -1, c.argmax(dim=1)), "compare with <"),
    (checks.reject, lambda c, t: torch.where(c.amax(dim=1) < t, c.argmax(dim=1), -1), "the wrong ones are rejected"),
    (checks.reject, lambda c, t: c.amax(dim=1) >= t, "booleans"),
    (checks.reject, lambda c, t: c.amax(dim=1), "largest cosines: return"),
    (checks.reject, lambda c, t: reject(c.softmax(dim=1), t), "threshold on the softmax"),
    (checks.reject, lambda c, t: reject((20 * c).softmax(dim=1), t), "not its softmax"),
]  # fmt: skip


TestExercises = exercises(SOLUTIONS, WRONG)


@pytest.fixture(scope="module")
def model_and_tokenizer():
    model, _, tokenizer = minclip.load("demo")
    return model, tokenizer


def images(count, side=64):
    return np.random.default_rng(0).integers(0, 255, (count, 3, side, side), dtype=np.uint8)


def test_the_ensemble_is_the_packages(model_and_tokenizer):
    names, templates = ["star", "ring"], ["a {}", "the word {}", "two {}"]
    texts = [template.replace("{}", name) for template in templates for name in names]
    prompts = embed_texts(*model_and_tokenizer, texts).view(3, 2, -1)
    torch.testing.assert_close(
        ensemble(prompts), minclip.zero_shot_classifier(*model_and_tokenizer, names, templates=templates)
    )


# ---- the playground


def shown(figure):
    """The table of a prompt figure: names of its rows and columns, and its percentages."""
    axis = figure.axes[1]
    rows, columns = (
        [label.get_text() for label in labels] for labels in (axis.get_yticklabels(), axis.get_xticklabels())
    )
    return rows, columns, axis.images[0].get_array()


def test_each_control_of_the_prompt_playground_redraws_the_picture(model_and_tokenizer):
    box = widgets.prompt_playground(
        *model_and_tokenizer, images(2), labels="star, ring", templates="a {} | the word {}"
    )
    image, labels, templates, together, picture = box.children
    for control, value in ((image, 1), (labels, "star, heart"), (templates, "two {}s"), (together, False)):
        before = picture.value
        control.value = value
        assert picture.value != before


def test_each_prompt_has_a_row_and_their_ensemble_one_more(model_and_tokenizer):
    model, tokenizer = model_and_tokenizer
    image = np.full((3, 64, 64), 128, dtype=np.uint8)  # of noise all prompts are equally sure
    names = ["circle", "ring", "heart"]
    rows, columns, percent = shown(
        widgets.prompt_figure(
            model, tokenizer, image, labels="circle, ring, heart", templates="a {} | two {}s", together=True
        )
    )
    assert rows == ["a {}", "two {}s", "all together"] and columns == names
    pixels = normalize(torch.from_numpy(image)[None], model.config.vision)
    with torch.no_grad():
        cosines = model.encode_image(pixels, normalize=True) @ minclip.zero_shot_classifier(
            model, tokenizer, names, templates=["a {}", "two {}s"]
        )
        expected = (model.logit_scale.exp() * cosines).softmax(dim=1)[0]
    np.testing.assert_allclose(percent[2], 100 * expected, atol=0.1)
    assert min(abs(percent[2] - percent[row]).max() for row in (0, 1)) > 1
    assert shown(
        widgets.prompt_figure(model, tokenizer, image, labels="star, ring", templates="a {} | {}", together=False)
    )[0] == ["a {}", "{}"]


@pytest.mark.parametrize(
    ("labels", "templates", "rows", "columns"),
    [
        ("", "a {}", ["a {}"], ["(type some\nlabels)"]),
        ("star, Star, ,ring", "a {}", ["a {}"], ["star", "ring"]),
        ("star", "", ["{}"], ["star"]),
        ("star", "no braces | | $1 {}", ["no braces {}", "$1 {}"], ["star"]),
        ("{x}", "a { {} | {0}", ["a { {}", "{0} {}"], ["{x}"]),
    ],
)
def test_the_playground_survives_what_one_types(model_and_tokenizer, labels, templates, rows, columns):
    figure = widgets.prompt_figure(
        *model_and_tokenizer, images(1)[0], labels=labels, templates=templates, together=False
    )
    assert shown(figure)[:2] == (rows, columns) and plots.png(figure)


# ---- pictures


def test_the_largest_probability_of_a_row_is_framed():
    axis = plots.prompt_table(images(1)[0], ["a", "b"], ["x", "y"], values=torch.tensor([[0.2, 0.8], [0.7, 0.3]])).axes[
        1
    ]
    assert [(round(p.get_x() + 0.47), round(p.get_y() + 0.44)) for p in axis.patches] == [(1, 0), (0, 1)]
    assert [text.get_text() for text in axis.texts] == ["20", "80", "70", "30"]


def test_a_confusion_is_in_percent_of_its_row():
    axis = plots.confusion([[3, 1], [0, 5]], ["star", "ring"], ["star", "ring"]).axes[0]
    assert [text.get_text() for text in axis.texts] == ["75", "25", "0", "100"]


def test_each_row_has_a_dot_for_each_series():
    axis = plots.row_dots(["one", "two"], {"val": [0.1, 0.2], "test": [0.4, 0.3]}).axes[0]
    assert [points.get_offsets().data.tolist() for points in axis.collections[1:]] == [
        [[0.1, 0], [0.2, 1]],
        [[0.4, 0], [0.3, 1]],
    ]


def test_an_ensembles_spread_is_the_mean_and_one_standard_deviation():
    axis = plots.ensemble_spread([1, 2], {"test": [[0.2, 0.4], [0.3, 0.3]]}).axes[0]
    bars = [bar for container in axis.containers for bar in container[2][0].get_segments()]
    assert [segment[:, 1].tolist() for segment in bars] == [pytest.approx([20, 40]), pytest.approx([30, 30])]


def test_two_kinds_share_their_bins_and_have_one_height():
    axis = plots.two_kinds({"cosine": {"a": torch.tensor([0.0, 0.0, 1.0]), "b": torch.tensor([3.0, 3.0])}}).axes[0]
    steps = [patch.get_data() for patch in axis.patches]
    assert all(step.values.max() == 1 for step in steps) and (steps[0].edges == steps[1].edges).all()
    assert steps[0].edges[[0, -1]].tolist() == [0, 3]


def test_the_chosen_threshold_is_marked_on_its_curve():
    axis = plots.trade_off({"cosine": ([0.2, 1.0], [1.0, 0.5])}, {"chosen": (0.9, 0.95)}).axes[0]
    curve, mark = axis.lines
    assert curve.get_xdata().tolist() == [20, 100] and (mark.get_xdata()[0], mark.get_ydata()[0]) == (90, 95)

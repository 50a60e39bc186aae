"""Notebook 09: checks, plots, the widget, and the objectives that its cells define."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from course_answers import exercises

from minclip.course import checks, plots, widgets

ROOT = Path(__file__).parents[2]


def jelinek_mercer(observed, weight):
    *higher, mixed = observed
    for p in reversed(higher):
        mixed = weight * p + (1 - weight) * mixed
    return mixed


def sentence_score(log_p, ids):
    return (own(log_p, ids) * (ids > 1)).sum(dim=1)


def own(log_p, ids):
    return log_p.gather(2, ids[:, :, None])[:, :, 0]


def images_to_reach(marks, accuracy, level):
    return 2 ** np.interp(level, accuracy, np.log2(marks))


def every_order_weighted(observed, weight):
    return sum(weight * (1 - weight) ** i * p for i, p in enumerate(observed))


SOLUTIONS = [
    (checks.jelinek_mercer, jelinek_mercer),
    (checks.sentence_score, sentence_score),
    (checks.images_to_reach, images_to_reach),
]
WRONG = [
    (checks.jelinek_mercer, every_order_weighted, "the lowest order has nothing below it"),
    (checks.jelinek_mercer, lambda p, w: jelinek_mercer(p, 1 - w), "belongs to the higher order"),
    (checks.jelinek_mercer, lambda p, w: jelinek_mercer(p[::-1], w), "start from its end"),
    (checks.jelinek_mercer, lambda p, w: p[0], "the highest order alone"),
    (checks.jelinek_mercer, lambda p, w: p[-1], "the lowest order alone"),
    (checks.jelinek_mercer, lambda p, w: sum(p) / len(p), "the mean of all orders"),
    (checks.jelinek_mercer, lambda p, w: "0.3", "one number"),
    (checks.jelinek_mercer, lambda p, w: 0.123, "got 0.123, expected 0.0625"),
    (checks.sentence_score, lambda p, i: own(p, i).sum(dim=1), "padding is not a word"),
    (checks.sentence_score, lambda p, i: (own(p, i) * (i > 0)).sum(dim=1), "end symbol"),
    (checks.sentence_score, lambda p, i: sentence_score(p, i) / (i > 1).sum(dim=1), "that is the mean"),
    (checks.sentence_score, lambda p, i: sentence_score(p, i).exp(), "stay with logarithms"),
    (checks.sentence_score, lambda p, i: sentence_score(p.exp(), i), "add their logarithms"),
    (checks.sentence_score, lambda p, i: -sentence_score(p, i), "sign of a loss"),
    (checks.sentence_score, lambda p, i: own(p, i), "should have shape"),
    (checks.images_to_reach, lambda m, a, x: next(k for k, y in zip(m, a) if y >= x), "first mark above"),
    (checks.images_to_reach, lambda m, a, x: max(k for k, y in zip(m, a) if y < x), "last mark below"),
    (checks.images_to_reach, lambda m, a, x: np.interp(x, a, m), "the axis is logarithmic"),
    (checks.images_to_reach, lambda m, a, x: np.interp(x, a, np.log2(m)), "take 2 to that power"),
]  # fmt: skip

TestExercises = exercises(SOLUTIONS, WRONG)


# ---- the objectives, as the notebook's cells define them


@pytest.fixture(scope="module")
def notebook():
    sys.path.insert(0, str(ROOT / "tools" / "experiments"))
    from common import from_notebook

    yield from_notebook("09_why_contrastive")
    sys.path.remove(str(ROOT / "tools" / "experiments"))


@pytest.fixture(scope="module")
def small(notebook):
    return notebook.World(300, tests=100)


def test_a_class_is_scored_by_its_sentence_as_the_caption_model_would_predict_it(notebook, small):
    torch.manual_seed(0)
    words, v = len(small.words.names), torch.randn(2, 64)
    for every in (True, False):
        model = notebook.Captioner(words, every=every)
        scores = model.scores(v, small.classes)
        for image, chosen in ((0, 5), (1, 40)):
            ids = small.classes[chosen, :-1]  # without [end]
            steps = model.next_word(v[image : image + 1], ids[None, :-1])[0]
            expected = steps[torch.arange(3), ids].sum()
            torch.testing.assert_close(scores[image, chosen], expected)


def test_a_caption_models_loss_is_the_mean_over_words_and_end_without_padding(notebook):
    torch.manual_seed(0)
    model, v = notebook.Captioner(6), torch.randn(1, 64)
    short, padded = torch.tensor([[2, 4, 1]]), torch.tensor([[2, 4, 1, 0, 0]])
    torch.testing.assert_close(model.loss(v, short), model.loss(v, padded))
    steps = model.next_word(v, short[:, :-1])[0]
    torch.testing.assert_close(model.loss(v, short), -steps[torch.arange(3), short[0]].mean())


def test_a_caption_model_does_not_see_the_word_it_predicts(notebook):
    torch.manual_seed(0)
    model, v = notebook.Captioner(6), torch.randn(1, 64)
    a, b = (model.next_word(v, torch.tensor([[2, 3, last]]))[0] for last in (4, 5))
    torch.testing.assert_close(a[:3], b[:3])
    assert (a[3] - b[3]).abs().max() > 1e-4


def test_the_best_bag_has_the_entropy_of_its_words(notebook):
    model, ids = notebook.BagSoftmax(5), torch.tensor([[2, 3, 4, 1, 0]])
    model.logits.weight.data.zero_()
    model.logits.bias.data = torch.tensor([-99.0, -99, 0, 0, 0])
    assert model.loss(torch.zeros(1, 64), ids).item() == pytest.approx(np.log(3), abs=1e-5)
    yes_or_no = notebook.BagOneVsAll(5)
    assert yes_or_no.loss(torch.zeros(1, 64), ids).item() == pytest.approx(np.log(2), abs=1e-5)


def test_a_bag_ignores_the_order_of_words_and_a_transformer_does_not(notebook):
    torch.manual_seed(0)
    one, other = torch.tensor([[2, 3, 4, 1]]), torch.tensor([[4, 2, 3, 1]])
    bag, transformer = notebook.BagTower(6), notebook.TransformerTower(6)
    torch.testing.assert_close(bag(one), bag(other))
    assert (transformer(one) - transformer(other)).abs().max() > 1e-4


def test_training_is_determined_by_its_seed(notebook, small):
    make = notebook.OBJECTIVES["contrast, bag of words"]
    first, again, other = (
        notebook.train(make, small, rate=1e-3, marks=[64, 128], seed=seed).stages[128][1].text.words
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(("options", "said"), [({}, 1), ({"phrasings": 12}, 2), ({"phrasings": 12, "names": 4}, 2)])
def test_every_wording_names_color_and_shape_of_each_object(notebook, options, said):
    from minclip.data import shapes
    from minclip.data.shapes.text import things_of

    scenes = shapes.scenes("train", 20)
    names = options.get("names", 1)
    found = notebook.wording(**options)(scenes)
    for things, captions in zip(things_of(scenes), found):
        for caption in captions:
            words = caption.split()
            for thing in things:
                assert any(name in words for name in notebook.NAMES[thing.color][:names])
                assert any(name in words for name in notebook.NAMES[thing.shape][:names])
    assert min(len(set(captions)) for captions in found) >= said


def test_an_aside_is_added_at_the_end(notebook):
    from minclip.data import shapes

    (caption,) = notebook.wording(asides=1, captions=1)(shapes.scenes("train", 1))[0]
    assert caption.split()[-1] in notebook.DAYS


# ---- the learning rates are those that the stored search found


def test_each_learning_rate_is_the_best_of_the_stored_search(notebook):
    import why_contrastive

    stored = json.loads((ROOT / "data" / "experiments" / "why_contrastive.json").read_text(encoding="utf-8"))
    for name, rates in stored["parts"]["learning_rates"]["results"].items():
        best = max(rates, key=lambda rate: rates[rate]["mean"])
        assert why_contrastive.RATES[name] == float(best), name


# ---- pictures


IMAGE = np.zeros((3, 8, 8), dtype=np.uint8)


def test_boxes_say_what_is_given_and_what_is_predicted():
    figure = plots.what_each_predicts(IMAGE, [("one", [("ring", "predicted"), ("a", "given")])], "title")
    boxes = {
        text.get_text(): text.get_bbox_patch().get_facecolor() for text in figure.axes[1].texts if text.get_bbox_patch()
    }
    assert boxes["ring"] == boxes["to predict"] != boxes["a"] == boxes["given, too"]


def test_a_level_that_is_not_reached_has_no_number():
    levels = {"25 %": ([4096.0, np.nan], [100.0, np.nan])}
    figure = plots.reach(["a", "b"], levels, "title", note="stored: 3 seeds")
    assert [text.get_text() for text in figure.axes[0].texts] == ["4.1k"]


def test_factors_are_written_beside_their_marks():
    figure = plots.factors(["x", "y"], {"bag": ([1.0, 2.5], [0.1, 0.2])}, "title", note="stored", ylabel="factor")
    assert [text.get_text() for text in figure.axes[0].texts] == ["1.0", "2.5", "as fast as contrast"]


def test_each_curve_has_its_own_seconds():
    figure = plots.over_cost({"a": ([1.0, 2.0], [0.1, 0.2]), "b": ([2.0, 4.0], [0.1, 0.2])}, "title", note="stored")
    drawn = [line.get_xdata().tolist() for line in figure.axes[0].lines]
    assert drawn == [[1, 2], [2, 4]] and figure.axes[0].lines[0].get_ydata().tolist() == [10, 20]


def test_the_widgets_title_counts_right_objectives_and_its_bars_are_softmaxes():
    scores = {"a": {8: torch.tensor([[0.0, 3.0, 0.0, 0.0]])}, "b": {8: torch.tensor([[3.0, 0.0, 0.0, 0.0]])}}
    figure = widgets.answers_figure(IMAGE[None], [1], scores, names=["p", "q", "r", "s"], image=0, after=8)
    assert "1 of 2" in figure.get_suptitle() and figure.get_suptitle().endswith(" q")
    best = figure.axes[1].patches[0].get_width()
    assert best == pytest.approx(100 * float(torch.tensor([0.0, 3, 0, 0]).softmax(dim=0)[1]), abs=1e-3)


def test_the_playground_moves_through_images_and_moments():
    scores = {"a": {8: torch.zeros(2, 4), 16: torch.eye(4)[:2]}}
    box = widgets.answers_playground(np.stack([IMAGE] * 2), [0, 1], scores, names=["p", "q", "r", "s"])
    image, after, picture = box.children
    before = picture.value
    image.value, after.value = 1, 8
    assert picture.value != before and after.options == (8, 16)


def test_scores_are_kept_for_each_moment():
    kept = widgets.log_scores({1: 2.0, 2: 3.0}, torch.ones(2, 1), lambda stage, images: stage * images)
    assert {moment: scores.flatten().tolist() for moment, scores in kept.items()} == {1: [2, 2], 2: [3, 3]}

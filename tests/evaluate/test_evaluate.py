"""Image vectors, zero-shot accuracy and `evaluate`, against computations of another kind."""

import numpy as np
import pytest
import torch
from tiny_zero_shot import CLASSES, TEMPLATES, TOKENIZER, class_vector, one_vector, tiny_model, unit

import minclip.evaluate as package
from minclip.batches import Pairs, Task, normalize
from minclip.config import MinclipError
from minclip.data.shapes import load_shapes
from minclip.evaluate import (
    embed_images,
    embed_texts,
    evaluate,
    final_figures,
    task_scores,
    zero_shot_classifier,
)
from minclip.evaluate.metrics import accuracy, retrieval_chance
from minclip.model import CLIP


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def pairs():
    return load_shapes("test", image_size=16, size=60)


# ---- images


@pytest.mark.parametrize("block", [1, 7, 256])
def test_image_vectors_do_not_depend_on_blocks(model, pairs, block):
    with torch.no_grad():
        x = normalize(torch.from_numpy(pairs.images), model.config.vision)
        expected = unit(model.encode_image(x).double().numpy())
    np.testing.assert_allclose(embed_images(model, pairs, batch_size=block), expected, atol=1e-5)


def test_an_image_that_can_not_be_read_is_an_error_of_the_caller(model, pairs):
    class Images:
        def __len__(self):
            return len(pairs)

        def __getitem__(self, rows):
            raise MinclipError("photograph.jpg can't be read")

    with pytest.raises(MinclipError, match=r"photograph\.jpg"):
        embed_images(model, Pairs(Images(), pairs.captions, pairs.names))


# ---- accuracy


def zero_shot_accuracy(model, tokenizer, image, *, task):
    return accuracy(task_scores(model, tokenizer, image, task=task), task.labels)


def random_task(subjects=False, n=40, total=60):
    rng = np.random.default_rng(1)
    indices, labels = rng.permutation(total)[:n], rng.integers(0, 3, n)
    if not subjects:
        return Task(CLASSES, TEMPLATES, indices, labels)
    words = [{"a": f"a {rng.integers(100)}", "b": f"the {rng.integers(100)}"} for _ in range(n)]
    return Task(CLASSES, ("{a} {} {b}", "see {b}, {a}: {}"), indices, labels, tuple(words))


def test_accuracy_is_the_count_by_hand(model, pairs):
    task, image = random_task(), embed_images(model, pairs)
    columns = [class_vector(model, [t.replace("{}", c) for t in TEMPLATES]) for c in CLASSES]
    hits = [np.argmax([image[i].double().numpy() @ c for c in columns]) == y for i, y in zip(task.indices, task.labels)]
    assert zero_shot_accuracy(model, TOKENIZER, image, task=task) == pytest.approx(np.mean(hits))
    assert 0 < np.mean(hits) < 1


def test_accuracy_with_subjects_is_the_count_by_hand(model, pairs):
    task, image, hits = random_task(subjects=True), embed_images(model, pairs), []
    for i, label, subject in zip(task.indices, task.labels, task.subjects):
        scores = []
        for c in CLASSES:
            prompts = [f"{subject['a']} {c} {subject['b']}", f"see {subject['b']}, {subject['a']}: {c}"]
            scores.append(image[i].double().numpy() @ class_vector(model, prompts))
        hits.append(np.argmax(scores) == label)
    assert zero_shot_accuracy(model, TOKENIZER, image, task=task) == pytest.approx(np.mean(hits))
    assert 0 < np.mean(hits) < 1


@pytest.mark.parametrize("odd", ["{x}", "{}", "{", "}", "{0}", "{a}", "{a!r:>{b}}", "100 % {{a}}"])
def test_any_class_name_is_text(model, pairs, odd):
    image, classes = embed_images(model, pairs), ("red", odd, "blue")
    words = ({"a": "one {b}", "b": "{a}"}, {"a": "two", "b": "the {"})
    prompts = [[(f"{w['a']} {c} {w['b']}", f"see {w['b']}: {c}") for c in classes] for w in words]
    best = [np.argmax([image[i].double().numpy() @ class_vector(model, p) for p in prompts[i]]) for i in range(2)]
    for right in (0, 1):
        labels = (np.array(best) + 1 - right) % 3
        task = Task(classes, ("{a} {} {b}", "see {b}: {}"), np.arange(2), labels, words)
        assert zero_shot_accuracy(model, TOKENIZER, image, task=task) == right


def test_right_labels_give_1_and_wrong_ones_0(model, pairs):
    image = embed_images(model, pairs)
    best = (image @ zero_shot_classifier(model, TOKENIZER, CLASSES, templates=TEMPLATES)).argmax(dim=1).numpy()
    accuracy = [
        zero_shot_accuracy(model, TOKENIZER, image, task=Task(CLASSES, TEMPLATES, np.arange(60), y))
        for y in (best, (best + 1) % 3)
    ]
    assert accuracy == [1.0, 0.0]


# ---- evaluate


def test_evaluate_gives_retrieval_loss_and_each_task(model, pairs):
    figures = evaluate(model, TOKENIZER, pairs)
    assert set(figures) == {
        *(f"{way}_r@{k}" for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)),
        *("text_to_image_median_rank", "image_to_text_median_rank", "mean_recall"),
        "loss",
        *(f"{what}/{name}" for what in ("zero_shot", "chance") for name in pairs.tasks),
    }
    assert all(type(v) is float for v in figures.values())


def test_evaluate_leaves_tasks_out_where_told(model, pairs):
    assert not any("zero_shot" in name for name in evaluate(model, TOKENIZER, pairs, tasks=False))


def test_loss_is_that_of_all_images_with_their_first_captions(model, pairs):
    with torch.no_grad():
        image = unit(
            model.encode_image(normalize(torch.from_numpy(pairs.images), model.config.vision)).double().numpy()
        )
    text = np.stack([unit(one_vector(model, captions[0])) for captions in pairs.captions])
    logits = model.logit_scale.exp().item() * image @ text.T
    loss = sum(np.mean(np.log(np.exp(x).sum(axis=1)) - np.diag(x)) for x in (logits, logits.T)) / 2
    assert evaluate(model, TOKENIZER, pairs, tasks=False)["loss"] == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize("images, texts", [(1, 1), (7, 11), (1000, 1000)])
def test_no_figure_depends_on_the_batch_size(model, pairs, monkeypatch, images, texts):
    expected = evaluate(model, TOKENIZER, pairs)
    monkeypatch.setattr(package, "embed_images", lambda m, p: embed_images(m, p, batch_size=images))
    monkeypatch.setattr(package, "embed_texts", lambda m, t, x: embed_texts(m, t, x, batch_size=texts))
    got = evaluate(model, TOKENIZER, pairs)
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    # identical captions tie exactly only within a batch
    assert got == pytest.approx(expected, abs=0.1)


def test_captions_of_different_numbers_find_their_first(model):
    pairs = load_shapes("test", image_size=16, size=6)
    uneven = Pairs(pairs.images, [c[: 1 + i % 4] for i, c in enumerate(pairs.captions)], pairs.names)
    whole, cut = (evaluate(model, TOKENIZER, p, tasks=False)["loss"] for p in (pairs, uneven))
    assert whole == pytest.approx(cut, rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored(model, pairs, training):
    model.train(training)
    evaluate(model, TOKENIZER, pairs, tasks=False)
    assert model.training == training and model.vision.training == training
    model.eval()


def test_the_mode_of_the_model_is_restored_after_an_error(model, pairs):
    model.train()
    with pytest.raises(MinclipError):
        evaluate(
            model,
            TOKENIZER,
            Pairs(pairs.images, pairs.captions, pairs.names, {"x": Task(("a",), ("b",), np.array([0]), np.array([0]))}),
        )
    training = model.training
    model.eval()
    assert training


def test_evaluate_runs_the_model_in_eval_mode(model, pairs, monkeypatch):
    modes, encode = [], CLIP.encode_image
    monkeypatch.setattr(
        CLIP, "encode_image", lambda self, *a, **k: modes.append(self.training) or encode(self, *a, **k)
    )
    model.train()
    evaluate(model, TOKENIZER, pairs, tasks=False)
    model.eval()
    assert modes and not any(modes)


def test_evaluate_leaves_no_gradients(model, pairs):
    evaluate(model, TOKENIZER, pairs, tasks=False)
    assert all(p.grad is None for p in model.parameters()) and not embed_images(model, pairs).requires_grad


def test_final_figures_are_those_of_each_split_with_a_note_on_images_used_for_training(model, pairs, capsys):
    few = Pairs(pairs.images[:9], pairs.captions[:9], [f"{i}.jpg" for i in range(9)])
    figures = final_figures(model, TOKENIZER, {"val": pairs, "test": few}, trained_on=["3.jpg", "8.jpg", "x.jpg"])
    for split, of_split in (("val", pairs), ("test", few)):
        chance = {f"chance/{k}": v for k, v in retrieval_chance(of_split.text_to_image, len(of_split)).items()}
        counts = {"images": len(of_split), "captions": 5 * len(of_split)}
        assert figures[split] == counts | evaluate(model, TOKENIZER, of_split) | chance
    told = capsys.readouterr().err
    assert told.count("note:") == 1 and "2 of the 9 images of test" in told
    final_figures(model, TOKENIZER, {"test": few})
    assert "note:" not in capsys.readouterr().err

"""Zero-shot classifiers, their accuracy, and `evaluate`, against computations of another kind."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from tiny_models import far_from_start

import minclip.evaluate as package
from minclip.batches import normalize
from minclip.config import CLIPConfig, MinclipError, TextConfig, VisionConfig
from minclip.data import Pairs, Task
from minclip.data.shapes import load_shapes
from minclip.evaluate import (
    embed_batches,
    embed_images,
    embed_texts,
    evaluate,
    zero_shot_accuracy,
    zero_shot_classifier,
)
from minclip.model import CLIP
from minclip.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["a red star on a dark background"] * 3, 540)
CLASSES = ("red", "a much longer name", "blue")
TEMPLATES = ("a {}", "a very long template about a {} on a background", "{}")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    vision = VisionConfig(
        image_size=16, patch_size=8, width=16, layers=1, heads=2, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.15)
    )
    text = TextConfig(context_length=120, vocab_size=TOKENIZER.vocab_size, width=16, layers=1, heads=2)
    return far_from_start(CLIP(CLIPConfig(12, vision, text)))


@pytest.fixture(scope="module")
def pairs():
    return load_shapes("test", image_size=16, size=60)


def one_vector(model, prompt):
    """A prompt alone, without padding, trimming or blocks, as float64."""
    ids = torch.tensor([[TOKENIZER.sot_id, *TOKENIZER.encode(prompt), TOKENIZER.eot_id]])
    with torch.no_grad():
        return model.encode_text(ids)[0].double().numpy()


def unit(v):
    return v / np.sqrt((v * v).sum(axis=-1, keepdims=True))


def class_vector(model, prompts):
    return unit(np.mean([unit(one_vector(model, p)) for p in prompts], axis=0))


# ---- embeddings


def test_text_vectors_have_length_1(model):
    assert torch.allclose(embed_texts(model, TOKENIZER, ["a", "a red star"]).norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("block", [1, 3, 512])
def test_text_vectors_depend_neither_on_blocks_nor_on_padding(model, block):
    texts = ["a", "a red star", "a red star on a dark background", "red"]
    expected = [unit(one_vector(model, t)) for t in texts]
    np.testing.assert_allclose(embed_texts(model, TOKENIZER, texts, block), expected, atol=1e-5)


@pytest.mark.parametrize("block", [1, 7, 256])
def test_image_vectors_do_not_depend_on_blocks(model, pairs, block):
    with torch.no_grad():
        x = normalize(torch.from_numpy(pairs.images), model.config.vision)
        expected = unit(model.encode_image(x).double().numpy())
    np.testing.assert_allclose(embed_images(model, pairs, block), expected, atol=1e-5)


# ---- classifiers


def test_prompts_are_normalised_averaged_normalised(model):
    got = zero_shot_classifier(model, TOKENIZER, CLASSES, TEMPLATES)
    expected = np.stack([class_vector(model, [t.replace("{}", c) for t in TEMPLATES]) for c in CLASSES], axis=1)
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_other_orders_of_averaging_give_something_else(model):
    # so that the test above can tell them apart
    raw = [[one_vector(model, t.replace("{}", c)) for t in TEMPLATES] for c in CLASSES]
    right = np.stack([class_vector(model, [t.replace("{}", c) for t in TEMPLATES]) for c in CLASSES])
    assert abs(unit(np.mean(raw, axis=1)) - right).max() > 1e-3
    assert abs(np.mean([[unit(v) for v in row] for row in raw], axis=1) - right).max() > 1e-3


def test_a_classifier_has_a_column_of_length_1_for_each_class(model):
    got = zero_shot_classifier(model, TOKENIZER, CLASSES, TEMPLATES)
    assert got.shape == (12, 3) and torch.allclose(got.norm(dim=0), torch.ones(3))


def test_one_template_and_one_class_will_do(model):
    got = zero_shot_classifier(model, TOKENIZER, ["red"], ["a {}"])
    np.testing.assert_allclose(got[:, 0], unit(one_vector(model, "a red")), atol=1e-5)


def test_a_template_that_names_the_class_twice_is_filled_twice(model):
    got = zero_shot_classifier(model, TOKENIZER, ["red"], ["{} and {}"])
    np.testing.assert_allclose(got[:, 0], unit(one_vector(model, "red and red")), atol=1e-5)


def test_braces_in_a_class_name_are_text(model):
    got = zero_shot_classifier(model, TOKENIZER, ["{x} 100%"], ["a {}"])
    np.testing.assert_allclose(got[:, 0], unit(one_vector(model, "a {x} 100%")), atol=1e-5)


def test_a_template_without_a_place_for_the_name_is_an_error_that_shows_it(model):
    with pytest.raises(MinclipError, match=r"'a photo' has no \{\}"):
        zero_shot_classifier(model, TOKENIZER, CLASSES, ["a {}", "a photo"])


@pytest.mark.parametrize("classes, templates", [([], TEMPLATES), (CLASSES, [])])
def test_no_class_or_no_template_is_an_error(model, classes, templates):
    with pytest.raises(MinclipError, match="at least one"):
        zero_shot_classifier(model, TOKENIZER, classes, templates)


@pytest.mark.parametrize(
    "classes, told",
    [
        (["a dog", "a cat", "a dog"], "more than once: 'a dog'; each class needs a name of its own"),
        (["x", "y", "y", "x", "x"], "more than once: 'x', 'y';"),
        (["Blue star", "blue  star ", "red star"], "more than once: 'blue star';"),
        (["a dog", ""], "class name 2 of 2 is empty"),
        (["\t \n", "a dog"], "class name 1 of 2 is empty"),
        ("a dog", "are lists of texts"),
    ],
)
def test_class_names_that_name_nothing_or_not_one_class_are_told(model, classes, told):
    with pytest.raises(MinclipError, match=told):
        zero_shot_classifier(model, TOKENIZER, classes, TEMPLATES)


@pytest.mark.parametrize(
    "templates, told", [(["a {}", ""], "a template is empty"), ([" "], "a template is empty"), ("a {}", "are lists of")]
)
def test_templates_without_a_word_are_told(model, templates, told):
    with pytest.raises(MinclipError, match=told):
        zero_shot_classifier(model, TOKENIZER, CLASSES, templates)


def test_a_model_without_a_tokenizer_can_not_read_class_names(model):
    with pytest.raises(MinclipError, match="has no tokenizer, so it can't read class names"):
        zero_shot_classifier(model, None, CLASSES, TEMPLATES)


# ---- the cache


def classifier(model, folder, tokenizer=TOKENIZER, classes=CLASSES, templates=TEMPLATES):
    return zero_shot_classifier(model, tokenizer, classes, templates, cache=folder)


def test_texts_are_encoded_once(model, tmp_path, monkeypatch):
    plain = zero_shot_classifier(model, TOKENIZER, CLASSES, TEMPLATES)
    made = classifier(model, tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.delattr(CLIP, "encode_text")
        kept = classifier(model, tmp_path / "cache")
    for got in (made, kept):  # also as they lie in memory: products round alike
        assert torch.equal(got, plain) and got.stride() == plain.stride() and not got.requires_grad
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_without_a_folder_nothing_is_kept(model, data_home):
    zero_shot_classifier(model, TOKENIZER, CLASSES, TEMPLATES)
    assert not data_home.exists()


def changed(model, change):
    other = copy.deepcopy(model)
    with torch.no_grad():
        change(other)
    return other


def rebuilt(model, **config):
    """The same weights in a model of another config."""
    other = CLIP(replace(model.config, **config)).eval()
    other.load_state_dict(model.state_dict())
    return other


OTHERS = {
    "a weight of the tower": lambda m: (changed(m, lambda x: x.text.token_embedding.weight[300, 3].add_(1)), {}),
    "the projection": lambda m: (changed(m, lambda x: x.text_projection.weight[0, 0].add_(1)), {}),
    "heads": lambda m: (rebuilt(m, text=replace(m.config.text, heads=4)), {}),
    "the activation": lambda m: (rebuilt(m, activation="quick_gelu"), {}),
    "dropout at work": lambda m: (changed(m, lambda x: x.train()), {}),
    "the tokenizer": lambda m: (
        m,
        {"tokenizer": Tokenizer.train(["much longer names than blue or green"] * 3, TOKENIZER.vocab_size)},
    ),
    "a class": lambda m: (m, {"classes": ("red", "green", "blue")}),
    "the classes' order": lambda m: (m, {"classes": CLASSES[::-1]}),
    "a template": lambda m: (m, {"templates": (*TEMPLATES, "some {}")}),
    "where one text ends": lambda m: (m, {"classes": ("red", "a much", "longer name", "blue")}),
}


@pytest.mark.parametrize("what", OTHERS)
def test_whatever_changes_the_answer_makes_a_new_one(model, tmp_path, what):
    classifier(model, tmp_path)
    other, texts = OTHERS[what](model)
    expected = zero_shot_classifier(
        other, texts.get("tokenizer", TOKENIZER), texts.get("classes", CLASSES), texts.get("templates", TEMPLATES)
    )
    assert torch.equal(classifier(other, tmp_path, **texts), expected)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_image_tower_and_the_temperature_do_not_matter(model, tmp_path):
    classifier(model, tmp_path)
    classifier(changed(model, lambda x: (x.vision.class_embedding.add_(1), x.logit_scale.add_(1))), tmp_path)
    assert len(list(tmp_path.iterdir())) == 1


def test_what_autocast_has_rounded_is_not_taken_for_the_plain_one(model, tmp_path):
    with torch.autocast("cpu", torch.bfloat16):
        rounded = classifier(model, tmp_path)
    plain = classifier(model, tmp_path)
    assert not torch.equal(rounded, plain)
    assert torch.equal(plain, zero_shot_classifier(model, TOKENIZER, CLASSES, TEMPLATES))


def test_a_damaged_file_is_made_anew(model, tmp_path):
    expected = classifier(model, tmp_path)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    flips = [whole[:i] + bytes([whole[i] ^ 64]) + whole[i + 1 :] for i in range(0, len(whole), 41)]
    cuts = [whole[:i] for i in range(0, len(whole), 97)]
    rows = expected.T.bfloat16()
    others = [safetensors.torch.save(tensors) for tensors in ({"rows": rows}, {"rows": rows, "digest": rows.clone()})]
    for damaged in (*flips, *cuts, *others, whole + b"more", b"not tensors at all"):
        path.write_bytes(damaged)
        assert torch.equal(classifier(model, tmp_path), expected)
        assert path.read_bytes() == whole
    assert len(list(tmp_path.iterdir())) == 1


def test_another_classifier_under_its_name_is_made_anew(model, tmp_path):
    expected = classifier(model, tmp_path)
    (path,) = tmp_path.iterdir()
    classifier(model, tmp_path, classes=CLASSES[::-1])
    (other,) = set(tmp_path.iterdir()) - {path}
    other.replace(path)
    assert torch.equal(classifier(model, tmp_path), expected)


def test_a_cache_that_can_not_be_written_only_costs_time(model, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert torch.equal(classifier(model, tmp_path / "file"), zero_shot_classifier(model, TOKENIZER, CLASSES, TEMPLATES))


# ---- images in batches


def test_batches_are_of_pixels_or_of_what_preprocess_made(model, pairs):
    expected = embed_images(model, pairs)
    floats = normalize(torch.from_numpy(pairs.images), model.config.vision)
    for images in (pairs.images, torch.from_numpy(pairs.images), floats):
        parts = list(embed_batches(model, (images[i : i + 25] for i in range(0, 60, 25))))
        assert [len(part) for part in parts] == [25, 25, 10] and not parts[0].requires_grad
        torch.testing.assert_close(torch.cat(parts), expected, atol=1e-5, rtol=0)


def test_batches_are_made_while_they_are_wanted(model):
    made, most = [], 0

    def batches():
        for number in range(12):
            made.append(number)
            yield np.zeros((2, 3, 16, 16), np.uint8)

    for number, _ in enumerate(embed_batches(model, batches())):
        most = max(most, made[-1] - number)
    assert len(made) == 12 and most <= 3


def test_an_error_in_a_batch_is_raised_where_batches_are_asked_for(model):
    def batches():
        yield np.zeros((2, 3, 16, 16), np.uint8)
        raise MinclipError("photograph.jpg can't be read")

    with pytest.raises(MinclipError, match=r"photograph\.jpg"):
        list(embed_batches(model, batches()))


# ---- accuracy


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
    assert zero_shot_accuracy(model, TOKENIZER, image, task) == pytest.approx(np.mean(hits))
    assert 0 < np.mean(hits) < 1


def test_accuracy_with_subjects_is_the_count_by_hand(model, pairs):
    task, image, hits = random_task(subjects=True), embed_images(model, pairs), []
    for i, label, subject in zip(task.indices, task.labels, task.subjects):
        scores = []
        for c in CLASSES:
            prompts = [f"{subject['a']} {c} {subject['b']}", f"see {subject['b']}, {subject['a']}: {c}"]
            scores.append(image[i].double().numpy() @ class_vector(model, prompts))
        hits.append(np.argmax(scores) == label)
    assert zero_shot_accuracy(model, TOKENIZER, image, task) == pytest.approx(np.mean(hits))
    assert 0 < np.mean(hits) < 1


def test_right_labels_give_1_and_wrong_ones_0(model, pairs):
    image = embed_images(model, pairs)
    best = (image @ zero_shot_classifier(model, TOKENIZER, CLASSES, TEMPLATES)).argmax(dim=1).numpy()
    accuracy = [
        zero_shot_accuracy(model, TOKENIZER, image, Task(CLASSES, TEMPLATES, np.arange(60), y))
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
def test_no_figure_depends_on_the_size_of_blocks(model, pairs, monkeypatch, images, texts):
    expected = evaluate(model, TOKENIZER, pairs)
    monkeypatch.setattr(package, "embed_images", lambda m, p: embed_images(m, p, images))
    monkeypatch.setattr(package, "embed_texts", lambda m, t, x: embed_texts(m, t, x, texts))
    got = evaluate(model, TOKENIZER, pairs)
    assert got["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    # identical captions tie exactly only within a block
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

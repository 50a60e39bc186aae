"""Text vectors and zero-shot classifiers against one prompt at a time; accuracy is tested in evaluate/test_metrics.py."""

import numpy as np
import pytest
from tiny_zero_shot import CLASSES, TEMPLATES, TOKENIZER, class_vector, one_vector, tiny_model, unit

from minclip.config import MinclipError
from minclip.model import CLIP
from minclip.zeroshot import embed_texts, zero_shot_classifier


@pytest.fixture(scope="module")
def model():
    return tiny_model()


# ---- embeddings


@pytest.mark.parametrize("batch_size", [1, 3, 512])
def test_text_vectors_depend_neither_on_batches_nor_on_padding(model, batch_size):
    texts = ["a", "a red star", "a red star on a dark background", "red", "a"]
    expected = [unit(one_vector(model, t)) for t in texts]
    np.testing.assert_allclose(embed_texts(model, TOKENIZER, texts, batch_size=batch_size), expected, atol=1e-5)


def test_hardly_any_padding_is_computed(model, monkeypatch):
    shapes, encode = [], CLIP.encode_text
    monkeypatch.setattr(
        CLIP, "encode_text", lambda self, ids, **k: shapes.append(tuple(ids.shape)) or encode(self, ids, **k)
    )
    texts = [" ".join(["red"] * n) for n in np.random.default_rng(0).permutation(np.repeat(np.arange(1, 41), 10))]
    embed_texts(model, TOKENIZER, texts, batch_size=20)
    tokens = sum(len(TOKENIZER.encode(text)) + 2 for text in texts)
    assert sum(rows * columns for rows, columns in shapes) < 1.03 * tokens


# ---- classifiers


def columns(model, classes, templates):
    return np.stack([class_vector(model, [t.replace("{}", c) for t in templates]) for c in classes], axis=1)


@pytest.mark.parametrize(
    ("classes", "templates"),
    [
        (CLASSES, TEMPLATES),
        (["red"], ["a {}"]),
        (["red"], ["{} and {}"]),
        (["{x} 100%", "{}", "{", "{0!r:>{a}}"], ["a {}"]),
        (CLASSES, ["{a} {}", "{{{}}}"]),
    ],
    ids=["three of each", "one of each", "a name twice", "braces in names", "braces in templates"],
)
def test_prompts_are_normalized_averaged_normalized(model, classes, templates):
    got = zero_shot_classifier(model, TOKENIZER, classes, templates=templates)
    assert got.shape == (12, len(classes)) and not got.requires_grad
    np.testing.assert_allclose(got, columns(model, classes, templates), atol=1e-5)


SENTENCES = [["a daisy", "a white flower"], ["a rose"], ["{}", "red, and long", "a rose in the dark"]]


def test_a_class_may_be_any_number_of_sentences(model):
    got = zero_shot_classifier(model, TOKENIZER, SENTENCES)
    np.testing.assert_allclose(got, np.stack([class_vector(model, s) for s in SENTENCES], axis=1), atol=1e-5)
    # each class's mean has the same weight, however many sentences it is of
    assert got.norm(dim=0).tolist() == pytest.approx([1, 1, 1])


def test_names_and_sentences_may_be_mixed_and_stand_in_a_dict(model):
    classes = {"n11939491": ("a daisy", "a white flower"), "rose": "red rose", "3": ["a rose"]}
    got = zero_shot_classifier(model, TOKENIZER, classes, templates=TEMPLATES)
    prompts = [classes["n11939491"], [t.replace("{}", "red rose") for t in TEMPLATES], ["a rose"]]
    np.testing.assert_allclose(got, np.stack([class_vector(model, p) for p in prompts], axis=1), atol=1e-5)


def test_other_orders_of_averaging_give_something_else(model):
    # so that the test above can tell them apart
    raw = [[one_vector(model, t.replace("{}", c)) for t in TEMPLATES] for c in CLASSES]
    right = columns(model, CLASSES, TEMPLATES).T
    assert abs(unit(np.mean(raw, axis=1)) - right).max() > 1e-3
    assert abs(np.mean([[unit(v) for v in row] for row in raw], axis=1) - right).max() > 1e-3


@pytest.mark.parametrize(
    ("classes", "templates", "facts"),
    [
        (CLASSES, ["a {}", "a photo"], "'a photo'.* {} "),
        (CLASSES, ["a {}", ""], "''.* {} "),
        (CLASSES, [" "], "' '.* {} "),
        (CLASSES, "a {}", "lists.*'a {}'"),
        (CLASSES, [], r"at least one.*\[\]"),
        ([], TEMPLATES, r"at least one.*\[\]"),
        ("a dog", TEMPLATES, "lists.*'a dog'"),
        (["a dog", "a cat", "a dog"], TEMPLATES, "number 0 'a dog', number 2 'a dog'$"),
        (["Blue star", "blue  star ", "red star"], TEMPLATES, "0 'Blue star', number 1 'blue  star '$"),
        (["a dog", ""], TEMPLATES, "number 1 ''$"),
        (["\t \n", "a dog"], TEMPLATES, r"number 0 '\\t \\n'$"),
        ({}, TEMPLATES, r"at least one.*\[\]"),
        ([["a dog"], []], TEMPLATES, r"number 1 \[\]$"),
        ([["a dog"], ["a cat", " "]], TEMPLATES, "number 1 "),
        ([["a dog"], ["a cat", 3]], TEMPLATES, "number 1 "),
        (["a dog", 3], TEMPLATES, "number 1 3$"),
        (["a dog", None, b"x"], TEMPLATES, "number 1 None, number 2 b'x'$"),
        ([["a", "b"], ["B ", "A"]], TEMPLATES, "number 0 .*number 1 "),
        ({"x": ["a dog"], "y": ["A  dog"]}, TEMPLATES, "number 0 .*number 1 "),
    ],
)
def test_names_and_templates_that_make_no_classifier_are_refused(model, classes, templates, facts):
    with pytest.raises(MinclipError, match=facts):
        zero_shot_classifier(model, TOKENIZER, classes, templates=templates)


def test_a_model_without_a_tokenizer_can_not_read_class_names(model):
    with pytest.raises(MinclipError, match="no tokenizer"):
        zero_shot_classifier(model, None, CLASSES)

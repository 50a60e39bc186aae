"""Metrics equal scikit-learn's and clip_benchmark's where those have an answer, and a count by hand where they have none."""

import itertools
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minclip.config import MinclipError
from minclip.evaluate.metrics import (
    METRICS,
    accuracy,
    mean_average_precision,
    mean_per_class,
    retrieval_chance,
    roc_auc,
)
from minclip.recall import retrieval

SIZES = (st.integers(1, 40), st.integers(2, 12), st.integers(0, 2**31))


def no_ties(n, c, seed):
    rng = np.random.default_rng(seed)
    scores = rng.permutation(n * c).reshape(n, c) / 7
    return scores, rng.integers(0, c, n)


def many_ties(n, c, seed, odd=()):
    """Small whole numbers, some of them replaced by `odd` ones."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (n, c)).astype(float)
    if odd:
        places = rng.random((n, c)) < 0.2
        scores[places] = rng.choice(odd, places.sum())
    return scores, rng


# ---- accuracy, top-k, mean per class


@given(*SIZES)
@settings(max_examples=100, deadline=None)
def test_accuracies_equal_scikit_learns(n, c, seed):
    sklearn = pytest.importorskip("sklearn.metrics")
    scores, labels = no_ties(n, c, seed)
    best = scores.argmax(axis=1)
    assert accuracy(scores, labels) == pytest.approx(sklearn.accuracy_score(labels, best))
    if len(set(labels)) > 1 and set(best) <= set(labels):  # it warns of classes that are only predicted
        assert mean_per_class(scores, labels) == pytest.approx(sklearn.balanced_accuracy_score(labels, best))
    for k in range(1, c if c > 2 else 0):  # of two classes it wants to see one column
        theirs = sklearn.top_k_accuracy_score(labels, scores, k=k, labels=np.arange(c))
        assert accuracy(scores, labels, k) == pytest.approx(theirs)


@given(*SIZES)
@settings(max_examples=60, deadline=None)
def test_mean_per_class_is_the_mean_of_the_classes_that_occur(n, c, seed):
    scores, labels = no_ties(n, c, seed)
    recalls = [np.mean(scores[labels == y].argmax(axis=1) == y) for y in np.unique(labels)]
    assert mean_per_class(scores, labels) == pytest.approx(np.mean(recalls))


@given(st.integers(1, 8), st.integers(2, 4), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_ties_are_broken_as_by_a_coin(n, c, seed):
    scores, rng = many_ties(n, c, seed, (np.inf, -np.inf))
    labels = rng.integers(0, c, n)
    orders = list(itertools.permutations(range(c)))
    for k in range(1, c + 1):
        hits = []  # each order of the classes breaks all ties in its way
        for order in map(list, orders):
            best = np.take(order, np.argsort(-scores[:, order], axis=1, kind="stable")[:, :k])
            hits.append((best == labels[:, None]).any(axis=1))
        expected = np.mean(hits, axis=0)  # (N,)
        assert accuracy(scores, labels, k) == pytest.approx(expected.mean())
        if k == 1:
            of_classes = [expected[labels == y].mean() for y in np.unique(labels)]
            assert mean_per_class(scores, labels) == pytest.approx(np.mean(of_classes))


@pytest.mark.parametrize("c", [2, 3, 10])
def test_one_point_for_everything_gets_what_chance_gets(c):
    scores, labels = torch.zeros(30, c), np.arange(30) % c
    got = accuracy(scores, labels), mean_per_class(scores, labels), accuracy(scores, labels, 2)
    assert got == pytest.approx((1 / c, 1 / c, 2 / c))
    assert roc_auc(torch.zeros(30, 2), np.arange(30) % 2) == 0.5
    some = np.random.default_rng(0).random((30, c)) < 0.3
    assert mean_average_precision(scores, some) == pytest.approx(some.mean())


def test_classes_that_never_occur_are_left_out_of_the_mean():
    scores = np.eye(5)[[0, 0, 0, 4, 2]]
    labels = np.array([0, 0, 2, 2, 2])  # 1, 3 and 4 have no image
    assert accuracy(scores, labels) == pytest.approx(3 / 5)
    assert mean_per_class(scores, labels) == pytest.approx((1 + 1 / 3) / 2)


def test_the_mean_of_top_1_and_top_5():
    scores, labels = no_ties(50, 12, 3)
    one, five = accuracy(scores, labels), accuracy(scores, labels, 5)
    assert one < five and METRICS["mean(top1, top5)"](scores, labels) == pytest.approx((one + five) / 2)


@given(*SIZES)
@settings(max_examples=60, deadline=None)
def test_a_score_that_is_not_a_number_never_helps(n, c, seed):
    scores, rng = many_ties(n, c, seed, (np.nan, np.inf, -np.inf))
    labels = rng.integers(0, c, n)
    is_right = np.arange(c) == labels[:, None]
    # the worst that could stand there, with the whole numbers moved in between
    worst = np.nan_to_num(scores, nan=np.nan, posinf=10, neginf=-10)
    worst = np.where(np.isnan(scores), np.where(is_right, -20, 20), worst)
    for k in range(1, c):
        assert accuracy(scores, labels, k) == pytest.approx(accuracy(worst, labels, k))
    assert mean_per_class(scores, labels) == pytest.approx(mean_per_class(worst, labels))
    several = rng.random((n, c)) < 0.4
    several[0, 0] = True
    worst = np.nan_to_num(scores, nan=np.nan, posinf=10, neginf=-10)
    worst = np.where(np.isnan(scores) & ~several, 20, worst)
    found = np.array([average_precision_by_hand(worst[:, j], several[:, j]) for j in np.flatnonzero(several.any(0))])
    assert mean_average_precision(scores, several) == pytest.approx(found.mean())


def test_a_right_score_that_is_not_a_number_is_not_even_among_all():
    scores = torch.tensor([[float("nan"), 1.0], [float("nan"), float("nan")]])
    assert accuracy(scores, np.array([0, 1]), k=2) == accuracy(scores, np.array([0, 1]), k=5) == 0


def test_rows_are_counted_whatever_their_number():
    scores, labels = no_ties(2500, 3, 4)
    assert accuracy(scores, labels) == pytest.approx((scores.argmax(axis=1) == labels).mean())


def test_arrays_tensors_and_integers_of_all_sizes_will_do():
    scores, labels = no_ties(20, 6, 1)
    values = {
        accuracy(x, y)
        for x in (scores, torch.from_numpy(scores), torch.from_numpy(scores).float())
        for y in (labels, torch.from_numpy(labels), labels.astype(np.uint8))
    }
    assert len(values) == 1


# ---- 11-point mean average precision


def average_precision_by_hand(scores, labels):
    """VOC 2007's definition, a threshold at a time and in fractions; one that is not a number is above no threshold."""
    points = []
    for t in np.unique(scores[~np.isnan(scores)]):
        chosen = scores >= t
        right = int((chosen & labels).sum())
        points.append((Fraction(right, int(labels.sum())), Fraction(right, int(chosen.sum()))))
    best = [max((p for r, p in points if r >= Fraction(i, 10)), default=0) for i in range(11)]
    return float(sum(best) / 11)


def test_average_precision_of_five_images():
    # right, wrong, right, wrong, right: precisions 1, 2/3, 3/5 at recalls 1/3, 2/3, 1
    scores, labels = np.array([[9], [8], [7], [6], [5]]), np.array([[1], [0], [1], [0], [1]], bool)
    # recalls 0 to 0.3, 0.4 to 0.6, 0.7 to 1: 4, 3 and 4 of the 11 points
    expected = (4 * 1 + 3 * 2 / 3 + 4 * 3 / 5) / 11
    assert mean_average_precision(scores, labels) == pytest.approx(expected)


def test_a_recall_of_a_whole_tenth_reaches_its_point():
    # of ten right ones three come first, then ten wrong ones: 3 / 10 is 0.3, which floats doubt
    labels = np.array([1] * 3 + [0] * 10 + [1] * 7, bool)[:, None]
    scores = -np.arange(20.0)[:, None]
    assert mean_average_precision(scores, labels) == pytest.approx((4 * 1 + 7 * 10 / 20) / 11)


@given(*SIZES, st.booleans())
@settings(max_examples=100, deadline=None)
def test_mean_average_precision_is_the_definition(n, c, seed, ties):
    scores, rng = many_ties(n, c, seed, (np.inf, -np.inf))
    scores = scores if ties else rng.permutation(n * c).reshape(n, c).astype(float)
    labels = rng.random((n, c)) < 0.4
    labels[0, 0] = True
    occur = np.flatnonzero(labels.any(axis=0))
    expected = np.mean([average_precision_by_hand(scores[:, j], labels[:, j]) for j in occur])
    assert mean_average_precision(scores, labels) == pytest.approx(expected)


def test_mean_average_precision_is_near_clip_benchmarks_which_has_all_points():
    peer = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    rng = np.random.default_rng(0)
    labels = rng.random((3000, 4)) < 0.3
    scores = torch.from_numpy(labels + rng.standard_normal(labels.shape))
    theirs = float(peer.average_precision_per_class(scores, torch.from_numpy(labels)).mean())
    assert 0.4 < theirs < 0.9 and mean_average_precision(scores, labels) == pytest.approx(theirs, abs=0.02)


# ---- ROC AUC


@given(st.integers(2, 60), st.integers(0, 2**31), st.booleans())
@settings(max_examples=100, deadline=None)
def test_roc_auc_equals_scikit_learns_also_with_ties(n, seed, ties):
    sklearn = pytest.importorskip("sklearn.metrics")
    scores, rng = many_ties(n, 2, seed)
    scores = scores if ties else rng.standard_normal((n, 2))
    labels = rng.permutation(np.arange(n) % 2 if n < 5 else np.arange(n) % 5 // 4)
    assert roc_auc(scores, labels) == pytest.approx(sklearn.roc_auc_score(labels, scores[:, 1] - scores[:, 0]))


@given(st.integers(2, 20), st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_roc_auc_is_the_count_over_pairs(n, seed):
    scores, rng = many_ties(n, 2, seed, (np.nan, np.inf, -np.inf))
    labels = rng.permutation(np.arange(n) % 2)
    with np.errstate(invalid="ignore"):
        margin = scores[:, 1] - scores[:, 0]
    pairs = [(p > q) + (p == q) / 2 for p in margin[labels == 1] for q in margin[labels == 0]]
    assert roc_auc(scores, labels) == pytest.approx(np.mean(pairs))


# ---- what is wrong


def test_each_of_the_papers_metrics_has_its_name():
    assert list(METRICS) == ["accuracy", "mean(top1, top5)", "mean per class", "11-point mAP", "ROC AUC"]


@pytest.mark.parametrize("metric", METRICS.values())
@pytest.mark.parametrize("scores, labels", [((4, 2), (5,)), ((4,), (4,)), ((4, 2), (4, 3)), ((0, 2), (0,))])
def test_shapes_that_do_not_fit_are_told(metric, scores, labels):
    with pytest.raises(MinclipError, match=rf"(?s)(?=.*{re.escape(str(scores))})(?=.*{re.escape(str(labels))}).*\(N"):
        metric(np.zeros(scores), np.zeros(labels, int))


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0.0, 1.0]])
@pytest.mark.parametrize("metric", [accuracy, mean_per_class])
def test_labels_without_a_column_are_told(metric, labels):
    with pytest.raises(MinclipError, match=rf"0 to C - 1.*\(2, 3\).*from {labels[0]} to {labels[1]}"):
        metric(np.zeros((2, 3)), np.array(labels))


def test_k_must_be_positive():
    with pytest.raises(MinclipError, match=r"k at least 1.* k = 0"):
        accuracy(np.zeros((1, 2)), np.array([0]), k=0)


@pytest.mark.parametrize("scores, labels", [(2, [1, 1, 1]), (3, [0, 1, 1]), (2, [0.0, 1.0, 1.0]), (2, [1, 2, 1])])
def test_roc_auc_needs_two_classes_that_occur(scores, labels):
    with pytest.raises(MinclipError, match=rf"both 0 and 1.*\(3, {scores}\)"):
        roc_auc(np.zeros((3, scores)), np.array(labels))


def test_average_precision_needs_something_to_find():
    with pytest.raises(MinclipError, match="at least one image with a label"):
        mean_average_precision(np.zeros((3, 2)), np.zeros((3, 2), bool))


# ---- chance


def test_chance_of_recall_by_hand():
    # 4 texts of 3 images: 2, 1, 1.  Both texts of the first are missed by one of four draws in 2/4, by two in 1/6
    got = retrieval_chance(np.array([0, 0, 1, 2]), 3, ks=(1, 2, 5))
    assert got == pytest.approx(
        {
            "text_to_image_r@1": 1 / 3,
            "text_to_image_r@2": 2 / 3,
            "text_to_image_r@5": 1,
            "image_to_text_r@1": (2 / 4 + 1 / 4 + 1 / 4) / 3,
            "image_to_text_r@2": (5 / 6 + 1 / 2 + 1 / 2) / 3,
            "image_to_text_r@5": 1,
        }
    )


def test_chance_of_recall_is_what_random_vectors_get():
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(60), rng.integers(0, 5, 60))  # some images have no text
    sums = {}
    for _ in range(40):
        image, text = (torch.from_numpy(rng.normal(size=(n, 8))) for n in (60, len(owner)))
        for name, value in retrieval(image, text, owner).items():
            sums[name] = sums.get(name, 0) + value / 40
    chance = retrieval_chance(owner, 60)
    assert {name: sums[name] for name in chance} == pytest.approx(chance, abs=0.02)

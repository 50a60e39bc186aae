"""What notebook 07 shows and asks: which data set it takes, checks, plots, the search box."""

import hashlib
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from course_answers import exercises

import minclip
from minclip import retrieval
from minclip.course import checks, plots, setup
from minclip.data.kaggle import MARK


def sha(name):
    return int(hashlib.sha256(name.encode()).hexdigest(), 16)


def split_of(name, number=sha, train=90, val=95, words=("train", "val", "test")):
    bucket = number(name) % 100
    return words[(bucket >= train) + (bucket >= val)]


def smoothed_target(size, share):
    return (1 - share) * torch.eye(size) + share / size


def rank_of(scores, right):
    best = scores[right].max()
    wrong = scores[~right]
    return (wrong > best).sum() + (wrong == best).sum() / 2


def first_only(scores, right):
    own = scores[right.nonzero()[0, 0]]
    return (scores[~right] > own).sum()


SOLUTIONS = [
    (checks.split_of, split_of),
    (checks.smoothed_target, smoothed_target),
    (checks.rank_of, rank_of),
]
WRONG = [
    (checks.split_of, lambda name: split_of(name, hash), "from process to process"),
    (checks.split_of, lambda name: split_of(name, train=91, val=96), "compare with <"),
    (checks.split_of, lambda name: split_of(name, words=("train", "test", "val")), "are swapped"),
    (checks.split_of, lambda name: split_of(name, train=80, val=90), "80:10:10"),
    (checks.split_of, lambda name: split_of(name, lambda n: int(n.removesuffix(".jpg"))), "hash the whole name"),
    (checks.split_of, lambda name: split_of(name, lambda n: sum(n.encode())), "a sum of characters"),
    (checks.split_of, lambda name: random.choice(("train", "val", "test")), "must not be random"),
    (checks.split_of, sha, 'should be "train"'),
    (checks.split_of, lambda name: "train", "expected"),
    (checks.smoothed_target, lambda n, e: torch.eye(n), "nothing is spread"),
    (checks.smoothed_target, lambda n, e: torch.eye(n) * (1 - e) + (1 - torch.eye(n)) * e / (n - 1), "not e / .B - 1"),
    (checks.smoothed_target, lambda n, e: torch.eye(n) * (1 - e) + (1 - torch.eye(n)) * e / n, "add e / B to 1 - e"),
    (checks.smoothed_target, lambda n, e: torch.eye(n) + e / n, "sum to more than 1"),
    (checks.smoothed_target, lambda n, e: (1 - e) * torch.eye(n) + e, "divide it by the size"),
    (checks.smoothed_target, lambda n, e: torch.full((n, n), 1 / n), "nothing is left"),
    (checks.smoothed_target, lambda n, e: smoothed_target(n + 1, e), "should have shape"),
    (checks.rank_of, first_only, "only for the first right caption"),
    (checks.rank_of, lambda s, r: (s > s[r.nonzero()[0, 0]]).sum(), "first right caption: .* don't compete"),
    (checks.rank_of, lambda s, r: rank_of(s, r) + 1, "rank 0"),
    (checks.rank_of, lambda s, r: (s[~r] > s[r].min()).sum(), "worst right caption"),
    (checks.rank_of, lambda s, r: (s[~r] > s[r].max()).sum(), "ties count as won"),
    (checks.rank_of, lambda s, r: (s[~r] >= s[r].max()).sum(), "ties count as lost"),
    (checks.rank_of, lambda s, r: (s > s[r].max()).sum() + (s == s[r].max()).sum() / 2, "expected|rank 0|2.5"),
    (checks.rank_of, lambda s, r: (s > s[r].max()).sum() + ((s == s[r].max()).sum() - 1) / 2, "two right captions"),
    (checks.rank_of, lambda s, r: s, "one number"),
    (checks.rank_of, lambda s, r: "first", "one number"),
    (checks.rank_of, lambda s, r: 77, "got 77, expected 2"),
]


TestExercises = exercises(SOLUTIONS, WRONG)


def test_the_solutions_are_the_packages():
    image, text = (F.normalize(torch.randn(6, 8), dim=-1) for _ in range(2))
    logits, target = 5 * image @ text.T, smoothed_target(6, 0.1)
    by_hand = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(minclip.clip_loss(image, text, 5.0, label_smoothing=0.1), by_hand)
    texts, owner = F.normalize(torch.randn(30, 8), dim=-1), torch.arange(6).repeat_interleave(5)
    ranks = torch.tensor([rank_of(row, owner == i) for i, row in enumerate(image @ texts.T)])
    assert retrieval(image, texts, owner)["image_to_text_r@5"] == pytest.approx((ranks < 5).float().mean().item())


# ---- which data set


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """A data folder that `minclip fetch` has filled, as far as one can tell from outside."""
    monkeypatch.setenv("MINCLIP_DATA", str(tmp_path))
    monkeypatch.delenv("MINCLIP_COURSE_SHAPES", raising=False)
    for name in ("flickr8k", "flickr30k"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MARK).write_text("{}")
    return tmp_path


def test_photographs_are_taken_where_they_are(photographs, capsys):
    assert setup.dataset("flickr8k") == "flickr8k"
    assert str(photographs / "flickr8k") in capsys.readouterr().out


@pytest.mark.parametrize(("device", "taken"), [("cpu", "shapes"), ("cuda", "flickr30k")])
def test_flickr30k_wants_a_gpu(photographs, monkeypatch, capsys, device, taken):
    monkeypatch.setattr(setup, "pick_device", lambda *given: (torch.device(device), False))
    assert setup.dataset("flickr30k") == taken
    assert ("no GPU" in capsys.readouterr().out) == (device == "cpu")


def test_without_photographs_the_shapes_world_is_taken_and_it_says_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINCLIP_DATA", str(tmp_path))
    assert setup.dataset("flickr30k") == "shapes"
    told = capsys.readouterr().out
    assert "minclip fetch flickr30k" in told and "shapes world" in told and told.count("\n") == 1
    assert setup.dataset("shapes") == "shapes" and "as asked" in capsys.readouterr().out


def test_stored_outputs_never_come_from_photographs(photographs, monkeypatch):
    monkeypatch.setenv("MINCLIP_COURSE_SHAPES", "1")
    assert setup.dataset("flickr8k") == "shapes"


def test_a_mistyped_data_set_is_told_the_nearest():
    with pytest.raises(minclip.MinclipError, match="did you mean 'flickr30k'"):
        setup.dataset("flicker30k")


# ---- pictures


def images(count):
    return np.random.default_rng(0).integers(0, 255, (count, 3, 8, 8), dtype=np.uint8)


def test_texts_stand_beside_their_images_and_right_ones_are_ticked():
    axes = plots.with_texts(images(2), [["one", "two"], ["three", "$four"]], right=[[False, True], [True, False]]).axes
    told = [[text.get_text() for text in axis.texts] for axis in axes[1::2]]
    assert told == [["–  one", "✓  two"], ["✓  three", "–  $four"]]
    assert [text.get_text() for text in plots.with_texts(images(1), [["one"]]).axes[1].texts] == ["one"]


def test_every_caption_is_counted_in_the_histogram():
    left, right = plots.lengths_and_words([2, 3, 3, 7], [("a", 9), ("dog", 4)]).axes
    assert [patch.get_height() for patch in left.patches] == [1, 2, 0, 0, 0, 1]
    assert [patch.get_height() for patch in right.patches] == [9, 4]
    assert [label.get_text() for label in right.get_xticklabels()] == ["a", "dog"]


def test_a_strip_has_a_cell_for_each_image_of_a_split():
    axis = plots.split_strips({"before": ["train", "val", ""], "after": ["train", "train", "test"]}).axes[0]
    assert [len(bars.get_paths()) for bars in axis.collections] == [1, 1, 0, 2, 0, 1]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["before", "after"]


def test_singular_values_are_shares_of_the_largest():
    left, right = plots.singular_values([4.0, 1.0], torch.tensor([1.0, 0.5])).axes
    assert [[patch.get_height() for patch in axis.patches] for axis in (left, right)] == [[1, 0.25], [1, 0.5]]


def test_a_band_is_one_standard_deviation_of_the_seeds_around_their_mean():
    axis = plots.band([1, 2], {"recall": np.array([[0.1, 0.2], [0.3, 0.2]])}, chance=0.05).axes[0]
    assert axis.lines[0].get_ydata().tolist() == pytest.approx([20, 20])
    edges = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert edges.min() == pytest.approx(20 - 2**0.5 * 10) and edges.max() == pytest.approx(20 + 2**0.5 * 10)
    assert axis.lines[1].get_ydata()[0] == 5


def test_what_was_found_stands_beside_its_query_and_its_own_image_is_framed():
    figure = plots.retrieved(["a $1 dog", "a cat"], [images(3), images(3)], right=[[0, 1, 0], [0, 0, 0]])
    labels = [axis.get_xlabel() for axis in figure.axes]
    assert labels.count("its image") == 1 and labels[2] == "its image"
    assert figure.axes[0].texts[0].get_text() == "a $1 dog" and sum(bool(axis.images) for axis in figure.axes) == 6


def test_the_best_of_the_right_scores_has_the_thick_frame():
    scores, right = torch.tensor([[0.9, 0.1, 0.4], [0.2, 0.3, 0.1]]), torch.tensor([[0, 1, 1], [1, 0, 0]]).bool()
    axis = plots.five_each(scores, right).axes[0]
    frames = [(round(p.get_x() + 0.46), round(p.get_y() + 0.46), p.get_linewidth()) for p in axis.patches]
    assert frames == [(1, 0, 1), (2, 0, 4), (0, 1, 4)]
    assert [text.get_text() for text in axis.texts][:3] == ["0.90", "0.10", "0.40"]

"""Recalls and median ranks equal a count by hand and clip_benchmark's, whatever the number of captions an image."""

import statistics

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from minclip import retrieval
from minclip.config import MinclipError


def vectors(n, d, rng):
    # small integers: sums are exact in every order, and ties are frequent
    return torch.from_numpy(rng.integers(-2, 3, (n, d)).astype(np.float32))


def by_hand(image, text, owner, ks):
    """The definition, one query at a time: wrong ones that are not below count 1, those that tie count one half."""
    with np.errstate(invalid="ignore"):
        scores = image.numpy() @ text.numpy().T  # (N, M)

    def rank(row, right):
        best = np.max([row[j] for j in right])  # not a number, where one of them isn't
        wrong = [row[j] for j in range(len(row)) if j not in right]
        return sum(not w < best for w in wrong) - sum(w == best for w in wrong) / 2

    text_ranks = [rank(scores[:, j], {owner[j]}) for j in range(len(text))]
    image_ranks = [
        rank(scores[i], right) for i in range(len(image)) if (right := {j for j in range(len(text)) if owner[j] == i})
    ]
    ways = {"text_to_image": text_ranks, "image_to_text": image_ranks}
    found = {f"{way}_r@{k}": sum(r < k for r in ranks) / len(ranks) for way, ranks in ways.items() for k in ks}
    medians = {f"{way}_median_rank": statistics.median(ranks) + 1 for way, ranks in ways.items()}
    return {**found, **medians, "mean_recall": statistics.mean(found.values())}


def recalls(figures):
    return {name: value for name, value in figures.items() if "_r@" in name}


@given(
    st.integers(1, 12),
    st.integers(1, 30),
    st.integers(1, 4),
    st.integers(1, 13),
    st.sampled_from(["none", "image", "text"]),
    st.integers(0, 2**31),
)
@settings(max_examples=200, deadline=None)
def test_retrieval_is_the_count_by_hand(n, m, d, block, diverged, seed):
    rng = np.random.default_rng(seed)
    image, text, owner = vectors(n, d, rng), vectors(m, d, rng), rng.integers(0, n, m)
    if diverged != "none":  # some vectors are not numbers, or infinite
        some = {"image": image, "text": text}[diverged]
        some[rng.integers(0, len(some), 2), 0] = torch.tensor([float("nan"), float("inf")])
    got = retrieval(image, text, owner, ks=(1, 2, 5), block=block)
    assert got == pytest.approx(by_hand(image, text, owner, (1, 2, 5)))


@pytest.mark.parametrize("n, block", [(37, 16), (100, 512), (130, 64), (513, 512), (65, 64)])
def test_equal_vectors_tie_whatever_block_they_are_in(n, block):
    # sums of 200 products round otherwise in another order; last blocks are narrower, and a single row is a vector
    generator = torch.Generator().manual_seed(n)
    one = F.normalize(torch.randn(1, 200, generator=generator), dim=1)
    many = F.normalize(torch.randn(n, 200, generator=generator), dim=1)
    texts_tie = retrieval(many, one.expand(n, -1), np.arange(n), block=block)
    assert texts_tie["image_to_text_median_rank"] == 1 + (n - 1) / 2
    images_tie = retrieval(one.expand(n, -1), many, np.arange(n), block=block)
    assert images_tie["text_to_image_median_rank"] == 1 + (n - 1) / 2


@pytest.mark.parametrize("scrambled", [False, True], ids=["in order", "scrambled"])
def test_a_rank_does_not_suffer_from_rounding(scrambled):
    # each caption is its image's own vector, twice: nothing wrong comes near, and its twin stands beside it
    image = F.normalize(torch.randn(300, 256, generator=torch.Generator().manual_seed(0)), dim=1)
    owner = torch.arange(300).repeat_interleave(2)
    owner = owner[torch.randperm(600, generator=torch.Generator().manual_seed(1))] if scrambled else owner
    got = retrieval(image, image[owner], owner, ks=(1,), block=64)
    assert set(got.values()) == {1.0}


class Features:
    """A model whose features are there already: what clip_benchmark asks of one."""

    def __init__(self, image, text):
        self.image, self.text = image, text

    def encode_image(self, rows):
        return self.image[rows]

    def encode_text(self, rows):
        return self.text[rows]


@pytest.mark.parametrize("n, captions", [(60, 5), (33, 1)])
def test_retrieval_equals_clip_benchmark(n, captions):
    peer = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval")
    generator = torch.Generator().manual_seed(n)
    image = torch.randn(n, 32, generator=generator)
    text = 2 * torch.randn(n * captions, 32, generator=generator) + image.repeat_interleave(captions, 0)
    batches = [
        (rows, [list(range(captions * i, captions * (i + 1))) for i in rows.tolist()])
        for rows in torch.arange(n).split(16)
    ]
    theirs = peer.evaluate(Features(image, text), batches, torch.tensor, "cpu", amp=False, recall_k_list=[1, 5, 10])
    ours = retrieval(F.normalize(image, dim=1), F.normalize(text, dim=1), np.repeat(np.arange(n), captions), block=17)
    names = {"text_to_image": "image_retrieval", "image_to_text": "text_retrieval"}
    assert 0.1 < theirs["image_retrieval_recall@1"] < 0.9
    for name, value in recalls(ours).items():
        way, k = name.split("_r@")
        assert value == pytest.approx(theirs[f"{names[way]}_recall@{k}"], abs=1e-6)


def test_median_rank_and_mean_recall_by_hand():
    scores = torch.tensor([[9, 8, 7, 6.5], [5, 6, 4, 6], [3, 2, 8, 7], [1, 9, 0, 6.2]])  # (texts, images)
    got = retrieval(torch.eye(4), scores, np.arange(4), ks=(1, 2))
    assert got["text_to_image_median_rank"] == 1.25  # of 1, 1½ (a tie), 1 and 2
    assert got["image_to_text_median_rank"] == 2  # of 1, 3, 1 and 3
    assert got["mean_recall"] == (3 / 4 + 4 / 4 + 2 / 4 + 2 / 4) / 4


@pytest.mark.parametrize("block", [1, 7, 100])
def test_block_size_changes_nothing(block):
    rng = np.random.default_rng(0)
    image, text, owner = vectors(30, 8, rng), vectors(100, 8, rng), rng.integers(0, 30, 100)
    assert retrieval(image, text, owner, block=block) == retrieval(image, text, owner)


def test_the_owner_may_be_an_array_or_a_tensor():
    rng = np.random.default_rng(0)
    image, text, owner = vectors(6, 4, rng), vectors(9, 4, rng), rng.integers(0, 6, 9)
    assert retrieval(image, text, owner) == retrieval(image, text, torch.from_numpy(owner))


def test_names_say_the_way_and_k():
    assert set(retrieval(torch.eye(3), torch.eye(3), np.arange(3), ks=(1, 7))) == {
        "text_to_image_r@1",
        "text_to_image_r@7",
        "image_to_text_r@1",
        "image_to_text_r@7",
        "text_to_image_median_rank",
        "image_to_text_median_rank",
        "mean_recall",
    }


def test_a_perfect_model_gets_1():
    image = torch.eye(20)
    assert set(retrieval(image, image.repeat_interleave(5, 0), np.repeat(np.arange(20), 5)).values()) == {1.0}


def test_the_worst_model_gets_0():
    image = torch.eye(20)
    got = retrieval(image, -image, np.arange(20))
    assert set(recalls(got).values()) == {got["mean_recall"]} == {0.0}
    assert got["text_to_image_median_rank"] == got["image_to_text_median_rank"] == 20


@pytest.mark.parametrize("which", range(5))
def test_any_of_five_captions_counts(which):
    # only caption number `which` of each image is near it
    image = torch.eye(8)
    text = torch.full((8, 5, 8), -1.0)
    text[:, which] = torch.eye(8)
    assert retrieval(image, text.view(40, 8), np.repeat(np.arange(8), 5))["image_to_text_r@1"] == 1.0


def test_right_captions_do_not_push_each_other_down():
    # five right captions lie before every wrong one: the first of them is what counts, and none stands in the way
    image, text = torch.eye(3), torch.eye(3).repeat_interleave(5, 0) * torch.linspace(1, 0.5, 5).repeat(3)[:, None]
    assert retrieval(image, text, np.repeat(np.arange(3), 5), ks=(1,))["image_to_text_r@1"] == 1.0


def test_every_caption_is_asked_for_its_image():
    image = torch.eye(4)
    text = torch.eye(4).repeat_interleave(5, 0)
    text[1::5] *= -1  # one of five finds another image first
    assert retrieval(image, text, np.repeat(np.arange(4), 5), ks=(1,))["text_to_image_r@1"] == pytest.approx(0.8)


def test_captions_need_not_be_in_order():
    order = np.random.default_rng(0).permutation(10)
    assert set(retrieval(torch.eye(10), torch.eye(10)[order], order).values()) == {1.0}


@pytest.mark.parametrize("n, captions", [(1000, 5), (100, 1), (40, 5)])
def test_a_collapsed_model_gets_no_more_than_chance(n, captions):
    one = torch.nn.functional.normalize(torch.ones(1, 16), dim=1)
    got = retrieval(one.expand(n, 16), one.expand(n * captions, 16), np.repeat(np.arange(n), captions))
    assert all(value <= int(name.split("@")[1]) / n for name, value in recalls(got).items())
    assert got["text_to_image_median_rank"] == (n + 1) / 2


def test_a_random_model_gets_chance():
    rng = np.random.default_rng(0)
    image, text = (torch.from_numpy(rng.normal(size=(n, 16)).astype(np.float32)) for n in (400, 2000))
    got = retrieval(image, text, np.repeat(np.arange(400), 5))
    assert got["text_to_image_r@10"] == pytest.approx(10 / 400, abs=0.01)
    assert got["image_to_text_r@10"] == pytest.approx(10 / 400, abs=0.02)


@pytest.mark.parametrize("which", ["image", "text", "both"])
def test_a_model_that_diverged_gets_0(which):
    nan = torch.full((10, 4), float("nan"))
    image, text = (nan if which in (name, "both") else torch.randn(10, 4) for name in ("image", "text"))
    got = retrieval(image, text, np.arange(10), ks=(1, 5))
    assert set(recalls(got).values()) == {0.0}
    assert got["text_to_image_median_rank"] == got["image_to_text_median_rank"] == 10


def test_an_image_without_captions_is_not_asked():
    assert retrieval(torch.eye(3), torch.eye(3)[:2], np.array([0, 1]))["image_to_text_r@1"] == 1.0


def test_a_caption_of_wrong_images_pushes_down():
    # two wrong images are nearer than the right one: rank 2, found among three, not among two
    image, text = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0]])
    assert retrieval(image, text, np.array([0]), ks=(1, 2, 3)) == {
        "text_to_image_median_rank": 3.0,
        "image_to_text_median_rank": 1.0,
        "mean_recall": 4 / 6,
        "text_to_image_r@1": 0.0,
        "text_to_image_r@2": 0.0,
        "text_to_image_r@3": 1.0,
        "image_to_text_r@1": 1.0,
        "image_to_text_r@2": 1.0,
        "image_to_text_r@3": 1.0,
    }


X = torch.eye(3)
MISFITS = {
    "fewer owners": (X, X, np.arange(2), r"\(2,\)"),
    "no texts": (X, X[:0], np.zeros(0, dtype=np.int64), r"\(0, 3\)"),
    "other widths": (X, torch.eye(4)[:3], np.arange(3), r"\(3, 3\).*\(3, 4\)"),
    "one vector": (X, X[0], np.arange(3), r"\(3,\)"),
    "a stack": (X[None], X[None], np.arange(1), r"\(1, 3, 3\)"),
    "integers": (X.long(), X.long(), np.arange(3), "int64"),
    "two precisions": (X, X.half(), np.arange(3), "float32.*float16"),
    "owners that are fractions": (X, X, np.arange(3) + 0.5, "float64"),
    "owners in pairs": (X, X, np.arange(6).reshape(3, 2), r"\(3, 2\)"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_together_is_an_error(case):
    *arguments, facts = MISFITS[case]
    with pytest.raises(MinclipError, match=facts):
        retrieval(*arguments)


def test_arrays_do_as_well():
    assert retrieval(np.eye(3), np.eye(3), [0, 1, 2], ks=np.array([1, 2])) == retrieval(X, X, np.arange(3), ks=(1, 2))


@pytest.mark.parametrize("owner", [[0, 1, 3], [-1, 0, 1]])
def test_owners_that_are_no_images_are_an_error(owner):
    with pytest.raises(MinclipError, match=rf"images {min(owner)} to {max(owner)}, but there are 3"):
        retrieval(torch.eye(3), torch.eye(3), np.array(owner))


@pytest.mark.parametrize(
    "more", [{"ks": ()}, {"ks": (0, 1)}, {"ks": (1.5,)}, {"ks": (1.0,)}, {"ks": "5"}, {"block": 0}], ids=str
)
def test_ks_and_blocks_are_whole_numbers_from_1(more):
    with pytest.raises(MinclipError, match="at least 1"):
        retrieval(X, X, np.arange(3), **more)

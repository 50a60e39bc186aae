"""Batches: every image once, one caption each, the same from the same seed; crops and flips that keep captions true."""

import threading
import time
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minclip import batches as module
from minclip.batches import ahead, augment, batches, normalize, recolor, resident, shrink, tokenize
from minclip.config import DataConfig, MinclipError, VisionConfig
from minclip.data import Pairs
from minclip.tokenizer import Tokenizer

VISION = VisionConfig(
    image_size=8, patch_size=4, width=8, layers=1, heads=1, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.1)
)
TOKENIZER = Tokenizer([])
PLAIN = DataConfig(image_size=8)


def pairs_of(n=11, counts=None):
    """Image i is of colour i everywhere; caption j of image i says so, each of another length."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 3, 8, 8)).copy()
    counts = counts or [1 + i % 5 for i in range(n)]
    captions = [[f"{chr(97 + i)}" * (j + 1) for j in range(counts[i])] for i in range(n)]
    return Pairs(images, captions, [str(i) for i in range(n)])


def noise(n):
    """Pictures that look different after every crop and flip."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)
    return Pairs(pixels, pairs_of(n).captions, pairs_of(n).names)


def run(pairs, batch_size=4, epoch=0, seed=0, data=PLAIN, start=0):
    return list(batches(pairs, tokenize(pairs, TOKENIZER, 32), batch_size, epoch, seed, data, VISION, start=start))


def text(batch, row):
    return TOKENIZER.decode(i for i in batch.ids[row].tolist() if i != TOKENIZER.pad_id)


def same(a, b):
    return torch.equal(a.images, b.images) and torch.equal(a.ids, b.ids) and torch.equal(a.index, b.index)


# ---- one epoch


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_an_epoch_shows_no_image_twice(n, batch_size, epoch, seed):
    if batch_size > n:
        return
    shown = torch.cat([b.index for b in run(pairs_of(n), batch_size, epoch, seed)]).tolist()
    assert len(shown) == len(set(shown)) == n // batch_size * batch_size and set(shown) <= set(range(n))


def test_all_images_are_shown_where_the_batch_size_divides_their_number():
    shown = torch.cat([b.index for b in run(pairs_of(12), 4)]).tolist()
    assert sorted(shown) == list(range(12))


def test_images_captions_and_numbers_belong_together():
    for batch in run(pairs_of(11), 3):
        for row, i in enumerate(batch.index.tolist()):
            value = batch.images[row] * torch.tensor(VISION.std).view(3, 1, 1) + torch.tensor(VISION.mean).view(3, 1, 1)
            assert torch.allclose(value * 255, torch.full((3, 8, 8), float(i)), atol=1e-3)
            assert set(text(batch, row)) == {chr(97 + i)}


def test_left_over_images_come_in_another_epoch():
    shown = {i for epoch in range(8) for b in run(pairs_of(11), 4, epoch) for i in b.index.tolist()}
    assert shown == set(range(11))


def test_all_captions_are_drawn_over_the_epochs_and_about_equally_often():
    seen = Counter(
        text(b, r) for epoch in range(200) for b in run(pairs_of(4, [5, 1, 2, 5]), 4, epoch) for r in range(4)
    )
    assert len(seen) == 13 and seen["b"] == 200
    assert min(seen["a" * j] for j in range(1, 6)) > 20 and max(seen["d" * j] for j in range(1, 6)) < 65


def test_same_seed_and_epoch_give_the_same_batches():
    data = DataConfig(image_size=8, min_crop=0.3, flip=True)
    assert all(same(a, b) for a, b in zip(run(noise(11), data=data), run(noise(11), data=data)))


@pytest.mark.parametrize("other", [{"seed": 1}, {"epoch": 1}])
def test_another_seed_or_epoch_gives_another_order(other):
    a, b = run(pairs_of(24), 8), run(pairs_of(24), 8, **other)
    assert [x.index.tolist() for x in a] != [x.index.tolist() for x in b]


def test_another_epoch_crops_otherwise():
    pairs = Pairs(np.arange(192, dtype=np.uint8).reshape(1, 3, 8, 8), [["a"]], ["a"])
    data = DataConfig(image_size=8, min_crop=0.3)
    assert not torch.equal(run(pairs, 1, 0, data=data)[0].images, run(pairs, 1, 1, data=data)[0].images)


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_start_continues_as_if_never_interrupted(start):
    data = DataConfig(image_size=8, min_crop=0.3, flip=True)
    whole, rest = run(noise(13), 4, data=data), run(noise(13), 4, data=data, start=start)
    assert len(rest) == 3 - start and all(same(a, b) for a, b in zip(whole[start:], rest))


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    run(pairs_of(), data=DataConfig(image_size=8, min_crop=0.3, flip=True))
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()


def test_a_batch_larger_than_the_data_is_an_error_that_names_the_field():
    with pytest.raises(MinclipError, match=r"a batch of 12 is larger than the data set of 11 images.*batch_size"):
        run(pairs_of(11), 12)


def test_a_batch_as_large_as_the_data_is_one_batch():
    assert len(run(pairs_of(11), 11)) == 1


def test_images_in_a_memory_map_are_not_changed(tmp_path):
    pairs = pairs_of(6)
    np.save(tmp_path / "x.npy", pairs.images)
    mapped = Pairs(np.load(tmp_path / "x.npy", mmap_mode="r"), pairs.captions, pairs.names)
    assert same(run(mapped)[0], run(pairs)[0]) and (mapped.images == pairs.images).all()


# ---- ids


def test_ids_are_trimmed_to_the_longest_caption_and_keep_eot():
    for batch in run(pairs_of(20), 4):
        length = max(len(TOKENIZER.encode(text(batch, r))) for r in range(4)) + 2
        assert batch.ids.shape == (4, length) and ((batch.ids == TOKENIZER.eot_id).sum(dim=1) == 1).all()


def test_tokenize_counts_the_captions_of_each_image():
    captions = tokenize(pairs_of(6, [2, 1, 5, 1, 3, 1]), TOKENIZER, 32)
    assert captions.first.tolist() == [0, 2, 3, 8, 9, 12, 13] and captions.ids.shape == (13, 32)


# ---- left and right

SIDED = [
    "a dog on the left",
    "Left of a tree",
    "LEFT-HAND side",
    "the right-hand door",
    "the rightmost man",
    "leftmost",
]
SIDED += [
    "a lefthanded man",
    "the righthand door",
    "rightside up",
    "he looks rightward",
    "turning leftwards",
    "'right'",
    "a right.",
    "an upper-left corner",
    "left/right",
]
UNSIDED = ["a bright day", "brightly lit", "leftovers on a plate", "leftover food", "upright bass", "a frightened cat"]
UNSIDED += ["rights of man", "the copyright", "cleft", "a dog", "righteous anger", "an aright"]


@pytest.mark.parametrize("caption", SIDED)
def test_caption_that_says_a_side_is_sided(caption):
    assert sided(caption)


@pytest.mark.parametrize("caption", UNSIDED)
def test_caption_that_only_looks_like_it_is_not_sided(caption):
    assert not sided(caption)


def sided(caption):
    return tokenize(Pairs(np.zeros((1, 3, 8, 8), np.uint8), [[caption]], ["a"]), TOKENIZER, 32).sided.tolist() == [True]


RAMP = np.broadcast_to(np.arange(8, dtype=np.uint8) * 10, (3, 8, 8))


def shown_mirrored(captions, data, epochs=40):
    """For each epoch: the drawn caption, and whether its image (bright on the right) was mirrored."""
    pairs = Pairs(RAMP[None].copy(), [captions], ["a"])
    for epoch in range(epochs):
        (batch,) = run(pairs, 1, epoch, data=data)
        yield text(batch, 0), bool(batch.images[0, 0, 0, 0] > batch.images[0, 0, 0, -1])


@pytest.mark.parametrize("min_crop", [1.0, 0.5])
def test_half_of_the_images_are_mirrored_but_never_under_a_caption_that_says_a_side(min_crop):
    data = DataConfig(image_size=8, flip=True, min_crop=min_crop)
    seen = Counter(shown_mirrored(["a star", "a star on the left"], data, 120))
    assert seen["a star on the left", True] == 0 and seen["a star on the left", False] > 30
    assert seen["a star", True] > 15 and seen["a star", False] > 15


def test_nothing_is_mirrored_without_flip():
    assert not any(mirrored for _, mirrored in shown_mirrored(["a star"], DataConfig(image_size=8, min_crop=0.5)))


# ---- augment

images_st = st.integers(0, 2**31).map(
    lambda seed: torch.randint(0, 256, (5, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
)


def augmented(images, min_crop, flip=False, seed=0):
    may_flip = torch.full((len(images),), flip)
    return augment(
        images, min_crop, may_flip, torch.rand(5, len(images), generator=torch.Generator().manual_seed(seed))
    )


@pytest.fixture(params=["whole batch", "whole pixels"])
def way(request, monkeypatch):
    """As on a GPU, with boxes between the pixels, and as on a CPU."""
    if request.param == "whole batch":
        monkeypatch.setattr(module, "_crop_pixels", module._crop)
    return request.param


@given(images_st, st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_without_crop_and_flip_images_stay_as_they_are(images, seed):
    assert torch.equal(augmented(images, 1, seed=seed), images.float())


@given(images_st, st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_mirroring_is_exact(images, seed):
    x, y = images.float(), augmented(images, 1, flip=True, seed=seed)
    assert all(torch.equal(b, a) or torch.equal(b, a.flip(-1)) for a, b in zip(x, y))


def test_half_are_mirrored():
    images = torch.from_numpy(np.repeat(RAMP[None], 1000, axis=0))
    assert 430 < int((augmented(images, 1, flip=True)[:, 0, 0, 0] == 70).sum()) < 570


def test_a_mirrored_crop_is_the_mirror_of_the_crop(way):
    images = torch.randint(0, 256, (50, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plain, flipped = augmented(images, 0.4), augmented(images, 0.4, flip=True)
    same_way = [torch.allclose(a, b, atol=1e-2) for a, b in zip(plain, flipped)]
    mirrored = [torch.allclose(a.flip(-1), b, atol=1e-2) for a, b in zip(plain, flipped)]
    assert all(a != b for a, b in zip(same_way, mirrored)) and any(mirrored) and any(same_way)


def boxes(min_crop, n=2000, size=48):
    """The boxes (left, top, width, height as shares of the picture) of n crops, read off pictures of coordinates."""
    axis = torch.arange(size) * 5  # so that rounding to bytes matters little
    picture = torch.stack([axis.expand(size, size), axis[:, None].expand(size, size), torch.zeros(size, size)])
    x = augmented(picture.to(torch.uint8).expand(n, 3, size, size), min_crop) / 5
    # away from the edges a linear picture stays linear; a step from pixel to pixel is the box's side over the picture's
    a, b = 4, size - 5
    width = (x[:, 0, a, b] - x[:, 0, a, a]) / (b - a)
    height = (x[:, 1, b, a] - x[:, 1, a, a]) / (b - a)
    # the sample `a` lies (a + 0.5) steps from the box's edge; pixel k is centred on k + 0.5
    left = (x[:, 0, a, a] + 0.5 - (a + 0.5) * width) / size
    top = (x[:, 1, a, a] + 0.5 - (a + 0.5) * height) / size
    return left, top, width, height


def slack(way, exact):
    """How far a side may be off: half a pixel where boxes are made of whole ones, and what reading it off bytes loses."""
    return exact if way == "whole batch" else 0.5 / 48 + 5e-3


crops = pytest.mark.parametrize("min_crop", [0.08, 0.5, 0.75, 0.9, 0.99])


@crops
def test_crops_lie_inside_the_picture(min_crop, way):
    left, top, width, height = boxes(min_crop)
    eps = slack(way, 1e-3)
    assert min(left.min(), top.min()) > -eps and max((left + width).max(), (top + height).max()) < 1 + eps


@crops
def test_crops_keep_min_crop_to_all_of_the_area(min_crop, way):
    _, _, width, height = boxes(min_crop)
    eps = slack(way, 1e-3)
    assert ((width + eps) * (height + eps)).min() > min_crop and ((width - eps) * (height - eps)).max() < 1


@crops
def test_sides_of_crops_are_between_3_to_4_and_4_to_3(min_crop, way):
    _, _, width, height = boxes(min_crop)
    eps = slack(way, 1e-3)
    assert ((width + eps) / (height - eps)).min() > 3 / 4 and ((width - eps) / (height + eps)).max() < 4 / 3


def test_areas_are_spread_evenly_and_boxes_over_the_whole_picture(way):
    left, top, width, height = boxes(0.2)
    assert float((width * height).mean()) == pytest.approx(0.6, abs=0.02)
    for offset, side in ((left, width), (top, height)):
        share = (offset / (1 - side))[side < 0.9]
        assert float(share.mean()) == pytest.approx(0.5, abs=0.03) and share.min() < 0.02 and share.max() > 0.98


def test_wide_and_high_crops_are_equally_likely(way):
    _, _, width, height = boxes(0.2)
    assert float((width > height + 1e-2).float().mean()) == pytest.approx(0.48, abs=0.04)
    assert float((width < height - 1e-2).float().mean()) == pytest.approx(0.48, abs=0.04)


def test_each_image_of_a_batch_has_a_box_of_its_own(way):
    left, top, width, height = boxes(0.3, n=100)
    assert len(torch.stack([left, top, width, height]).round(decimals=2).unique(dim=1).T) > 80


def test_boxes_of_whole_pixels_are_the_others_rounded(monkeypatch):
    pixels = boxes(0.2, 500)
    monkeypatch.setattr(module, "_crop_pixels", module._crop)
    for ours, between in zip(pixels, boxes(0.2, 500)):
        assert (ours - between).abs().max() < 1.5 / 48 and (ours - between).mean().abs() < 3e-3


@pytest.mark.parametrize("threads", [1, 3, 16])
def test_crops_do_not_depend_on_the_number_of_threads(threads, monkeypatch):
    images = torch.randint(0, 256, (10, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    expected = augmented(images, 0.3)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert torch.equal(augmented(images, 0.3), expected)


@pytest.mark.parametrize("min_crop", [0.3, 1])
def test_channels_last_images_become_the_same(min_crop):
    images = torch.randint(0, 256, (20, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    last = images.contiguous(memory_format=torch.channels_last)
    assert (augmented(images, min_crop, flip=True) - augmented(last, min_crop, flip=True)).abs().max() <= 1


@given(images_st, st.floats(0.05, 1), st.booleans(), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_values_stay_between_the_smallest_and_largest_of_their_image(images, min_crop, flip, seed):
    x, y = images.float(), augmented(images, min_crop, flip, seed)
    assert y.shape == x.shape and y.dtype == torch.float32
    assert (y.amin((1, 2, 3)) >= x.amin((1, 2, 3)) - 1e-2).all() and (
        y.amax((1, 2, 3)) <= x.amax((1, 2, 3)) + 1e-2
    ).all()


def test_an_even_image_stays_even_to_the_edge():
    even = torch.full((20, 3, 12, 12), 200, dtype=torch.uint8)
    assert torch.allclose(augmented(even, 0.1, flip=True), even.float(), atol=1e-3)


# ---- normalize


def test_normalize_is_the_formula():
    x = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    mean, std = np.array(VISION.mean)[:, None, None], np.array(VISION.std)[:, None, None]
    np.testing.assert_allclose(normalize(x, VISION), (x.numpy() / 255 - mean) / std, atol=1e-5)


def test_normalize_leaves_its_images_as_they_are():
    x = torch.rand(2, 3, 8, 8)
    before = x.clone()
    normalize(x, VISION)
    assert torch.equal(x, before)


# ---- several processes, and what is fetched ahead


@pytest.mark.parametrize("processes", [2, 4])
def test_the_shares_of_a_batch_are_the_batch(processes):
    pairs = noise(16)
    captions = tokenize(pairs, TOKENIZER, 32)
    given = (pairs, captions, 8, 0, 3, DataConfig(image_size=8, min_crop=0.5, flip=True), VISION)
    whole = list(batches(*given))
    parts = [list(batches(*given, share=(rank, processes))) for rank in range(processes)]
    for number, batch in enumerate(whole):
        of_all = [part[number] for part in parts]
        assert torch.equal(torch.cat([part.index for part in of_all]), batch.index)
        torch.testing.assert_close(torch.cat([part.images for part in of_all]), batch.images)
        for part, rows in zip(of_all, batch.ids.split(8 // processes)):  # each trimmed to its own longest caption
            assert torch.equal(part.ids, rows[:, : part.ids.shape[1]])
            assert (rows[:, part.ids.shape[1] :] == TOKENIZER.pad_id).all()


def test_what_is_made_ahead_is_the_same_and_made_before_it_is_asked_for():
    made = []

    def count():
        for i in range(10):
            made.append(i)
            yield i

    items = ahead(count(), 2)
    assert next(items) == 0
    deadline = time.monotonic() + 10
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert 3 <= len(made) <= 5
    assert list(items) == list(range(1, 10))


def test_an_error_while_fetching_ahead_is_raised_where_it_is_asked_for():
    def broken():
        yield 1
        raise MinclipError("the disk is gone")

    items = ahead(broken())
    assert next(items) == 1
    with pytest.raises(MinclipError, match="the disk is gone"):
        next(items)


def test_nobody_goes_on_fetching_after_the_end():
    before = threading.active_count()
    items = ahead(iter(range(1000)))
    next(items)
    items.close()
    assert threading.active_count() == before


def test_on_a_cpu_the_images_stay_where_they_are():
    images = np.zeros((2, 3, 4, 4), np.uint8)
    assert resident(images, torch.device("cpu")) is images


# ---- colour and size


def pictures(n=3):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 100 + 70


def test_the_middle_of_the_luck_changes_no_colour():
    torch.testing.assert_close(recolor(pictures(), 0.4, torch.full((3, 3), 0.5)), pictures())


def test_brightness_contrast_and_saturation_are_torchvisions_one_by_one():
    from torchvision.transforms.v2 import functional as theirs

    x = pictures(1)
    luck = torch.full((3, 1), 0.5)
    for row in range(3):
        low = luck.clone()
        low[row] = 0.0  # 1 - most
        ours = recolor(x, 0.4, low)
        if row == 0:
            expected = theirs.adjust_brightness(x / 255, 0.6) * 255
        elif row == 1:  # theirs goes to the mean of its grey, which weighs green more
            expected = x.mean() + 0.6 * (x - x.mean())
        else:
            expected = x.mean(dim=1, keepdim=True) + 0.6 * (x - x.mean(dim=1, keepdim=True))
        torch.testing.assert_close(ours, expected)


def test_without_saturation_a_picture_is_grey_and_without_contrast_of_one_colour():
    x = pictures(1)
    grey = recolor(x, 1.0, torch.tensor([[0.5], [0.5], [0.0]]))
    torch.testing.assert_close(grey, x.mean(dim=1, keepdim=True).expand_as(x))
    flat = recolor(x, 1.0, torch.tensor([[0.5], [0.0], [0.5]]))
    torch.testing.assert_close(flat, x.mean().expand_as(x))


def test_colours_stay_between_0_and_255():
    x = torch.tensor([0.0, 255.0]).repeat(96).view(1, 3, 8, 8)
    y = recolor(x, 1.0, torch.full((3, 1), 0.999))
    assert y.min() == 0 and y.max() == 255


def test_each_picture_has_a_colour_of_its_own():
    x = pictures(1).expand(2, -1, -1, -1)
    y = recolor(x, 0.4, torch.tensor([[0.1, 0.9]]).expand(3, 2))
    assert y[0].mean() < x[0].mean() < y[1].mean()


def test_shrinking_is_an_anti_aliased_mean_and_leaves_the_right_size_alone():
    x = pictures()
    assert shrink(x, 8) is x
    small = shrink(x, 4)
    assert small.shape == (3, 3, 4, 4)
    torch.testing.assert_close(small.mean(), x.mean(), rtol=0.01, atol=0)
    checks = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(16, 16)[None, None].expand(1, 3, 32, 32)
    assert (shrink(checks, 8)[..., 1:-1, 1:-1] - 0.5).abs().max() < 0.01  # every second pixel would give 0 or 1

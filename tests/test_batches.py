"""Batches: every image once, one caption each, the same from the same seed; crops and flips that keep captions true."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minclip.batches import Pairs, Task, assemble, augment, normalize, random_numbers, raw_batches, recolor, tokenize
from minclip.config import DataConfig, MinclipError, VisionConfig
from minclip.tokenizer import Tokenizer

VISION = VisionConfig(
    image_size=8, patch_size=4, width=8, layers=1, heads=1, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.1)
)
TOKENIZER = Tokenizer([])
PLAIN = DataConfig(image_size=8)


def pairs_of(n=11, counts=None):
    """Image i is of color i everywhere; caption j of image i says so, each of another length."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 3, 8, 8)).copy()
    counts = counts or [1 + i % 5 for i in range(n)]
    captions = [[f"{chr(97 + i)}" * (j + 1) for j in range(counts[i])] for i in range(n)]
    return Pairs(images, captions, [str(i) for i in range(n)])


def noise(n):
    """Pictures that look different after every crop and flip."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, 3, 8, 8), dtype=np.uint8)
    return Pairs(pixels, pairs_of(n).captions, pairs_of(n).names)


def raw(pairs, batch_size=4, epoch=0, seed=0, **options):
    captions = tokenize(pairs, TOKENIZER, 32)
    return list(raw_batches(pairs, captions, batch_size=batch_size, epoch=epoch, seed=seed, **options))


def run(pairs, batch_size=4, epoch=0, seed=0, data=PLAIN, **options):
    return [assemble(batch, data, VISION) for batch in raw(pairs, batch_size, epoch, seed, **options)]


def shown(batches):
    """The numbers of the images of `pairs_of`, read off their pixels."""
    mean, std = VISION.mean[0], VISION.std[0]
    return [round(float(255 * (x * std + mean))) for batch in batches for x in batch.images[:, 0, 0, 0]]


def text(batch, row):
    return TOKENIZER.decode(i for i in batch.ids[row].tolist() if i != TOKENIZER.pad_id)


def same(a, b):
    return torch.equal(a.images, b.images) and torch.equal(a.ids, b.ids)


# ---- one epoch


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 5), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_an_epoch_shows_no_image_twice(n, batch_size, epoch, seed):
    if batch_size > n:
        return
    seen = shown(run(pairs_of(n), batch_size, epoch, seed))
    assert len(seen) == len(set(seen)) == n // batch_size * batch_size and set(seen) <= set(range(n))


def test_all_images_are_shown_where_the_batch_size_divides_their_number():
    assert sorted(shown(run(pairs_of(12), 4))) == list(range(12))


def test_images_captions_and_numbers_belong_together():
    for batch in run(pairs_of(11), 3):
        for row, i in enumerate(shown([batch])):
            value = batch.images[row] * torch.tensor(VISION.std).view(3, 1, 1) + torch.tensor(VISION.mean).view(3, 1, 1)
            assert torch.allclose(value * 255, torch.full((3, 8, 8), float(i)), atol=1e-3)
            assert set(text(batch, row)) == {chr(97 + i)}


def test_left_over_images_come_in_another_epoch():
    assert {i for epoch in range(8) for i in shown(run(pairs_of(11), 4, epoch))} == set(range(11))


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
    assert shown(a) != shown(b) and sorted(shown(a)) == sorted(shown(b))


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
    with pytest.raises(MinclipError, match=r"train\.batch_size 12 .*11 images"):
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
    pairs = Pairs(np.zeros((1, 3, 8, 8), np.uint8), [[caption]], ["a"])
    return tokenize(pairs, TOKENIZER, 32).may_flip.tolist() == [False]


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


def augmented(images, min_crop, flip=False, seed=0, image_size=None):
    may_flip, size = torch.full((len(images),), flip), image_size or images.shape[-1]
    numbers = random_numbers(len(images), seed)[:5]
    return augment(images, numbers, image_size=size, min_crop=min_crop, may_flip=may_flip)


def random_images(n, size=12):
    return torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@given(images_st, st.integers(0, 2**31), st.booleans())
@settings(max_examples=20, deadline=None)
def test_without_crop_images_stay_as_they_are_or_are_mirrored_exactly(images, seed, flip):
    x, y = images.float(), augmented(images, 1, flip=flip, seed=seed)
    assert all(torch.equal(b, a) or (flip and torch.equal(b, a.flip(-1))) for a, b in zip(x, y))


def test_half_are_mirrored():
    images = torch.from_numpy(np.repeat(RAMP[None], 1000, axis=0))
    assert 430 < int((augmented(images, 1, flip=True)[:, 0, 0, 0] == 70).sum()) < 570


@pytest.mark.parametrize("image_size", [12, 8])
def test_a_mirrored_crop_is_the_mirror_of_the_crop(image_size):
    images = random_images(50)
    plain, flipped = (augmented(images, 0.4, flip=flip, image_size=image_size) for flip in (False, True))
    same_way = [torch.allclose(a, b, atol=1e-2) for a, b in zip(plain, flipped)]
    mirrored = [torch.allclose(a.flip(-1), b, atol=1e-2) for a, b in zip(plain, flipped)]
    assert all(a != b for a, b in zip(same_way, mirrored)) and any(mirrored) and any(same_way)


def boxes(min_crop, n=2000, size=48, image_size=48):
    """The boxes (left, top, width, height as parts of the side) of n crops, read off pictures of coordinates."""
    axis = torch.arange(size) * 5
    picture = torch.stack([axis.expand(size, size), axis[:, None].expand(size, size), torch.zeros(size, size)])
    x = augmented(picture.to(torch.uint8).expand(n, 3, size, size), min_crop, image_size=image_size) / 5
    # away from the edges a linear picture stays linear; from pixel to pixel it grows by the box's side over S
    a, b = 4, image_size - 5
    width = (x[:, 0, a, b] - x[:, 0, a, a]) / (b - a) * image_size / size
    height = (x[:, 1, b, a] - x[:, 1, a, a]) / (b - a) * image_size / size
    # the sample `a` lies (a + 0.5) steps from the box's edge; pixel k is centered on k + 0.5
    left = (x[:, 0, a, a] + 0.5) / size - (a + 0.5) * width / image_size
    top = (x[:, 1, a, a] + 0.5) / size - (a + 0.5) * height / image_size
    return left, top, width, height


crops = pytest.mark.parametrize(("min_crop", "image_size"), [(0.08, 48), (0.5, 48), (0.75, 32), (0.99, 48), (0.9, 24)])


@crops
def test_crops_are_as_torchvisions(min_crop, image_size):
    left, top, width, height = boxes(min_crop, image_size=image_size)
    eps = 1e-3 if image_size == 48 else 8e-3  # a tent over few pixels is not quite linear
    assert min(left.min(), top.min()) > -eps and max((left + width).max(), (top + height).max()) < 1 + eps
    assert (width * height).min() > min_crop - eps and (width * height).max() < 1 + eps
    assert (width / height).min() > 3 / 4 - eps and (width / height).max() < 4 / 3 + eps


def test_areas_are_spread_evenly_and_boxes_over_the_whole_picture():
    left, top, width, height = boxes(0.2)
    assert float((width * height).mean()) == pytest.approx(0.6, abs=0.02)
    for offset, side in ((left, width), (top, height)):
        part = (offset / (1 - side))[side < 0.9]
        assert float(part.mean()) == pytest.approx(0.5, abs=0.03) and part.min() < 0.02 and part.max() > 0.98


def test_wide_and_high_crops_are_equally_likely():
    _, _, width, height = boxes(0.2)
    assert float((width > height + 1e-2).float().mean()) == pytest.approx(0.48, abs=0.04)
    assert float((width < height - 1e-2).float().mean()) == pytest.approx(0.48, abs=0.04)


def test_each_image_of_a_batch_has_a_box_of_its_own():
    left, top, width, height = boxes(0.3, n=100)
    assert len(torch.stack([left, top, width, height]).round(decimals=2).unique(dim=1).T) > 80


@pytest.mark.parametrize("image_size", [48, 32, 16])
def test_a_crop_is_resized_as_by_torchvision(image_size):
    from torchvision.transforms.v2 import functional as theirs

    # smooth images, since torchvision cuts at whole pixels
    images = torch.nn.functional.interpolate(random_images(8, 4).float(), size=48, mode="bilinear").clamp(0, 255).byte()
    cropped = augmented(images, 0.3, image_size=image_size)
    numbers = random_numbers(8, 0)[:5]
    place = [torch.arange(48.0).expand(3, 48, 48), torch.arange(48.0)[:, None].expand(3, 48, 48)]
    for i in range(8):
        one = numbers[:, i : i + 1]
        x, y = (augment(p[None], one, image_size=48, min_crop=0.3)[0, 0] for p in place)
        left, right = (round(float(v)) for v in (x[0, 0], x[0, -1]))
        top, bottom = (round(float(v)) for v in (y[0, 0], y[-1, 0]))
        box = [top, left, bottom - top + 1, right - left + 1]
        expected = theirs.resized_crop(images[i : i + 1].float(), *box, [image_size, image_size], antialias=True)
        assert (cropped[i] - expected[0]).abs().mean() < 5


def test_a_smaller_side_is_an_anti_aliased_mean():
    checks = torch.tensor([[0, 255], [255, 0]], dtype=torch.uint8).repeat(16, 16)[None, None].expand(2, 3, 32, 32)
    # every fourth pixel would give 0 or 255
    assert (augmented(checks, 1, image_size=8)[..., 1:-1, 1:-1] - 127.5).abs().max() < 3
    images = random_images(4, 32)
    expected = torch.nn.functional.interpolate(images.float(), size=(8, 8), mode="bilinear", antialias=True)
    torch.testing.assert_close(augmented(images, 1, image_size=8), expected, atol=0.01, rtol=0)


@pytest.mark.parametrize("min_crop", [0.3, 1])
def test_channels_last_images_become_the_same(min_crop):
    images = random_images(20)
    last = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(augmented(images, min_crop, flip=True), augmented(last, min_crop, flip=True))


@given(images_st, st.floats(0.05, 1), st.booleans(), st.integers(0, 2**31), st.sampled_from([12, 7, 4]))
@settings(max_examples=30, deadline=None)
def test_values_stay_between_the_smallest_and_largest_of_their_image(images, min_crop, flip, seed, image_size):
    x, y = images.float(), augmented(images, min_crop, flip, seed, image_size)
    assert y.shape == (5, 3, image_size, image_size) and y.dtype == torch.float32
    assert (y.amin((1, 2, 3)) >= x.amin((1, 2, 3)) - 1e-2).all()
    assert (y.amax((1, 2, 3)) <= x.amax((1, 2, 3)) + 1e-2).all()


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


# ---- several processes


@pytest.mark.parametrize("processes", [2, 4])
def test_the_parts_of_a_batch_are_the_batch(processes, monkeypatch):
    options = {"batch_size": 8, "seed": 3, "data": DataConfig(image_size=8, min_crop=0.5, flip=True, color=0.4)}
    whole = run(noise(16), **options)
    monkeypatch.setattr("minclip.batches.world_size", lambda: processes)
    parts = []
    for rank in range(processes):
        monkeypatch.setattr("minclip.batches.rank", lambda rank=rank: rank)
        parts.append(run(noise(16), **options))
    for number, batch in enumerate(whole):
        of_all = [part[number] for part in parts]
        torch.testing.assert_close(torch.cat([part.images for part in of_all]), batch.images)
        for part, rows in zip(of_all, batch.ids.split(8 // processes)):  # each trimmed to its own longest caption
            assert torch.equal(part.ids, rows[:, : part.ids.shape[1]])
            assert (rows[:, part.ids.shape[1] :] == TOKENIZER.pad_id).all()


# ---- color


def pictures(n=3):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 100 + 70


def test_the_middle_of_the_random_numbers_changes_no_color():
    torch.testing.assert_close(recolor(pictures(), torch.full((3, 3), 0.5), strength=0.4), pictures())


def test_brightness_contrast_and_saturation_are_torchvisions_one_by_one():
    from torchvision.transforms.v2 import functional as theirs

    x = pictures(1)
    numbers = torch.full((3, 1), 0.5)
    for row in range(3):
        low = numbers.clone()
        low[row] = 0.0  # 1 - strength
        ours = recolor(x, low, strength=0.4)
        if row == 0:
            expected = theirs.adjust_brightness(x / 255, 0.6) * 255
        elif row == 1:  # theirs goes to the mean of its gray, which weighs green more
            expected = x.mean() + 0.6 * (x - x.mean())
        else:
            expected = x.mean(dim=1, keepdim=True) + 0.6 * (x - x.mean(dim=1, keepdim=True))
        torch.testing.assert_close(ours, expected)


def test_without_saturation_a_picture_is_gray_and_without_contrast_of_one_color():
    x = pictures(1)
    gray = recolor(x, torch.tensor([[0.5], [0.5], [0.0]]), strength=1.0)
    torch.testing.assert_close(gray, x.mean(dim=1, keepdim=True).expand_as(x))
    flat = recolor(x, torch.tensor([[0.5], [0.0], [0.5]]), strength=1.0)
    torch.testing.assert_close(flat, x.mean().expand_as(x))


def test_colors_stay_between_0_and_255():
    x = torch.tensor([0.0, 255.0]).repeat(96).view(1, 3, 8, 8)
    y = recolor(x, torch.full((3, 1), 0.999), strength=1.0)
    assert y.min() == 0 and y.max() == 255


def test_each_picture_has_a_color_of_its_own():
    x = pictures(1).expand(2, -1, -1, -1)
    y = recolor(x, torch.tensor([[0.1, 0.9]]).expand(3, 2), strength=0.4)
    assert y[0].mean() < x[0].mean() < y[1].mean()


# ---- Pairs and Task


def bare_pairs(n=3, counts=(2, 1, 3)):
    captions = [[f"image {i} caption {j}" for j in range(count)] for i, count in enumerate(counts)]
    return Pairs(np.zeros((n, 3, 4, 4), dtype=np.uint8), captions, [str(i) for i in range(len(captions))])


def test_texts_are_all_captions_image_by_image():
    assert bare_pairs().texts == [
        "image 0 caption 0",
        "image 0 caption 1",
        "image 1 caption 0",
        "image 2 caption 0",
        "image 2 caption 1",
        "image 2 caption 2",
    ]


def test_text_to_image_says_which_image_a_text_belongs_to():
    owner = bare_pairs().text_to_image
    assert owner.tolist() == [0, 0, 1, 2, 2, 2] and owner.dtype == np.int64


def test_numbers_that_differ_are_an_error_that_tells_them():
    with pytest.raises(MinclipError, match=r"2 images, 3 .*3 names"):
        bare_pairs(n=2)


def test_names_are_counted_too():
    with pytest.raises(MinclipError, match="1 names"):
        Pairs(np.zeros((2, 3, 4, 4), dtype=np.uint8), [["a"], ["b"]], ["a"])


def test_no_images_are_an_error():
    with pytest.raises(MinclipError, match="at least one image"):
        bare_pairs(n=0, counts=())


def test_an_image_without_captions_is_an_error_that_names_it():
    with pytest.raises(MinclipError, match="image 1 has no caption"):
        bare_pairs(counts=(1, 0, 2))


def test_no_tasks_and_no_notes_by_default():
    assert bare_pairs().tasks == {} and bare_pairs().notes == ()


def test_chance_of_a_task_is_one_over_its_classes():
    assert Task(("a", "b", "c", "d"), ("{}",), np.array([0]), np.array([1])).chance == 0.25

"""The two towers: what each one may see, what it refuses, and where its feature stands."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from minclip.config import CLIPConfig, MinclipError, TextConfig, VisionConfig
from minclip.model import CLIP
from minclip.text import BagOfWords, TextTransformer, causal_mask, find_end, trim
from minclip.vision import VisionTransformer, drop_patches, resize_positions

VISION = VisionConfig(image_size=32, patch_size=8, width=32, layers=2, heads=4)
EOT, SOT, LARGER = 40, 41, 49  # ids above EOT exist, as in vocabularies that were extended
TEXT = TextConfig(context_length=12, vocab_size=50, eot_id=EOT, width=32, layers=2, heads=4)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def texts(batch=4, words=5, length=12, padding=0):
    """(B, L): SOT, random words, EOT, padding."""
    ids = torch.full((batch, length), padding)
    ids[:, 0], ids[:, words + 1] = SOT, EOT
    ids[:, 1 : words + 1] = torch.randint(1, EOT, (batch, words))
    return ids


# ---- text


@pytest.mark.parametrize("padding", [1, EOT - 1, SOT, LARGER])
def test_padding_changes_nothing(padding):
    # mistake 17; and mistake 16, an argmax, would find LARGER
    tower, ids = TextTransformer(TEXT), texts()
    padded = torch.where(torch.arange(12) > 6, padding, ids)
    torch.testing.assert_close(tower(padded), tower(ids))


def test_a_second_eot_changes_nothing():
    # some tokenizers pad with EOT
    tower = TextTransformer(TEXT)
    ids = texts()
    torch.testing.assert_close(tower(torch.where(torch.arange(12) > 6, EOT, ids)), tower(ids))


def test_rows_of_different_length_each_have_their_own_eot():
    tower = TextTransformer(TEXT)
    short, long = texts(1, words=2), texts(1, words=8)
    torch.testing.assert_close(tower(torch.cat([short, long])), torch.cat([tower(short), tower(long)]))


def test_the_feature_is_that_of_the_eot_token():
    tower, ids = TextTransformer(TEXT), texts()
    x = tower.token_embedding(ids) + tower.positional_embedding
    x = tower.norm_final(tower.transformer(x, torch.ones(12, 12, dtype=torch.bool).tril()))
    torch.testing.assert_close(tower(ids), x[:, 6])


@pytest.mark.parametrize("position", range(6))
def test_every_token_before_eot_is_seen(position):
    tower, ids = TextTransformer(TEXT), texts()
    changed = ids.clone()
    changed[:, position] = LARGER
    assert ((tower(changed) - tower(ids)).abs().amax(dim=1) > 1e-4).all()


def test_the_order_of_words_is_seen():
    tower, ids = TextTransformer(TEXT), texts(batch=1)
    swapped = ids[:, [0, 2, 1, *range(3, 12)]]
    assert (tower(swapped) - tower(ids)).abs().max() > 1e-4


@pytest.mark.parametrize("length", [3, 7, 11])
def test_a_short_context_works(length):
    # mistake 20: positions are cut to the text's length
    tower = TextTransformer(TEXT)
    ids = texts(words=length - 2, length=length)
    torch.testing.assert_close(tower(ids), tower(F.pad(ids, (0, 12 - length))))


def test_a_text_longer_than_the_context_is_refused():
    with pytest.raises(MinclipError, match=r"13.*12"):
        TextTransformer(TEXT)(texts(length=13))


def test_trimming_changes_no_feature():
    tower = TextTransformer(TEXT)
    ids = torch.cat([texts(2, words=2), texts(2, words=6)])
    torch.testing.assert_close(tower(trim(ids, EOT)), tower(ids))


@pytest.mark.parametrize("words", [1, 4, 10])
def test_trimming_keeps_the_longest_text_to_its_eot(words):
    ids = torch.cat([texts(2, words=1), texts(2, words=words)])
    assert torch.equal(trim(ids, EOT), ids[:, : words + 2])


def of_lengths(*words):
    """One row for each number of words, all of one width."""
    return torch.cat([texts(1, words=n) for n in words])


@pytest.mark.parametrize("lengths", [(5,), (3, 9, 3, 1, 10)])
def test_a_feature_is_the_end_tokens_of_the_whole_trunk(lengths):
    tower, ids = TextTransformer(TEXT), of_lengths(*lengths)
    x = tower.transformer(tower.embed(ids), causal_mask(ids.shape[1]))
    wanted = tower.norm_final(x[torch.arange(len(ids)), find_end(ids, TEXT)])
    torch.testing.assert_close(tower(ids), wanted)


def test_equal_texts_give_the_same_features():
    tower, ids = TextTransformer(TEXT), texts(batch=1).expand(100, -1)
    with torch.no_grad():
        torch.testing.assert_close(tower(ids), tower(ids[:1]).expand(100, -1))


@pytest.mark.parametrize("grad", [True, False])
def test_no_texts_make_no_features(grad):
    with torch.set_grad_enabled(grad):
        assert TextTransformer(TEXT)(texts(batch=0)).shape == (0, 32)


def test_a_row_without_an_end_token_is_refused():
    ids = texts()
    ids[2] = 1
    with pytest.raises(MinclipError, match=rf"row 2 of the ids has no end token \(id {EOT}\)"):
        TextTransformer(TEXT)(ids)


@pytest.mark.parametrize("shape", [(12,), (1, 2, 12)])
def test_ids_of_another_rank_are_refused(shape):
    with pytest.raises(MinclipError, match=r"this tower takes \(B, L\)"):
        TextTransformer(TEXT)(torch.full(shape, EOT))


def test_text_maps_look_at_nothing_later():
    maps = TextTransformer(TEXT).attention_maps(texts())
    assert maps.shape == (2, 4, 4, 12, 12) and (maps.masked_select(~causal_mask(12)) == 0).all()


# ---- a bag of words


BAG = TextConfig(tower="bag", context_length=12, vocab_size=50, eot_id=EOT, width=32)


def test_a_bag_is_the_mean_of_its_tokens():
    tower, ids = BagOfWords(BAG), texts(batch=2, words=3)
    mean = tower.token_embedding(ids[:, :5]).mean(dim=1)
    torch.testing.assert_close(tower(ids), tower.norm_final(mean))


def test_a_bag_does_not_see_the_order_of_words():
    tower, ids = BagOfWords(BAG), texts()
    torch.testing.assert_close(tower(ids[:, [0, 5, 4, 3, 2, 1, *range(6, 12)]]), tower(ids))


@pytest.mark.parametrize("padding", [1, SOT, LARGER])
def test_padding_does_not_get_into_the_bag(padding):
    tower, ids = BagOfWords(BAG), texts()
    padded = torch.where(torch.arange(12) > 6, padding, ids)
    torch.testing.assert_close(tower(padded), tower(ids))
    torch.testing.assert_close(tower(ids[:, :7]), tower(ids))


def test_a_clip_may_have_a_bag_for_its_text_tower():
    model = CLIP(CLIPConfig(16, VISION, BAG))
    assert isinstance(model.text, BagOfWords) and model.encode_text(texts()).shape == (4, 16)


def test_an_unknown_text_tower_is_refused():
    with pytest.raises(MinclipError, match=r"model\.text\.tower 'lstm'"):
        replace(TEXT, tower="lstm")


def test_token_embeddings_start_with_std_002():
    weight = TextTransformer(replace(TEXT, vocab_size=2000, width=64)).token_embedding.weight
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)


def test_text_positions_start_with_std_001():
    positions = TextTransformer(replace(TEXT, context_length=77, width=256)).positional_embedding
    assert positions.std().item() == pytest.approx(0.01, rel=0.03)


# ---- vision


def test_an_image_becomes_one_vector():
    assert VisionTransformer(VISION)(torch.randn(5, 3, 32, 32)).shape == (5, 32)


@pytest.mark.parametrize("shape", [(2, 3, 33, 32), (2, 3, 32, 40), (2, 3, 64, 64), (2, 1, 32, 32), (3, 32, 32)])
def test_an_image_of_another_shape_is_refused(shape):
    with pytest.raises(MinclipError, match=r"this tower takes \(B, 3, 32, 32\)"):
        VisionTransformer(VISION)(torch.zeros(shape))


def test_patch_embedding_equals_a_convolution():
    tower, images = VisionTransformer(VISION), torch.randn(2, 3, 32, 32)
    seen = []
    tower.stem.projection.register_forward_hook(lambda module, args, out: seen.append(out))
    tower(images)
    kernel = tower.stem.projection.weight.view(32, 3, 8, 8)
    torch.testing.assert_close(seen[0], F.conv2d(images, kernel, stride=8).flatten(2).mT, rtol=1e-4, atol=1e-5)


def test_where_a_patch_stands_is_seen():
    tower, images = VisionTransformer(VISION), torch.randn(1, 3, 32, 32)
    assert (tower(images.roll(8, dims=3)) - tower(images)).abs().max() > 1e-3


def test_every_patch_is_seen():
    tower, images = VisionTransformer(VISION), torch.randn(1, 3, 32, 32, requires_grad=True)
    # not the plain sum: a norm's outputs sum to zero
    tower(images).square().mul(torch.arange(32)).sum().backward()
    assert (F.max_pool2d(images.grad.abs(), 8) > 0).all()


def test_class_and_positions_start_at_the_scale_of_the_width():
    tower = VisionTransformer(replace(VISION, image_size=128, width=256))
    assert tower.positional_embedding.std().item() == pytest.approx(256**-0.5, rel=0.02)
    assert tower.class_embedding.std().item() == pytest.approx(256**-0.5, rel=0.2)


# ---- patch dropout


@pytest.mark.parametrize(("share", "kept"), [(0.0, 16), (0.5, 8), (0.75, 4), (0.99, 1)])
def test_drop_patches_keeps_its_share_and_at_least_one(share, kept):
    assert drop_patches(torch.randn(3, 16, 8), share).shape == (3, kept, 8)


def test_the_patches_that_stay_are_whole_and_different():
    x = torch.arange(16.0).repeat(3, 1)[..., None].expand(3, 16, 8)
    stayed = drop_patches(x, 0.5)
    assert (stayed == stayed[..., :1]).all()
    assert all(len(set(row.tolist())) == 8 for row in stayed[..., 0])


def test_each_image_drops_patches_of_its_own():
    stayed = drop_patches(torch.arange(64.0).repeat(2, 1)[..., None], 0.5)[..., 0].sort().values
    assert not torch.equal(stayed[0], stayed[1])


def test_every_patch_stays_equally_often():
    x = torch.arange(8.0).repeat(4000, 1)[..., None]
    counts = drop_patches(x, 0.5).flatten().int().bincount(minlength=8)
    assert (counts - 2000).abs().max() < 200  # over six deviations of a binomial count


def test_patches_are_dropped_in_training_only():
    tower, images = VisionTransformer(replace(VISION, patch_dropout=0.5)), torch.randn(2, 3, 32, 32)
    lengths = []
    tower.norm_pre.register_forward_hook(lambda module, args, out: lengths.append(out.shape[1]))
    tower.train()(images)
    tower.eval()(images)
    assert lengths[0] - lengths[1] == -8


def test_evaluation_ignores_the_dropout():
    tower, images = VisionTransformer(replace(VISION, patch_dropout=0.5)).eval(), torch.randn(2, 3, 32, 32)
    assert torch.equal(tower(images), tower(images))


# ---- another resolution


def test_resized_to_its_own_size_a_tower_is_the_same():
    tower, images = VisionTransformer(VISION), torch.randn(2, 3, 32, 32)
    before = tower(images)
    tower.resize(32)
    torch.testing.assert_close(tower(images), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_a_resized_tower_takes_larger_images(pool):
    tower = VisionTransformer(replace(VISION, pool=pool))
    tower.resize(64)
    assert tower(torch.randn(2, 3, 64, 64)).shape == (2, 32) and tower.config.image_size == 64


def test_the_class_tokens_position_stays_and_constant_ones_stay_constant():
    positions = torch.cat([torch.full((1, 8), 5.0), torch.ones(16, 8)])
    torch.testing.assert_close(resize_positions(positions, 7, 1), torch.cat([positions[:1], torch.ones(49, 8)]))


def test_positions_keep_their_places():
    # a ramp from left to right stays one from left to right
    ramp = torch.arange(4.0).repeat(4)[:, None]
    larger = resize_positions(ramp, 8, 0).view(8, 8)
    assert (larger.diff(dim=1) > -0.1).all() and larger.diff(dim=0).abs().max() < 1e-5


def test_a_size_that_the_patches_do_not_divide_is_refused():
    with pytest.raises(MinclipError, match="33 is not a multiple"):
        VisionTransformer(VISION).resize(33)


def test_a_model_resizes_its_config_too():
    model = CLIP(CLIPConfig(16, VISION, TEXT))
    model.resize(64)
    assert model.config.vision.image_size == 64 and model.encode_image(torch.randn(1, 3, 64, 64)).shape == (1, 16)


def test_vision_maps_have_the_class_token_first():
    maps = VisionTransformer(VISION).attention_maps(torch.randn(2, 3, 32, 32))
    assert maps.shape[0] == VISION.layers and maps.shape[1:] == (2, VISION.heads, 17, 17)


# ---- words left out of a bag


def test_a_bag_leaves_words_out_in_training_only():
    config = TextConfig(tower="bag", context_length=12, vocab_size=50, eot_id=49, width=8, dropout=0.5)
    torch.manual_seed(0)
    tower = BagOfWords(config)
    ids = torch.randint(1, 48, (400, 12))
    ids[:, 0], ids[:, -1] = 48, 49
    assert not torch.allclose(tower(ids), tower(ids))  # other words each time
    assert torch.equal(tower.eval()(ids), tower(ids))


def test_a_bag_never_leaves_out_its_first_and_its_last_token_and_of_the_others_the_share():
    config = TextConfig(tower="bag", context_length=12, vocab_size=50, eot_id=49, width=50, dropout=0.3)
    torch.manual_seed(0)
    tower = BagOfWords(config)
    tower.norm_final = torch.nn.Identity()
    tower.token_embedding.weight.data = torch.eye(50)  # the feature then counts the words
    ids = torch.full((2000, 12), 7)
    ids[:, 0], ids[:, 9], ids[:, 10:] = 48, 49, 0
    feature = tower(ids)
    assert (feature[:, [48, 49]] > 0).all() and (feature[:, 0] == 0).all()
    kept = feature[:, 7] / feature[:, 48]  # of the eight words in the middle
    assert 0.67 * 8 < kept.mean() < 0.73 * 8 and kept.unique().numel() > 4
    torch.testing.assert_close(feature.sum(dim=1), torch.ones(2000))

"""ModifiedResNet: its shapes, its anti-aliased strides, its attention pooling; equality with open_clip's stands in tests/parity.  SmallResNet."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from minclip.config import CLIPConfig, MinclipError, TextConfig, VisionConfig
from minclip.model import CLIP
from minclip.resnet import AttentionPool, BasicBlock, Bottleneck, ModifiedResNet, SmallResNet

VISION = VisionConfig(tower="resnet", image_size=64, width=16, heads=8, stages=(1, 2, 1, 1))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_an_image_becomes_one_vector_of_the_embedding_size():
    assert ModifiedResNet(VISION, 48)(torch.randn(5, 3, 64, 64)).shape == (5, 48)


def test_each_stage_but_the_first_halves_the_picture_and_doubles_the_channels():
    tower, shapes = ModifiedResNet(VISION, 48), []
    for stage in tower.stages:
        stage[-1].register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape[1:])))
    tower(torch.randn(1, 3, 64, 64))
    assert shapes == [(64, 16, 16), (128, 8, 8), (256, 4, 4), (512, 2, 2)]


def test_stages_have_the_blocks_that_the_config_says():
    assert [len(stage) for stage in ModifiedResNet(VISION, 48).stages] == [1, 2, 1, 1]


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (2, 3, 64, 32), (2, 1, 64, 64), (3, 64, 64)])
def test_an_image_of_another_shape_is_refused(shape):
    with pytest.raises(MinclipError, match=r"this tower takes \(B, 3, 64, 64\)"):
        ModifiedResNet(VISION, 48)(torch.randn(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 60}, r"60.*32"),
        ({"width": 15}, "width 15 is odd"),
        ({"heads": 7}, r"model\.vision\.heads 7.*512"),
        ({"stages": (1, 0, 1, 1)}, r"model\.vision\.stages 0"),
        ({"tower": "convnet"}, "tower 'convnet' is not one of"),
    ],
)
def test_an_impossible_config_is_refused(change, message):
    with pytest.raises(MinclipError, match=message):
        replace(VISION, **change)


def test_a_new_block_begins_as_its_shortcut():
    # its last norm starts at 0
    block = Bottleneck(64, 16, stride=1).eval()
    x = torch.rand(2, 64, 8, 8)  # positive: the last relu leaves it
    assert torch.equal(block(x), x)


def test_a_stride_is_an_average_and_skips_no_pixel():
    block = Bottleneck(64, 16, stride=2).eval()
    torch.nn.init.ones_(block.expand.norm.weight)
    x = torch.randn(1, 64, 8, 8, requires_grad=True)
    block(x).sum().backward()
    assert (x.grad.abs().sum(dim=1) > 0).all()


def test_the_mean_asks_and_all_places_answer():
    pool = AttentionPool(32, 9, 4, embed_dim=16)
    x = torch.randn(2, 32, 3, 3)
    tokens = x.flatten(2).mT
    tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1) + pool.positional_embedding
    torch.testing.assert_close(pool(x), pool.attention(tokens)[:, 0])


def test_attention_pooling_sees_where_something_is():
    pool, x = AttentionPool(32, 9, 4, embed_dim=16), torch.zeros(1, 32, 3, 3)
    first, last = x.clone(), x.clone()
    first[..., 0, 0], last[..., 2, 2] = 1, 1
    assert (pool(first) - pool(last)).abs().max() > 1e-3


def test_the_poolings_map_is_of_one_layer_and_sums_to_one():
    maps = ModifiedResNet(VISION, 48).eval().attention_maps(torch.randn(2, 3, 64, 64))
    assert maps.shape == (1, 2, 8, 1, 5)
    torch.testing.assert_close(maps.sum(dim=-1), torch.ones(1, 2, 8, 1))


def test_a_resized_tower_takes_the_new_size_only():
    tower = ModifiedResNet(VISION, 48).eval()
    tower.resize(96)
    assert tower(torch.randn(2, 3, 96, 96)).shape == (2, 48) and tower.pool.positional_embedding.shape == (10, 512)
    with pytest.raises(MinclipError, match="takes"):
        tower(torch.randn(2, 3, 64, 64))


def test_every_parameter_of_a_clip_with_it_gets_a_gradient():
    text = TextConfig(context_length=8, vocab_size=20, width=32, layers=1, heads=2)
    model = CLIP(CLIPConfig(24, VISION, text))
    for block in (b for stage in model.vision.stages for b in stage):
        torch.nn.init.ones_(block.expand.norm.weight)
    ids = torch.tensor([[1, 2, 19, 0], [3, 4, 5, 19]])
    image, text, scale = model(torch.randn(2, 3, 64, 64), ids)
    F.cross_entropy(scale * image @ text.T, torch.arange(2)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_openais_rn50_has_its_known_number_of_parameters():
    # paper, table 19 and OpenAI's file: 102,007,137 with the text tower
    with torch.device("meta"):
        model = CLIP(
            CLIPConfig(1024, VisionConfig(tower="resnet", width=64, heads=32, stages=(3, 4, 6, 3)), TextConfig())
        )
    assert sum(p.numel() for p in model.parameters()) == 102_007_137


# ---- SmallResNet

SMALL = VisionConfig(tower="small_resnet", image_size=64, width=8, stages=(1, 2, 1, 1))


@pytest.mark.parametrize("size", [32, 48, 64])
def test_a_small_resnet_takes_pictures_of_any_size(size):
    assert SmallResNet(SMALL)(torch.randn(5, 3, size, size)).shape == (5, 64)


def test_its_first_stage_sees_half_the_picture_and_each_later_one_half_of_that():
    tower, shapes = SmallResNet(SMALL), []
    for block in tower.blocks:
        block.register_forward_hook(lambda module, args, out: shapes.append(tuple(out.shape[1:])))
    tower(torch.randn(1, 3, 64, 64))
    assert shapes == [(8, 32, 32), (16, 16, 16), (16, 16, 16), (32, 8, 8), (64, 4, 4)]


def test_its_block_is_torchvisions():
    from torchvision.models.resnet import BasicBlock as Theirs

    ours, theirs = BasicBlock(8, 8, stride=1), Theirs(8, 8)
    names = {"conv1": ours.first.conv, "bn1": ours.first.norm, "conv2": ours.second.conv, "bn2": ours.second.norm}
    torch.nn.init.uniform_(ours.second.norm.weight)  # begins at 0
    for name, part in names.items():
        getattr(theirs, name).load_state_dict(part.state_dict())
    x, same = (torch.randn(3, 8, 10, 10, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2))
    a, b = ours(x), theirs(same)
    torch.testing.assert_close(a, b)
    weights = torch.randn(a.shape)
    (a * weights).sum().backward()
    (b * weights).sum().backward()
    torch.testing.assert_close(x.grad, same.grad)
    torch.testing.assert_close(ours.first.conv.weight.grad, theirs.conv1.weight.grad)


def test_its_stride_skips_no_pixel():
    tower = SmallResNet(SMALL).eval()
    x = torch.randn(1, 8, 8, 8, requires_grad=True)
    tower.blocks[1](x).sum().backward()
    assert (x.grad != 0).all()


def test_its_feature_is_the_mean_of_the_grid():
    tower = SmallResNet(SMALL).eval()
    grids = []
    tower.blocks[-1].register_forward_hook(lambda module, args, out: grids.append(out))
    feature = tower(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(feature, grids[0].flatten(2).mean(dim=2))


def test_its_dropout_is_the_features_and_of_training_only():
    tower = SmallResNet(replace(SMALL, dropout=0.5))
    grids = []
    tower.blocks[-1].register_forward_hook(lambda module, args, out: grids.append(out.mean(dim=(2, 3))))
    x = torch.randn(8, 3, 64, 64)
    kept = tower(x) != 0
    assert 0.3 < kept.sum() / (grids[0] != 0).sum() < 0.7
    torch.testing.assert_close(tower.eval()(x), grids[1])


def test_a_clip_with_a_small_resnet_projects_its_feature():
    model = CLIP(CLIPConfig(embed_dim=24, vision=SMALL, text=TextConfig(tower="bag", vocab_size=50, width=16)))
    assert model.encode_image(torch.randn(2, 3, 64, 64)).shape == (2, 24)
    model.resize(96)
    assert model.config.vision.image_size == 96
    assert model.encode_image(torch.randn(2, 3, 96, 96)).shape == (2, 24)


@pytest.mark.parametrize("shape", [(2, 1, 64, 64), (3, 64, 64)])
def test_a_small_resnet_refuses_what_is_no_picture(shape):
    with pytest.raises(MinclipError, match=r"this tower takes \(B, 3, S, S\)"):
        SmallResNet(SMALL)(torch.randn(shape))


def test_a_small_resnets_size_is_a_multiple_of_16():
    with pytest.raises(MinclipError, match=r"40.*16"):
        replace(SMALL, image_size=40)

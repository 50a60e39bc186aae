"""Every piece against a trusted one: open_clip's CLIP, losses and image transform, torch's attention.  fp32, values and gradients."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

open_clip = pytest.importorskip("open_clip")
from open_clip.loss import ClipLoss, SigLipLoss  # noqa: E402
from open_clip.model import CLIPTextCfg, CLIPVisionCfg  # noqa: E402
from open_clip.transform import image_transform  # noqa: E402

from minclip.config import CLIPConfig, TextConfig, VisionConfig  # noqa: E402
from minclip.losses import clip_loss, siglip_loss  # noqa: E402
from minclip.model import CLIP  # noqa: E402
from minclip.transformer import Attention  # noqa: E402
from minclip.weights.load import Preprocess  # noqa: E402

LAYERS, WIDTH, EOT = 2, 64, 99

# open_clip's names -> ours; a projection is stored the other way round, a convolution's kernel is a flat row
BLOCK = {
    "ln_1.weight": "norm1.weight",
    "ln_1.bias": "norm1.bias",
    "attn.in_proj_weight": "attention.qkv.weight",
    "attn.in_proj_bias": "attention.qkv.bias",
    "attn.out_proj.weight": "attention.out.weight",
    "attn.out_proj.bias": "attention.out.bias",
    "ln_2.weight": "norm2.weight",
    "ln_2.bias": "norm2.bias",
    "mlp.c_fc.weight": "mlp.up.weight",
    "mlp.c_fc.bias": "mlp.up.bias",
    "mlp.c_proj.weight": "mlp.down.weight",
    "mlp.c_proj.bias": "mlp.down.bias",
}
NAMES = {
    "logit_scale": "logit_scale",
    "positional_embedding": "text.positional_embedding",
    "token_embedding.weight": "text.token_embedding.weight",
    "ln_final.weight": "text.norm_final.weight",
    "ln_final.bias": "text.norm_final.bias",
    "text_projection": "text_projection.weight",
    "visual.class_embedding": "vision.class_embedding",
    "visual.positional_embedding": "vision.positional_embedding",
    "visual.conv1.weight": "vision.stem.projection.weight",
    "visual.ln_pre.weight": "vision.norm_pre.weight",
    "visual.ln_pre.bias": "vision.norm_pre.bias",
    "visual.ln_post.weight": "vision.norm_post.weight",
    "visual.ln_post.bias": "vision.norm_post.bias",
    "visual.proj": "image_projection.weight",
    **{
        f"{theirs}transformer.resblocks.{i}.{a}": f"{ours}.transformer.blocks.{i}.{b}"
        for theirs, ours in (("visual.", "vision"), ("", "text"))
        for i in range(LAYERS)
        for a, b in BLOCK.items()
    },
}


def renamed(tensors):
    """open_clip's tensors (weights, or their gradients) under our names and in our shapes."""
    out = {}
    for theirs, ours in NAMES.items():
        tensor = tensors[theirs]
        if theirs in ("visual.proj", "text_projection"):
            tensor = tensor.T
        if theirs == "visual.conv1.weight":
            tensor = tensor.flatten(1)
        out[ours] = tensor.clone()
    return out


@pytest.fixture(scope="module", params=["gelu", "quick_gelu"])
def both(request):
    """open_clip's model and ours with the same weights, and a batch; each model has done one backward pass."""
    torch.manual_seed(0)
    theirs = open_clip.model.CLIP(
        48,
        CLIPVisionCfg(layers=LAYERS, width=WIDTH, head_width=16, patch_size=8, image_size=32),
        CLIPTextCfg(context_length=12, vocab_size=EOT + 1, width=WIDTH, heads=4, layers=LAYERS),
        quick_gelu=request.param == "quick_gelu",
    )
    for parameter in theirs.parameters():  # biases and norms too, which start at 0 and 1
        parameter.data += 0.05 * torch.randn_like(parameter)
    ours = CLIP(
        CLIPConfig(
            embed_dim=48,
            vision=VisionConfig(image_size=32, patch_size=8, width=WIDTH, layers=LAYERS, heads=4),
            text=TextConfig(context_length=12, vocab_size=EOT + 1, eot_id=EOT, width=WIDTH, layers=LAYERS, heads=4),
            activation=request.param,
        )
    )
    ours.load_state_dict(renamed(dict(theirs.named_parameters())))
    images, ids = torch.randn(6, 3, 32, 32), torch.randint(1, EOT, (6, 12))
    ids[torch.arange(6), torch.tensor([2, 4, 6, 8, 10, 11])] = EOT  # open_clip finds it as the largest id
    their_loss = ClipLoss()(*theirs(images, ids))
    our_loss = clip_loss(*ours(images, ids))
    their_loss.backward()
    our_loss.backward()
    return SimpleNamespace(theirs=theirs, ours=ours, images=images, ids=ids, their_loss=their_loss, our_loss=our_loss)


def test_the_table_names_every_parameter(both):
    assert NAMES.keys() == dict(both.theirs.named_parameters()).keys()
    assert set(NAMES.values()) == dict(both.ours.named_parameters()).keys()


@pytest.mark.parametrize("normalize", [False, True])
def test_image_features_are_equal(both, normalize):
    ours, theirs = both.ours.encode_image(both.images, normalize), both.theirs.encode_image(both.images, normalize)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
def test_text_features_are_equal(both, normalize):
    ours, theirs = both.ours.encode_text(both.ids, normalize), both.theirs.encode_text(both.ids, normalize)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_logits_are_equal(both):
    ours, theirs = both.ours.logits(both.images, both.ids), both.theirs.get_logits(both.images, both.ids)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def test_the_loss_is_equal(both):
    torch.testing.assert_close(both.our_loss, both.their_loss, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES.values())
def test_gradients_are_equal(both, name):
    theirs = renamed({name: parameter.grad for name, parameter in both.theirs.named_parameters()})[name]
    assert theirs.abs().max() > 1e-6  # or the comparison would be empty
    torch.testing.assert_close(both.ours.get_parameter(name).grad, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max())


def test_the_activations_are_told_apart():
    # mistake 25: the same weights under the other activation are another model
    config = CLIPConfig(
        embed_dim=16,
        vision=VisionConfig(image_size=16, patch_size=8, width=32, layers=2, heads=2),
        text=TextConfig(context_length=8, vocab_size=20, eot_id=19, width=32, layers=2, heads=2),
    )
    torch.manual_seed(0)
    gelu, quick = CLIP(config), CLIP(CLIPConfig(16, config.vision, config.text, "quick_gelu"))
    quick.load_state_dict(gelu.state_dict())
    images = torch.randn(2, 3, 16, 16)
    assert (gelu.encode_image(images) - quick.encode_image(images)).abs().max() > 1e-3


# ---- losses


def features(batch=16, dim=32):
    torch.manual_seed(1)
    return [nn.functional.normalize(torch.randn(batch, dim), dim=-1).requires_grad_() for _ in range(2)]


def gradients(loss, *inputs):
    return torch.autograd.grad(loss, inputs)


@pytest.mark.parametrize("scale", [1.0, 14.2857, 100.0])
def test_clip_loss_and_its_gradients_are_equal(scale):
    inputs = [*features(), torch.tensor(scale, requires_grad=True)]
    ours, theirs = clip_loss(*inputs), ClipLoss()(*inputs)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, *inputs), gradients(theirs, *inputs))


@pytest.mark.parametrize(("scale", "bias"), [(10.0, -10.0), (100.0, -3.0)])
def test_siglip_loss_and_its_gradients_are_equal(scale, bias):
    inputs = [*features(), torch.tensor(scale, requires_grad=True), torch.tensor(bias, requires_grad=True)]
    ours, theirs = siglip_loss(*inputs), SigLipLoss()(*inputs)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(gradients(ours, *inputs), gradients(theirs, *inputs))


# ---- attention


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [1, 4])
def test_attention_equals_torchs(heads, causal):
    torch.manual_seed(0)
    ours, theirs = Attention(32, heads), nn.MultiheadAttention(32, heads, batch_first=True)
    names = {"in_proj_weight": "qkv.weight", "in_proj_bias": "qkv.bias"}
    names |= {"out_proj.weight": "out.weight", "out_proj.bias": "out.bias"}
    nn.init.normal_(theirs.in_proj_bias), nn.init.normal_(theirs.out_proj.bias)
    ours.load_state_dict({names[name]: tensor for name, tensor in theirs.state_dict().items()})
    mask = torch.ones(9, 9, dtype=torch.bool).tril() if causal else None
    x, weight = torch.randn(3, 9, 32), torch.randn(3, 9, 32)
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()

    out = ours(x1, mask)
    expected = theirs(x2, x2, x2, need_weights=False, attn_mask=None if mask is None else ~mask)[0]
    (out * weight).sum().backward()
    (expected * weight).sum().backward()

    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(x1.grad, x2.grad, rtol=1e-4, atol=1e-5)
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(names[name]).grad, parameter.grad, rtol=1e-4, atol=1e-4)


# ---- preprocessing


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK"])
@pytest.mark.parametrize("size", [(64, 64), (300, 200), (200, 301), (40, 31), (65, 64), (500, 20)])
def test_preprocess_equals_open_clips_transform_pixel_for_pixel(size, mode):
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    image = coarse.resize(size, Image.Resampling.BICUBIC).convert(mode)
    config = VisionConfig(image_size=64, patch_size=8, width=32, layers=1, heads=1)
    expected = image_transform(64, is_train=False, mean=config.mean, std=config.std)(image)
    # one of 256 grey levels is 0.0145 here; the rest is the order of a division
    torch.testing.assert_close(Preprocess(config)(image), expected, rtol=0, atol=1e-6)


def test_the_default_mean_and_std_are_openais():
    config = VisionConfig()
    assert (config.mean, config.std) == (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)

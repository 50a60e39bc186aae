"""CLIP as a whole: lengths, temperature, logits, precision, and a first loss that says that nothing is known yet."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from minclip.config import CLIPConfig, MinclipError, TextConfig, VisionConfig
from minclip.losses import clip_loss
from minclip.model import CLIP, IMAGE_TOWERS
from minclip.presets import preset
from minclip.training.parallel import recompute_blocks

EOT = 49
CONFIG = CLIPConfig(
    embed_dim=24,
    vision=VisionConfig(image_size=16, patch_size=8, width=32, layers=2, heads=4),
    text=TextConfig(context_length=10, vocab_size=50, eot_id=EOT, width=32, layers=2, heads=4),
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def images(batch=6):
    return torch.randn(batch, 3, 16, 16)


def texts(batch=6):
    ids = torch.randint(1, EOT, (batch, 10))
    ids[:, -1] = EOT
    return ids


# ---- features (mistake 2)


@pytest.mark.parametrize(("encode", "inputs"), [("encode_image", images), ("encode_text", texts)])
def test_normalized_features_have_length_one(encode, inputs):
    features = getattr(CLIP(CONFIG), encode)(inputs(), normalize=True)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(6))


@pytest.mark.parametrize(("encode", "inputs"), [("encode_image", images), ("encode_text", texts)])
def test_normalizing_keeps_the_direction_only(encode, inputs):
    encode, x = getattr(CLIP(CONFIG), encode), inputs()
    plain = encode(x)
    torch.testing.assert_close(encode(x, normalize=True) * plain.norm(dim=-1, keepdim=True), plain)


@pytest.mark.parametrize(("encode", "inputs"), [("encode_image", images), ("encode_text", texts)])
def test_features_have_the_embedding_size(encode, inputs):
    assert getattr(CLIP(CONFIG), encode)(inputs()).shape == (6, 24)


@pytest.mark.parametrize("wrong", [[torch.zeros(3, 16, 16)], "a.jpg", torch.zeros(1, 3, 16, 16, dtype=torch.uint8)])
def test_images_that_are_no_floats_are_refused(wrong):
    with pytest.raises(MinclipError, match="preprocess"):
        CLIP(CONFIG).encode_image(wrong)


def test_texts_that_are_no_ids_are_refused():
    with pytest.raises(MinclipError, match="tokenizer"):
        CLIP(CONFIG).encode_text(["a dog"])


def test_forward_gives_features_of_length_one_and_the_scale():
    model, x, ids = CLIP(CONFIG), images(), texts()
    image, text, scale = model(x, ids)
    torch.testing.assert_close(image, model.encode_image(x, normalize=True))
    torch.testing.assert_close(text, model.encode_text(ids, normalize=True))
    torch.testing.assert_close(scale, model.logit_scale.exp())


# ---- temperature (mistakes 1, 3, 7, 8)


def test_the_scale_starts_at_one_over_007():
    assert CLIP(CONFIG)(images(), texts())[2].item() == pytest.approx(14.2857, abs=1e-3)


def test_the_scale_is_the_exponential_of_the_parameter():
    assert CLIP(replace(CONFIG, logit_scale_init=1.0))(images(), texts())[2].item() == pytest.approx(math.e)


def test_the_scale_is_a_parameter_that_learns():
    model = CLIP(CONFIG)
    clip_loss(*model(images(), texts())).backward()
    assert dict(model.named_parameters())["logit_scale"].grad.abs() > 0


@pytest.mark.parametrize("start", [math.log(101), 10.0, 20.0])
def test_the_scale_is_clamped_at_100(start):
    model = CLIP(replace(CONFIG, logit_scale_init=start))
    model.clamp_logit_scale()
    assert model.logit_scale.exp().item() == pytest.approx(100, rel=1e-5)


@pytest.mark.parametrize("start", [-3.0, 0.0, math.log(99)])
def test_a_smaller_scale_is_left_alone(start):
    model = CLIP(replace(CONFIG, logit_scale_init=start))
    model.clamp_logit_scale()
    assert model.logit_scale.item() == pytest.approx(start)


# ---- logits


def test_logits_have_a_row_an_image_and_a_row_a_text():
    per_image, per_text = CLIP(CONFIG).logits(images(5), texts(3))
    assert (per_image.shape, per_text.shape) == ((5, 3), (3, 5))


def test_logits_per_text_are_logits_per_image_turned():
    per_image, per_text = CLIP(CONFIG).logits(images(5), texts(3))
    assert torch.equal(per_image.T, per_text)


def test_logits_are_scaled_cosines():
    model, x, ids = CLIP(CONFIG), images(5), texts(3)
    cosines = torch.cosine_similarity(model.encode_image(x)[:, None], model.encode_text(ids)[None], dim=-1)
    torch.testing.assert_close(model.logits(x, ids)[0], cosines / 0.07)


# ---- precision (mistakes 10, 24)


def test_parameters_are_fp32():
    assert {p.dtype for p in CLIP(CONFIG).parameters()} == {torch.float32}


@pytest.mark.parametrize(("encode", "inputs"), [("encode_image", images), ("encode_text", texts)])
def test_bf16_features_point_where_fp32_ones_do(encode, inputs):
    encode, x = getattr(CLIP(CONFIG), encode), inputs()
    with torch.autocast("cpu", torch.bfloat16):
        low = encode(x)
    assert torch.cosine_similarity(low, encode(x), dim=-1).min() > 0.999


@pytest.mark.parametrize(("encode", "inputs"), [("encode_image", images), ("encode_text", texts)])
@pytest.mark.parametrize("normalize", [False, True])
def test_features_are_fp32_under_autocast(encode, inputs, normalize):
    with torch.autocast("cpu", torch.bfloat16):
        assert getattr(CLIP(CONFIG), encode)(inputs(), normalize=normalize).dtype == torch.float32


def test_bf16_features_have_length_one_to_fp32():
    # bf16 knows 3 digits: a norm taken in it would be off by 1e-3
    with torch.autocast("cpu", torch.bfloat16):
        image = CLIP(CONFIG).encode_image(images(), normalize=True)
    torch.testing.assert_close(image.norm(dim=-1), torch.ones(6), rtol=0, atol=1e-6)


def test_logits_are_fp32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        per_image, per_text = CLIP(CONFIG).logits(images(), texts())
    assert (per_image.dtype, per_text.dtype) == (torch.float32, torch.float32)


# ---- the start


@pytest.mark.parametrize(("name", "tower"), [("image_projection", "vision"), ("text_projection", "text")])
def test_projections_start_at_the_scale_of_their_tower(name, tower):
    model = CLIP(preset("shapes").model)
    width = getattr(model.config, tower).width
    assert getattr(model, name).weight.std().item() == pytest.approx(width**-0.5, rel=0.03)


def test_projections_have_no_bias():
    assert CLIP(CONFIG).image_projection.bias is None and CLIP(CONFIG).text_projection.bias is None


def test_every_parameter_gets_a_gradient():
    model = CLIP(CONFIG)
    clip_loss(*model(images(), texts())).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_the_same_seed_makes_the_same_model():
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(CLIP(CONFIG))
    assert all(torch.equal(a, b) for a, b in zip(models[0].state_dict().values(), models[1].state_dict().values()))


def first_loss(seed, normalize=True):
    """The loss of a new model of the `shapes` preset on one batch of noise and random words."""
    run = preset("shapes")
    config, batch, size = run.model, run.train.batch_size, run.data.image_size
    torch.manual_seed(seed)
    model = CLIP(config)
    ids = torch.randint(1, config.text.vocab_size - 2, (batch, 16))
    ids[:, -1] = config.text.vocab_size - 1
    with torch.no_grad():
        image = model.encode_image(torch.randn(batch, 3, size, size), normalize)
        text = model.encode_text(ids, normalize)
        return clip_loss(image, text, model.logit_scale.exp()).item()


LN_B = math.log(preset("shapes").train.batch_size)


@pytest.fixture(scope="module")
def first_losses():
    return [first_loss(seed) for seed in range(4)]


def test_the_first_loss_is_ln_b_on_average(first_losses):
    assert sum(first_losses) / len(first_losses) == pytest.approx(LN_B, rel=0.05)


def test_the_first_loss_is_at_most_that_of_random_directions(first_losses):
    # cosines of random directions have the variance 1 / D: logits of variance v cost v / 2 more than equal ones
    scale, embed_dim = 1 / 0.07, preset("shapes").model.embed_dim
    assert all(0.99 * LN_B < loss < LN_B + scale**2 / (2 * embed_dim) for loss in first_losses)


def test_the_first_loss_is_ln_b_for_every_seed(first_losses):
    assert first_losses == pytest.approx([LN_B] * len(first_losses), rel=0.05)


def test_features_that_are_not_normalised_would_start_far_from_ln_b():
    # what the tests above must notice
    assert first_loss(0, normalize=False) > 2 * LN_B


# ---- a tower of one's own: what the protocol `Tower` asks for is enough


class MeanColor(nn.Module):
    """The smallest tower: nothing but `config`, `width` and a forward pass."""

    def __init__(self, config):
        super().__init__()
        self.config, self.width = config, 7
        self.layer = nn.Linear(3, self.width)

    def forward(self, images):
        return self.layer(images.mean(dim=(2, 3))).relu()


def test_a_tower_needs_config_width_and_forward(monkeypatch):
    monkeypatch.setitem(IMAGE_TOWERS, "vit", lambda config: MeanColor(config.vision))
    model = CLIP(CONFIG)
    assert model.image_projection.weight.shape == (24, 7)
    plain = torch.autograd.grad(clip_loss(*model(images(), texts())), list(model.vision.parameters()))
    recompute_blocks(model.vision)  # without `blocks`, the tower is one block
    torch.manual_seed(0)
    model.resize(32)  # without `resize`, it takes images of any size
    assert model.config.vision.image_size == 32 and model.encode_image(torch.randn(2, 3, 32, 32)).shape == (2, 24)
    assert all(grad.abs().sum() > 0 for grad in plain)


def test_recomputed_blocks_have_the_same_gradients(monkeypatch):
    monkeypatch.setitem(IMAGE_TOWERS, "vit", lambda config: MeanColor(config.vision))
    model, inputs = CLIP(CONFIG), (images(), texts())
    parameters = list(model.parameters())
    plain = torch.autograd.grad(clip_loss(*model(*inputs)), parameters)
    for tower in (model.vision, model.text):
        recompute_blocks(tower)
    torch.testing.assert_close(torch.autograd.grad(clip_loss(*model(*inputs)), parameters), plain)

"""Weights of open_clip and transformers in minclip and back: values, gradients, bytes.  Random weights, real formats, real sizes."""

import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

open_clip = pytest.importorskip("open_clip")
transformers = pytest.importorskip("transformers")
from open_clip.loss import ClipLoss  # noqa: E402
from open_clip.model import CLIPTextCfg, CLIPVisionCfg  # noqa: E402

from minclip import CLIP, load  # noqa: E402
from minclip.config import CLIPConfig, MinclipError, TextConfig, VisionConfig  # noqa: E402
from minclip.losses import clip_loss, siglip_loss  # noqa: E402
from minclip.weights.load import save  # noqa: E402
from minclip.weights.names import OPEN_CLIP_NAMES, TRANSFORMERS_NAMES, config_of, their_names, to_theirs  # noqa: E402

VOCAB = 100
EOT = VOCAB - 1
TEXT = {"context_length": 12, "vocab_size": VOCAB, "width": 128, "heads": 2, "layers": 2}
VIT = {"layers": 2, "width": 128, "head_width": 64, "patch_size": 8, "image_size": 32}
RESNET = {"layers": [1, 2, 1, 1], "width": 16, "head_width": 64, "patch_size": None, "image_size": 64}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, data_home):
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def disturbed(model):
    """Biases, norms and running averages too, which start at 0 and 1 and would hide a mistake."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor += torch.rand_like(tensor)
            elif tensor.is_floating_point() and name != "logit_scale":
                tensor += 0.05 * torch.randn_like(tensor)
            elif name.endswith("num_batches_tracked"):
                tensor += 7
    return model.eval()


def open_clip_model(vision, quick_gelu):
    return disturbed(open_clip.model.CLIP(48, CLIPVisionCfg(**vision), CLIPTextCfg(**TEXT), quick_gelu=quick_gelu))


def open_clip_folder(model, vision, quick_gelu, folder):
    folder.mkdir()
    cfg = {"embed_dim": 48, "quick_gelu": quick_gelu, "vision_cfg": vision, "text_cfg": TEXT}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": cfg, "preprocess_cfg": {}}))
    torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def transformers_model(activation):
    text = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.CLIPConfig(
        text_config=text
        | {"vocab_size": VOCAB, "max_position_embeddings": 12, "hidden_act": activation, "eos_token_id": EOT},
        vision_config=text | {"image_size": 32, "patch_size": 8, "hidden_act": activation},
        projection_dim=48,
    )
    return disturbed(transformers.CLIPModel(config))


def batch(image_size):
    images, ids = torch.randn(6, 3, image_size, image_size), torch.randint(1, EOT - 1, (6, 12))
    ids[torch.arange(6), torch.tensor([2, 4, 6, 8, 10, 11])] = EOT
    return images, ids


CASES = [
    "vit gelu",
    "vit quick_gelu",
    "resnet gelu",
    "resnet quick_gelu",
    "transformers gelu",
    "transformers quick_gelu",
]


@pytest.fixture(scope="module", params=CASES)
def both(request, tmp_path_factory):
    """A peer's model and ours, loaded from the folder that the peer's was saved to; each has done one backward pass."""
    torch.manual_seed(0)
    kind, activation = request.param.split()
    folder = tmp_path_factory.mktemp("peer") / "model"
    if kind == "transformers":
        theirs, names, size = transformers_model(activation), TRANSFORMERS_NAMES, 32
        theirs.save_pretrained(folder)
        images, ids = batch(size)
        encode = (
            lambda x: theirs.get_image_features(pixel_values=x).pooler_output,
            lambda x: theirs.get_text_features(input_ids=x).pooler_output,
        )
        out = theirs(pixel_values=images, input_ids=ids)
        features = (out.image_embeds, out.text_embeds, theirs.logit_scale.exp())
    else:
        vision = VIT if kind == "vit" else RESNET
        theirs, names, size = open_clip_model(vision, activation == "quick_gelu"), OPEN_CLIP_NAMES, vision["image_size"]
        open_clip_folder(theirs, vision, activation == "quick_gelu", folder)
        images, ids = batch(size)
        encode = (theirs.encode_image, theirs.encode_text)
        features = theirs(images, ids)
    ours = load(folder)[0]
    ClipLoss()(*features).backward()
    clip_loss(*ours(images, ids)).backward()
    return SimpleNamespace(
        theirs=theirs,
        ours=ours,
        names=names,
        images=images,
        ids=ids,
        encode=encode,
        activation=activation,
        folder=folder,
    )


def test_every_parameter_was_loaded(both):
    ours, theirs = both.ours.state_dict(), both.theirs.state_dict()
    named = {theirs_name for name in ours for theirs_name in their_names(name, both.names)}
    assert named == {name for name in theirs if not name.endswith(("attn_mask", "position_ids"))}
    assert sum(t.numel() for t in ours.values()) == sum(theirs[name].numel() for name in named)


def test_the_activation_is_the_folders(both):
    assert both.ours.config.activation == both.activation


def test_image_features_are_equal(both):
    ours, theirs = both.ours.encode_image(both.images), both.encode[0](both.images)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("grad", [True, False], ids=["with a graph", "without"])
def test_text_features_are_equal(both, grad):
    with torch.set_grad_enabled(grad):
        ours, theirs = both.ours.encode_text(both.ids), both.encode[1](both.ids)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_gradients_of_every_parameter_are_equal(both):
    theirs = {name: parameter.grad for name, parameter in both.theirs.named_parameters()}
    # our gradients under their names: the same table turns them as it turns the weights
    graded = CLIP(both.ours.config)
    graded.load_state_dict(both.ours.state_dict())
    for name, parameter in both.ours.named_parameters():
        graded.get_parameter(name).data = parameter.grad
    ours = to_theirs(graded.state_dict(), both.names)
    for name, expected in theirs.items():
        size = expected.abs().max()
        assert size > 0, name  # or the comparison would be empty
        # a key's bias moves all scores of a row alike, which softmax ignores: its gradient is noise around 0
        torch.testing.assert_close(
            ours[name], expected, rtol=1e-4, atol=max(1e-4 * float(size), 1e-6), msg=(name + ": {}").format
        )


# ---- round trips: the same bytes of parameters


def bits(model):
    return {
        name: (
            tensor.dtype,
            tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes() if tensor.ndim else tensor.item(),
        )
        for name, tensor in model.state_dict().items()
    }


@pytest.mark.parametrize("format", ["minclip", "open_clip", "transformers"])
def test_a_round_trip_keeps_every_bit(both, format, tmp_path):
    if format == "transformers" and both.ours.config.vision.tower == "resnet":
        pytest.skip("transformers has no ResNet of CLIP")
    both.ours.save_pretrained(tmp_path / "there", format=format)
    again = load(tmp_path / "there")[0]
    eot_id = both.ours.config.text.eot_id % VOCAB  # -1 is the last one, too
    text = replace(again.config.text, eot_id=both.ours.config.text.eot_id)
    assert bits(again) == bits(both.ours) and again.config.text.eot_id % VOCAB == eot_id
    assert replace(again.config, text=text) == both.ours.config


def test_a_round_trip_through_the_peers_own_format_keeps_every_bit(both, tmp_path):
    # loaded from the peer, saved in the peer's format, loaded by the peer
    if both.names is TRANSFORMERS_NAMES:
        both.ours.save_pretrained(tmp_path / "there", format="transformers")
        again = transformers.CLIPModel.from_pretrained(tmp_path / "there")
    else:
        both.ours.save_pretrained(tmp_path / "there", format="open_clip")
        again = open_clip.create_model(f"local-dir:{tmp_path / 'there'}", load_weights=True)
    theirs = both.theirs.state_dict()
    assert {name: torch.equal(tensor, theirs[name]) for name, tensor in again.state_dict().items()} == dict.fromkeys(
        again.state_dict(), True
    )


def test_open_clip_gives_the_same_features_from_our_folder(both, tmp_path):
    both.ours.save_pretrained(tmp_path / "there", format="open_clip")
    again = open_clip.create_model(f"local-dir:{tmp_path / 'there'}", load_weights=True).eval()
    torch.testing.assert_close(
        again.encode_image(both.images), both.ours.encode_image(both.images), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(again.encode_text(both.ids), both.ours.encode_text(both.ids), rtol=1e-5, atol=1e-5)


# ---- every kind of file


@pytest.fixture
def vit():
    return open_clip_model(VIT, True)


def features_equal(ours, theirs):
    images, ids = batch(VIT["image_size"])
    torch.testing.assert_close(ours.encode_image(images), theirs.encode_image(images), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.encode_text(ids), theirs.encode_text(ids), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("around", ["", "state_dict", "model_state_dict", "model"])
def test_state_dicts_are_found_and_their_prefixes_taken_off(vit, here, prefix, around):
    # mistake 26
    tensors = {prefix + name: tensor for name, tensor in vit.state_dict().items()}
    torch.save({around: tensors, "epoch": 3, "name": "run"} if around else tensors, here / "weights.pt")
    features_equal(load(here / "weights.pt", activation="quick_gelu")[0], vit)


def test_a_safetensors_file_is_read(vit, here):
    from safetensors.torch import save_file

    save_file(vit.state_dict(), here / "weights.safetensors")
    features_equal(load(here / "weights.safetensors", activation="quick_gelu")[0], vit)


def test_an_old_pickle_of_torch_is_read(vit, here):
    torch.save(vit.state_dict(), here / "old.pt", _use_new_zipfile_serialization=False)
    features_equal(load(here / "old.pt", activation="quick_gelu")[0], vit)


def test_a_custom_text_clip_is_read(here):
    theirs = disturbed(open_clip.model.CustomTextCLIP(48, CLIPVisionCfg(**VIT), CLIPTextCfg(**TEXT), quick_gelu=True))
    torch.save(theirs.state_dict(), here / "custom.pt")
    features_equal(load(here / "custom.pt", activation="quick_gelu")[0], theirs)


def torchscript(model, path):
    """An archive as OpenAI publishes them: traced, in half precision, with three numbers beside the weights."""
    del model.context_length, model.vocab_size
    model.register_buffer("input_resolution", torch.tensor(32))
    model.register_buffer("context_length", torch.tensor(12))
    model.register_buffer("vocab_size", torch.tensor(VOCAB))
    images, ids = batch(32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace_module(model, {"encode_image": images[:1], "encode_text": ids[:1]}, check_trace=False)
        torch.jit.save(traced.half(), path)


def test_openais_kind_of_archive_is_read_as_data(vit, here, monkeypatch):
    torchscript(vit, here / "ViT.pt")
    monkeypatch.setattr(torch.jit, "load", None)  # TorchScript's loader must not be asked
    ours = load(here / "ViT.pt")[0]
    assert ours.config.activation == "quick_gelu" and {p.dtype for p in ours.parameters()} == {torch.float32}
    rounded = open_clip_model(VIT, True)
    rounded.load_state_dict({name: t.half().float() for name, t in vit.state_dict().items()}, strict=False)
    features_equal(ours, rounded)


def test_an_archive_of_a_resnet_is_read(here):
    vision = RESNET | {"image_size": 32}
    theirs = open_clip_model(vision, True)
    expected = {
        name: tensor.half().float() for name, tensor in theirs.state_dict().items() if tensor.is_floating_point()
    }
    torchscript(theirs, here / "RN.pt")
    ours = to_theirs(load(here / "RN.pt")[0].state_dict(), OPEN_CLIP_NAMES)
    assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items() if name != "attn_mask")


def test_transformers_pickles_are_read(here):
    theirs = transformers_model("quick_gelu")
    theirs.save_pretrained(here / "hf")
    (here / "hf" / "model.safetensors").unlink()
    torch.save(theirs.state_dict(), here / "hf" / "pytorch_model.bin")
    images, _ = batch(32)
    expected = theirs.get_image_features(pixel_values=images).pooler_output
    torch.testing.assert_close(load(here / "hf")[0].encode_image(images), expected, rtol=1e-5, atol=1e-5)


def test_the_old_end_token_of_transformers_configs_is_understood(here):
    # their first files say eos_token_id 2, and mean the largest id
    theirs = transformers_model("gelu")
    theirs.config.text_config.eos_token_id = theirs.text_model.config.eos_token_id = 2
    theirs.save_pretrained(here / "hf")
    assert load(here / "hf")[0].config.text.eot_id == -1


def test_a_file_within_its_folder_takes_the_config_along(vit, here):
    open_clip_folder(vit, VIT, True, here / "folder")
    assert load(here / "folder" / "open_clip_pytorch_model.bin")[0].config.activation == "quick_gelu"


def test_an_unknown_activation_is_warned_about(vit, here):
    torch.save(vit.state_dict(), here / "weights.pt")
    with pytest.warns(UserWarning, match=r"weights\.pt.*quick_gelu"):
        assert load(here / "weights.pt")[0].config.activation == "gelu"


def test_means_and_heads_come_from_the_config(here):
    vision = VIT | {"head_width": 32}
    theirs = open_clip_model(vision, False)
    folder = open_clip_folder(theirs, vision, False, here / "folder")
    values = json.loads((folder / "open_clip_config.json").read_text())
    values["preprocess_cfg"] = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
    (folder / "open_clip_config.json").write_text(json.dumps(values))
    ours, preprocess, _ = load(folder)
    features_equal(ours, theirs)
    assert (preprocess.config.mean, preprocess.config.heads) == ((0.5, 0.4, 0.3), 4)


def test_another_width_within_the_mlps_is_read_and_written(here):
    # as in OpenCLIP's ViT-g-14 and ViT-bigG-14
    vision = VIT | {"mlp_ratio": 4.9231}
    theirs = open_clip_model(vision, False)
    ours = load(open_clip_folder(theirs, vision, False, here / "folder"))[0]
    features_equal(ours, theirs)
    ours.save_pretrained(here / "there", format="open_clip")
    features_equal(ours, open_clip.create_model(f"local-dir:{here / 'there'}", load_weights=True).eval())
    ours.save_pretrained(here / "hugging", format="transformers")
    images, _ = batch(32)
    again = transformers.CLIPModel.from_pretrained(here / "hugging").get_image_features(pixel_values=images)
    torch.testing.assert_close(again.pooler_output, ours.encode_image(images), rtol=1e-5, atol=1e-5)


# ---- another resolution


@pytest.mark.parametrize("size", [48, 16, 32])
def test_resized_positions_equal_open_clips(here, size):
    theirs = open_clip_model(VIT, False)
    ours = load(open_clip_folder(theirs, VIT, False, here / "folder"))[0]
    ours.resize(size)
    larger, state = open_clip_model(VIT | {"image_size": size}, False), theirs.state_dict()
    open_clip.model.resize_pos_embed(state, larger)
    larger.load_state_dict(state)
    images = torch.randn(2, 3, size, size)
    torch.testing.assert_close(ours.encode_image(images), larger.encode_image(images), rtol=1e-5, atol=1e-5)


# ---- tokenizers and image processors that travel along


def test_transformers_reads_our_tokenizer_and_preprocessing(here):
    from PIL import Image

    from minclip import CLIPConfig, TextConfig, Tokenizer, VisionConfig
    from minclip.weights.load import Preprocess

    tokenizer = Tokenizer.from_openai()
    vision = VisionConfig(image_size=32, patch_size=8, width=64, layers=1, heads=1)
    model = CLIP(CLIPConfig(32, vision, TextConfig(width=64, layers=1, heads=1)))
    model.save_pretrained(here / "there", format="transformers", tokenizer=tokenizer)
    text = "Two dogs, running in the snow! 2024"
    assert transformers.CLIPTokenizer.from_pretrained(here / "there")(text)["input_ids"][1:-1] == tokenizer.encode(text)
    image = Image.effect_noise((50, 40), 80).convert("RGB")
    processor = transformers.AutoImageProcessor.from_pretrained(here / "there", use_fast=False)
    theirs = torch.as_tensor(processor(image, return_tensors="pt")["pixel_values"][0])
    torch.testing.assert_close(Preprocess(vision)(image), theirs, rtol=0, atol=1e-5)


# ---- the real sizes, once each

REAL = {"RN50": "RN50-quickgelu", "ViT-B/32": "ViT-B-32-quickgelu"}


@pytest.mark.parametrize(
    "name", [*REAL.values(), "RN50x64-quickgelu", "ViT-B-16", "ViT-L-14-336-quickgelu", "ViT-g-14"]
)
def test_the_sizes_of_a_model_are_read_from_its_shapes(name):
    theirs = open_clip.get_model_config(name)
    with torch.device("meta"):
        tensors = open_clip.model.CLIP(**theirs).state_dict()
        config = config_of(tensors, OPEN_CLIP_NAMES, {"activation": "gelu"})
        ours = CLIP(config).state_dict()
    vision, text = theirs["vision_cfg"], theirs["text_cfg"]
    layers = config.vision.stages if "RN" in name else config.vision.layers
    assert (config.vision.image_size, config.vision.width) == (vision["image_size"], vision["width"])
    assert layers == (tuple(vision["layers"]) if "RN" in name else vision["layers"])
    assert (config.embed_dim, config.text.context_length) == (theirs["embed_dim"], text["context_length"])
    assert {theirs for name in ours for theirs in their_names(name, OPEN_CLIP_NAMES)} == tensors.keys() - {"attn_mask"}
    assert (config.text.width, config.text.layers, config.text.heads) == (text["width"], text["layers"], text["heads"])


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_the_real_size_is_equal(name, here):
    theirs = open_clip.create_model(REAL[name]).eval()
    with torch.no_grad():
        for tensor_name, tensor in theirs.state_dict().items():
            if tensor_name.endswith(("running_mean", "running_var")):  # which start at 0 and 1
                tensor += 0.05 * torch.rand_like(tensor)
            if tensor_name.endswith("bn3.weight"):  # starts at 0, which would hide every block
                tensor.fill_(0.3)
    torch.save({"state_dict": theirs.state_dict()}, here / "weights.pt")
    ours = load(here / "weights.pt", activation="quick_gelu")[0]
    size = ours.config.vision.image_size
    images, ids = torch.randn(1, 3, size, size), torch.randint(1, 49000, (1, 77))
    ids[0, 0], ids[0, 9] = 49406, 49407
    ids[0, 10:] = 0
    for encode in ("encode_image", "encode_text"):
        x = images if encode == "encode_image" else ids
        mine, expected = getattr(ours, encode)(x), getattr(theirs, encode)(x)
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-5)
        weight = torch.randn_like(expected)
        (mine * weight).sum().backward()
        (expected * weight).sum().backward()
    ours.logit_scale.grad = theirs.logit_scale.grad = torch.zeros(())  # no part of the features
    for parameter in ours.parameters():
        parameter.data = parameter.grad
    gradients = to_theirs(ours.state_dict(), OPEN_CLIP_NAMES)
    for name, parameter in theirs.named_parameters():
        tolerance = max(1e-4 * float(parameter.grad.abs().max()), 1e-6)
        torch.testing.assert_close(
            gradients[name], parameter.grad, rtol=1e-4, atol=tolerance, msg=(name + ": {}").format
        )


# ---- SigLIP's bias


def test_a_siglip_model_goes_to_open_clip_and_back_with_its_bias(tmp_path):
    text = TextConfig(context_length=12, vocab_size=VOCAB, width=64, layers=1, heads=1)
    config = CLIPConfig(48, VisionConfig(image_size=32, patch_size=8, width=64, layers=1, heads=1), text, loss="siglip")
    ours = disturbed(CLIP(config))
    ours.logit_bias.data.fill_(-4.5)
    save(tmp_path / "there", ours, format="open_clip")
    theirs = open_clip.create_model(f"local-dir:{tmp_path / 'there'}").eval()
    images, ids = batch(32)
    with torch.no_grad():
        image, text_features, scale, bias = theirs(images, ids)
        torch.testing.assert_close(ours(images, ids), (image, text_features, scale), rtol=1e-5, atol=1e-5)
        assert bias == -4.5
    again = load(tmp_path / "there")[0]
    assert again.config.loss == "siglip" and again.logit_bias == -4.5
    with pytest.raises(MinclipError, match="loss"):
        save(tmp_path / "elsewhere", ours, format="transformers")


def test_the_siglip_loss_is_open_clips():
    image, text = (torch.nn.functional.normalize(torch.randn(6, 8), dim=-1).requires_grad_() for _ in range(2))
    scale, bias = torch.tensor(10.0, requires_grad=True), torch.tensor(-3.0, requires_grad=True)
    losses = open_clip.loss.SigLipLoss()(image, text, scale, bias), siglip_loss(image, text, scale, bias)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, (image, text, scale, bias)) for loss in losses))

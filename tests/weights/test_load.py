"""What `load` finds by name and path, what it refuses and how it says so; equality with the peers stands in tests/parity."""

import hashlib
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import minclip.weights.load
from minclip import CLIP, CLIPConfig, MinclipError, TextConfig, Tokenizer, VisionConfig, load
from minclip.weights.load import FILES, OPENAI, Preprocess, save
from minclip.weights.names import OPEN_CLIP_NAMES, TRANSFORMERS_NAMES, to_theirs

CONFIG = CLIPConfig(
    embed_dim=32,
    vision=VisionConfig(image_size=16, patch_size=8, width=64, layers=1, heads=1),
    text=TextConfig(context_length=8, vocab_size=520, width=64, layers=1, heads=1),
    activation="quick_gelu",
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch, data_home):
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def model():
    return CLIP(CONFIG)


def equal(a, b):
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


# ---- OpenAI's nine names


def test_openais_nine_names_are_known():
    assert list(OPENAI) == [
        *("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"),
        *("ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px"),
    ]


def openais_file(model, folder, name, monkeypatch, right_hash=True):
    """The model's weights as if they were OpenAI's file of that name."""
    folder.mkdir(parents=True)
    path = folder / (name.replace("/", "-").replace("@", "-") + ".pt")
    torch.save(to_theirs(model.state_dict(), OPEN_CLIP_NAMES), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if right_hash else "0" * 64
    monkeypatch.setitem(OPENAI, name, (digest, "none"))
    return path


@pytest.mark.parametrize("name", ["ViT-B/32", "ViT-L/14@336px"])
@pytest.mark.parametrize("place", ["data", "cache"])
def test_openais_file_is_found_where_it_lies(model, here, data_home, monkeypatch, name, place):
    folder = data_home if place == "data" else here / "home" / ".cache" / "clip"
    openais_file(model, folder, name, monkeypatch)
    loaded = load(name)[0]
    assert equal(loaded, model) and loaded.config.activation == "quick_gelu"


def test_a_file_with_another_hash_is_refused(model, here, data_home, monkeypatch):
    path = openais_file(model, data_home, "ViT-B/32", monkeypatch, right_hash=False)
    with pytest.raises(MinclipError, match=r"ViT-B-32\.pt is not OpenAI's ViT-B/32.* 0000"):
        load("ViT-B/32")
    with pytest.raises(MinclipError, match="is not OpenAI's"):  # by its path, too
        load(path)
    with pytest.raises(MinclipError, match="is not OpenAI's"):  # and by its name in data/
        load("ViT-B-32.pt")
    path.rename(here / path.name)
    assert equal(load(here / path.name, activation="quick_gelu")[0], model)  # elsewhere it is one's own file


@pytest.mark.parametrize("name", OPENAI)
def test_without_a_network_the_message_tells_what_to_download_and_where_to_put_it(name, data_home):
    with pytest.raises(MinclipError) as error:
        load(name)
    message = str(error.value)
    assert f"{OPENAI[name][0]}/{name.replace('/', '-').replace('@', '-')}.pt " in message
    assert str(data_home) in message and message.count("https://") == 1


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ViT-B/23", "ViT-B/32"),
        ("ViT-B-32", "ViT-B/32"),
        ("RN51", "RN50"),
        ("ViT-L/14@336", "ViT-L/14@336px"),
        ("rn50", "RN50"),
    ],
)
def test_an_unknown_name_tells_the_nearest(name, nearest):
    with pytest.raises(MinclipError, match=f"'{name}'.*did you mean '{nearest}'"):
        load(name)


@pytest.mark.parametrize("name", ["./missing.pt", "/nowhere/model.pt", "weights/ViT-B-32.pt", "gone.safetensors"])
def test_a_file_that_is_not_there_is_no_name(name):
    with pytest.raises(MinclipError, match=name):
        load(name)


@pytest.mark.parametrize("name", ["a" * 300, "a/b/c", "ViT-B\\32"])
def test_what_can_be_neither_path_nor_name_is_told(name):
    with pytest.raises(MinclipError, match="RN50, RN101"):
        load(name)


# ---- the hub


@pytest.fixture
def hub(model, here, monkeypatch):
    """A hub with one repository, in a folder; a file comes into the cache when it is asked for, and not before."""
    repository, cache = here / "hub", here / "cache"
    repository.mkdir()
    cache.mkdir()

    def hub_file(repo, name, *, by_hand=None, missing_ok=False):
        there = (repository / name).exists()
        assert there or missing_ok
        return Path(shutil.copy(repository / name, cache / name)) if there else None

    for module in (minclip.weights.load, minclip.weights.openai):
        monkeypatch.setattr(module, "hub_file", hub_file)
    return repository


@pytest.mark.parametrize("format", ["open_clip", "transformers"])
@pytest.mark.parametrize("name", ["owner/name", "hf-hub:owner/name", "laion/CLIP-ViT-B-32", "openai/clip-vit-b-32"])
def test_a_repository_is_opened_in_either_format(model, hub, format, name):
    save(hub, model, format=format)
    loaded = load(name)[0]
    assert equal(loaded, model) and loaded.config.activation == "quick_gelu"


def test_a_repository_with_pickled_weights_only_is_opened(model, hub):
    save(hub, model, format="open_clip")
    (hub / FILES["open_clip"][0]).unlink()
    torch.save(to_theirs(model.state_dict(), OPEN_CLIP_NAMES), hub / FILES["open_clip"][1])
    assert equal(load("owner/name")[0], model)


def test_a_repository_without_weights_is_refused(hub):
    with pytest.raises(MinclipError, match=r"owner/name.*open_clip_model\.safetensors"):
        load("owner/name")


@pytest.mark.parametrize("format", ["open_clip", "transformers"])
def test_all_that_belongs_to_a_model_comes_along(hub, format):
    vision = replace(CONFIG.vision, mean=(0.1, 0.2, 0.3))
    tokenizer = Tokenizer.train(["a red circle"] * 4, 520)
    CLIP(replace(CONFIG, vision=vision)).save_pretrained(hub, format=format, tokenizer=tokenizer)
    _, preprocess, read = load("owner/name")
    assert preprocess.config.mean == (0.1, 0.2, 0.3) and read.merges == tokenizer.merges


def test_openais_weights_come_from_the_hub(model, hub):
    save(hub, model, format="open_clip")
    (hub / "open_clip_config.json").unlink()  # the activation is the name's to tell
    loaded = load("ViT-B/32")[0]
    assert equal(loaded, model) and loaded.config.activation == "quick_gelu"


# ---- files that are no CLIP


def weights(model, here, change, names=OPEN_CLIP_NAMES):
    tensors = to_theirs(model.state_dict(), names)
    change(tensors)
    torch.save(tensors, here / "weights.pt")
    return here / "weights.pt"


def test_weights_of_something_else_are_refused(here):
    torch.save({"conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(2)}, here / "resnet.pt")
    with pytest.raises(MinclipError, match=r"resnet\.pt.*conv1\.weight, fc\.bias"):
        load(here / "resnet.pt")


@pytest.mark.parametrize("names", [OPEN_CLIP_NAMES, TRANSFORMERS_NAMES])
def test_missing_weights_are_listed_by_their_own_names(model, here, names):
    gone = [name for name in to_theirs(model.state_dict(), names) if "mlp" in name]
    path = weights(model, here, lambda tensors: [tensors.pop(name) for name in gone], names)
    with pytest.raises(MinclipError, match=f"8 missing: {', '.join(sorted(gone))}"):
        load(path, activation="gelu")


def test_surplus_weights_are_listed_ten_at_most(model, here):
    path = weights(
        model, here, lambda tensors: tensors.update({f"visual.extra{i:02}": torch.zeros(1) for i in range(12)})
    )
    with pytest.raises(MinclipError, match=r"12 unknown: visual\.extra00, .*visual\.extra09$"):
        load(path, activation="gelu")


@pytest.mark.parametrize("gone", ["visual.transformer.resblocks.1.ln_1.weight", "transformer.resblocks.0.ln_1.weight"])
def test_a_missing_weight_is_named_wherever_it_stands(here, gone):
    # and not taken for the end of the tower
    vision, text = replace(CONFIG.vision, layers=3), replace(CONFIG.text, layers=3)
    path = weights(CLIP(replace(CONFIG, vision=vision, text=text)), here, lambda tensors: tensors.pop(gone))
    with pytest.raises(MinclipError, match=f"1 missing: {gone}$"):
        load(path, activation="gelu")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("token_embedding.weight", torch.zeros(5)),
        ("token_embedding.weight", torch.zeros(0, 64)),
        ("visual.class_embedding", torch.zeros(())),
        ("visual.conv1.weight", torch.zeros(64)),
        ("text_projection", torch.zeros(64)),
        ("visual.positional_embedding", torch.zeros(0, 64)),
        ("visual.positional_embedding", torch.zeros(6, 64)),
        ("logit_scale", torch.zeros(2)),
        ("ln_final.weight", torch.zeros(64, dtype=torch.int8)),
        ("ln_final.weight", torch.zeros(64, dtype=torch.complex64)),
        ("ln_final.weight", torch.zeros(64).to_sparse()),
    ],
)
def test_a_tensor_that_can_not_be_right_is_told(model, here, name, tensor):
    path = weights(model, here, lambda tensors: tensors.update({name: tensor}))
    with pytest.raises(MinclipError, match=r"weights\.pt") as error:
        load(path, activation="gelu")
    assert name.split(".")[-2 if "." in name else 0].removeprefix("ln_") in str(error.value)


def test_weights_of_another_shape_are_listed(model, here):
    path = weights(
        model, here, lambda tensors: tensors.update({"transformer.resblocks.0.mlp.c_fc.bias": torch.zeros(7)})
    )
    with pytest.raises(MinclipError, match=r"transformer\.resblocks\.0\.mlp\.c_fc\.bias \(7,\), not \(256,\)"):
        load(path, activation="gelu")


def test_a_tower_that_is_missing_is_told(model, here):
    path = weights(model, here, lambda tensors: [tensors.pop(n) for n in list(tensors) if n.startswith("visual.")])
    with pytest.raises(MinclipError, match=r"weights\.pt.*both towers.*ln_final"):
        load(path, activation="gelu")


def test_our_own_weights_without_their_config_are_told(model, here):
    model.save_pretrained(here / "mine")
    (here / "mine" / "config.json").unlink()
    with pytest.raises(MinclipError, match=r"model\.safetensors.*config\.json"):
        load(here / "mine" / "model.safetensors")


def test_our_own_weights_by_file_take_their_config_along(model, here):
    model.save_pretrained(here / "mine")
    assert equal(load(here / "mine" / "model.safetensors")[0], model)


def test_an_activation_that_does_not_exist_is_refused(model, here):
    path = weights(model, here, lambda tensors: None)
    with pytest.raises(MinclipError, match=r"'relu'.*gelu, quick_gelu"):
        load(path, activation="relu")


# ---- configs of other architectures


@pytest.mark.parametrize(
    ("group", "field", "value"),
    [
        ("vision_cfg", "timm_model_name", "vit_base_patch16_224"),
        ("text_cfg", "mlp_ratio", 4.9),
        ("vision_cfg", "ls_init_value", 1e-5),
        ("vision_cfg", "attentional_pool", True),
        ("text_cfg", "hf_model_name", "roberta-base"),
        ("text_cfg", "no_causal_mask", True),
        ("text_cfg", "pool_type", "last"),
    ],
)
def test_another_architecture_of_open_clip_is_refused_by_its_field(model, here, group, field, value):
    save(here / "theirs", model, format="open_clip")
    path = here / "theirs" / "open_clip_config.json"
    values = json.loads(path.read_text())
    values["model_cfg"][group][field] = value
    path.write_text(json.dumps(values))
    with pytest.raises(MinclipError, match=rf"open_clip_config\.json.*{group}\.{field} = "):
        load(here / "theirs")


@pytest.mark.parametrize(("field", "value"), [("mlp_ratio", 4.0), ("ls_init_value", None), ("pool_type", "tok")])
def test_a_field_that_says_what_clip_does_is_fine(model, here, field, value):
    save(here / "theirs", model, format="open_clip")
    path = here / "theirs" / "open_clip_config.json"
    values = json.loads(path.read_text())
    values["model_cfg"]["vision_cfg"][field] = value
    path.write_text(json.dumps(values))
    assert equal(load(here / "theirs")[0], model)


def change_transformers_config(folder, change):
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))


def test_another_type_of_transformers_is_refused(model, here):
    save(here / "theirs", model, format="transformers")
    change_transformers_config(here / "theirs", lambda values: values.update(model_type="siglip"))
    with pytest.raises(MinclipError, match=r"config\.json.*'siglip'"):
        load(here / "theirs")


def test_two_activations_are_refused(model, here):
    save(here / "theirs", model, format="transformers")
    change_transformers_config(here / "theirs", lambda values: values["vision_config"].update(hidden_act="gelu"))
    with pytest.raises(MinclipError, match=r"hidden_act.*'gelu', 'quick_gelu'"):
        load(here / "theirs")


@pytest.mark.parametrize("format", ["open_clip", "transformers"])
def test_a_folder_without_weights_is_told(model, here, format):
    save(here / "theirs", model, format=format)
    next((here / "theirs").glob("*.safetensors")).unlink()
    with pytest.raises(MinclipError, match=r"theirs.*\.safetensors"):
        load(here / "theirs")


@pytest.mark.parametrize("format", ["open_clip", "transformers"])
def test_mean_and_std_come_back(here, format):
    vision = replace(CONFIG.vision, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    CLIP(replace(CONFIG, vision=vision)).save_pretrained(here / "there", format=format)
    assert load(here / "there")[1].config == vision


def test_another_way_of_preparing_images_is_warned_about(model, here):
    save(here / "theirs", model, format="open_clip")
    path = here / "theirs" / "open_clip_config.json"
    values = json.loads(path.read_text())
    values["preprocess_cfg"]["resize_mode"] = "squash"
    path.write_text(json.dumps(values))
    with pytest.warns(UserWarning, match="config.json.*bicubic"):
        load(here / "theirs")


def test_another_epsilon_is_refused(model, here):
    save(here / "theirs", model, format="transformers")
    change_transformers_config(here / "theirs", lambda values: values["text_config"].update(layer_norm_eps=0.1))
    with pytest.raises(MinclipError, match=r"layer_norm_eps.*1e-05"):
        load(here / "theirs")


def test_another_way_of_preparing_images_in_transformers_is_warned_about(model, here):
    save(here / "theirs", model, format="transformers")
    values = json.loads((here / "theirs" / "preprocessor_config.json").read_text())
    (here / "theirs" / "preprocessor_config.json").write_text(json.dumps(values | {"do_center_crop": False}))
    with pytest.warns(UserWarning, match="config.json.*bicubic"):
        load(here / "theirs")


def damage(folder, path, value):
    """Sets one field of a folder's config, deep down, to something that it can't be."""
    file = next(f for f in (folder / "open_clip_config.json", folder / "config.json") if f.exists())
    values = json.loads(file.read_text())
    place = values
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    file.write_text(json.dumps(values))
    return file


@pytest.mark.parametrize(
    ("format", "path", "value"),
    [
        ("open_clip", ["model_cfg"], []),
        ("open_clip", ["model_cfg", "vision_cfg"], None),
        ("open_clip", ["model_cfg", "vision_cfg", "width"], "64"),
        ("open_clip", ["model_cfg", "vision_cfg", "head_width"], 0),
        ("open_clip", ["preprocess_cfg", "mean"], 0.5),
        ("open_clip", ["preprocess_cfg", "mean"], [0.5, 0.5]),
        ("open_clip", ["preprocess_cfg", "std"], [0.5, 0.5, 0]),
        ("transformers", ["vision_config"], [1]),
        ("transformers", ["vision_config", "hidden_act"], ["gelu"]),
        ("transformers", ["vision_config", "num_attention_heads"], "1"),
        ("transformers", ["text_config", "eos_token_id"], None),
    ],
)
def test_a_damaged_config_is_told_by_its_file(model, here, format, path, value):
    save(here / "theirs", model, format=format)
    file = damage(here / "theirs", path, value)
    with pytest.raises(MinclipError, match=re.escape(str(file))):
        load(here / "theirs")


@pytest.mark.parametrize("format", ["open_clip", "transformers"])
def test_damaged_weights_are_not_blamed_on_the_config(model, here, format):
    save(here / "theirs", model, format=format)
    path = next((here / "theirs").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(MinclipError, match=f"^{re.escape(str(path))}"):
        load(here / "theirs")


# ---- two formats side by side


def test_a_file_that_was_named_is_the_one_that_is_opened(here):
    # as in repositories that hold both formats
    first, second = CLIP(CONFIG), CLIP(CONFIG)
    save(here / "both", first, format="open_clip")
    save(here / "other", second, format="transformers")
    for file in (here / "other").iterdir():
        shutil.copy(file, here / "both")
    assert equal(load(here / "both" / "model.safetensors")[0], second)
    assert equal(load(here / "both" / "open_clip_model.safetensors")[0], first)


def test_a_file_beside_other_jsons_is_opened_alone(model, here):
    save(here / "there", model, format="transformers")
    (here / "there" / "config.json").unlink()
    assert equal(load(here / "there" / "model.safetensors", activation="quick_gelu")[0], model)


@pytest.mark.parametrize(
    ("first", "second"), [("open_clip", "minclip"), ("open_clip", "transformers"), ("minclip", "transformers")]
)
def test_two_formats_do_not_share_a_folder(model, here, first, second):
    model.save_pretrained(here / "there", format=first)
    with pytest.raises(MinclipError, match=f"there.*format {first}"):
        CLIP(CONFIG).save_pretrained(here / "there", format=second)
    assert equal(load(here / "there")[0], model)


# ---- saving for others


@pytest.mark.parametrize("format", ["minclip", "open_clip", "transformers"])
def test_a_tokenizer_travels_along(model, here, format):
    tokenizer = Tokenizer.train(["a red circle"] * 4, 520)
    model.save_pretrained(here / "there", format=format, tokenizer=tokenizer)
    assert load(here / "there")[2].merges == tokenizer.merges


@pytest.mark.parametrize(
    ("change", "format"),
    [
        ({"vision": {"stem": "conv"}}, "open_clip"),
        ({"vision": {"pool": "mean"}}, "transformers"),
        ({"vision": {"tower": "resnet", "image_size": 32, "patch_size": 32, "layers": 12}}, "transformers"),
        ({"text": {"tower": "bag", "layers": 12, "heads": 8}}, "open_clip"),
        ({"text": {"eot_id": 3}}, "open_clip"),
    ],
)
def test_a_model_that_the_others_lack_is_refused(here, change, format):
    groups = {name: replace(getattr(CONFIG, name), **fields) for name, fields in change.items()}
    with pytest.raises(MinclipError, match=f"^{format} .*a plain ViT"):
        CLIP(replace(CONFIG, **groups)).save_pretrained(here / "there", format=format)
    assert not (here / "there").exists()


def test_an_unknown_format_tells_the_nearest(model, here):
    with pytest.raises(MinclipError, match=r"'openclip'.*did you mean 'open_clip'"):
        model.save_pretrained(here / "there", format="openclip")


# ---- images


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I", "F", "I;16"])
def test_an_image_of_one_pixel_in_any_mode_works(mode):
    out = Preprocess(CONFIG.vision)(Image.new(mode, (1, 1)))
    assert out.shape == (3, 16, 16) and out.dtype == torch.float32 and out.isfinite().all()


@pytest.mark.parametrize("size", [(1, 500), (500, 1), (2000, 3)])
def test_a_very_long_image_works(size):
    assert Preprocess(CONFIG.vision)(Image.new("RGB", size)).shape == (3, 16, 16)


def test_an_image_without_pixels_is_refused():
    with pytest.raises(MinclipError, match="0 × 5 pixels"):
        Preprocess(CONFIG.vision)(Image.new("RGB", (0, 5)))


def test_an_image_that_is_cut_off_is_told():
    file = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(file, "PNG")
    with pytest.raises(MinclipError, match="can't be read to its end"):
        Preprocess(CONFIG.vision)(Image.open(io.BytesIO(file.getvalue()[:1000])))


@pytest.mark.parametrize("image", [None, 5, "photo.jpg"])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(MinclipError, match=f"an image must be a PIL image, not {type(image).__name__}"):
        Preprocess(CONFIG.vision)(image)

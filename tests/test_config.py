"""Every setting: there and back through JSON, and a message that names the field for whatever is wrong."""

import dataclasses
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from minclip.cli.train import for_towers
from minclip.config import (
    CLIPConfig,
    DataConfig,
    LoopConfig,
    MinclipError,
    TextConfig,
    TrainConfig,
    VisionConfig,
    nearest,
    unused_fields,
)
from minclip.presets import PRESETS, preset, small
from minclip.weights.config_json import from_dict, to_dict
from minclip.weights.hub import data_folder

ROOT = Path(__file__).parent.parent


def plain(config):
    """A config as JSON gives it back: lists for tuples, no classes."""
    return json.loads(json.dumps(to_dict(config)))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    assert from_dict(TrainConfig, plain(PRESETS[name])) == PRESETS[name]


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["shapes"].train.lr = 1.0


@pytest.mark.parametrize(
    ("group", "wrong", "right"),
    [("train", "batchsize", "batch_size"), ("data", "imagesize", "image_size"), ("model", "embed_dims", "embed_dim")],
)
def test_an_unknown_field_names_file_group_and_the_nearest(group, wrong, right):
    values = plain(TrainConfig())
    values[group][wrong] = 1
    with pytest.raises(MinclipError, match=rf"here\.json: {group}\.{wrong} .*'{right}'"):
        from_dict(TrainConfig, values, "here.json")


# ---- files of other versions


def test_a_field_that_is_younger_than_the_file_takes_its_default():
    values = plain(preset("shapes"))
    for group in (values["data"], values["model"]["text"], values["train"]):
        group.pop(next(name for name in reversed(group)))  # the last of each, whatever its name
    assert from_dict(TrainConfig, values) == preset("shapes")
    del values["model"]["vision"]["stages"], values["train"]["beta1"]
    assert from_dict(TrainConfig, values) == preset("shapes")


def test_a_missing_group_is_no_younger_field():
    values = plain(TrainConfig())
    del values["train"], values["data"]
    with pytest.raises(MinclipError, match=r"here\.json lacks data, train"):
        from_dict(TrainConfig, values, "here.json")


OPTIONAL = [
    *((VisionConfig, "mlp_width"), (DataConfig, "size"), (DataConfig, "first_size")),
    *((LoopConfig, name) for name in ("vision_lr", "text_lr", "micro_batch", "loss_chunk", "eval_every")),
    *((LoopConfig, name) for name in ("minutes", "overfit")),
]


@pytest.mark.parametrize(("cls", "field"), OPTIONAL)
def test_a_0_of_an_earlier_version_means_none(cls, field):
    assert getattr(cls(), field) is None
    assert cls(**{field: 0}) == cls() == from_dict(cls, {**plain(cls()), field: 0}) == from_dict(cls, plain(cls()))


def test_a_file_keeps_loading_with_fields_that_its_tower_does_not_use():
    values = plain(TrainConfig())
    values["model"]["vision"] |= {"tower": "timm:test_vit", "patch_size": 16, "stem": "conv"}
    values["model"] |= {"activation": "quick_gelu"}
    values["model"]["text"] |= {"tower": "bag", "layers": 3}
    config = from_dict(TrainConfig, values)
    assert (config.model.vision.tower, config.model.vision.patch_size) == ("timm:test_vit", 32)
    assert (config.model.text.tower, config.model.text.layers) == ("bag", 12)


def test_the_demos_config_loads_unchanged():
    values = json.loads((ROOT / "data" / "demo" / "config.json").read_text())
    groups = {name: values[name] for name in ("data", "model", "train")}
    again = plain(from_dict(TrainConfig, groups))

    def kept(old, new):
        return all(kept(v, new[k]) if isinstance(v, dict) else (v or None) == (new[k] or None) for k, v in old.items())

    assert kept(groups, again)


# ---- types, ranges, choices


WRONG_TYPES = [
    (LoopConfig, "batch_size", "8"),
    (LoopConfig, "batch_size", 8.0),
    (LoopConfig, "batch_size", True),  # bool is an int in Python, but not here
    (LoopConfig, "lr", "fast"),
    (LoopConfig, "lr", None),
    (LoopConfig, "device", 0),
    (DataConfig, "flip", 1),
    (DataConfig, "size", "all"),
    (VisionConfig, "mean", [0.5, 0.5]),
    (VisionConfig, "mean", ["a", "b", "c"]),
    (VisionConfig, "mean", 0.5),
    (VisionConfig, "tower", 3),
    (CLIPConfig, "vision", 224),
    (TrainConfig, "data", ["shapes"]),
]


@pytest.mark.parametrize(("cls", "field", "value"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_names_file_and_field(cls, field, value):
    with pytest.raises(MinclipError, match=rf"here\.json: .*{field} "):
        from_dict(cls, {**plain(cls()), field: value}, "here.json")


HUGE = 10**12  # 10**400 is a number in JSON, too
OUT_OF_RANGE = [
    *((VisionConfig, "patch_size", n) for n in (0, HUGE)),
    *((VisionConfig, "image_size", n) for n in (0, 225, 32 * HUGE)),  # 225 is no multiple of 32
    *((VisionConfig, "width", n) for n in (767, 12 * HUGE)),  # 767 is no multiple of 12 heads
    *((VisionConfig, "layers", n) for n in (0, HUGE)),
    *((VisionConfig, "mlp_width", n) for n in (-1, HUGE)),
    *((VisionConfig, "patch_dropout", x) for x in (1.0, -0.1, 10**400)),
    *((VisionConfig, "mean", x) for x in ((0.5, 0.5), (0.5, 0.5, math.nan))),
    *((VisionConfig, "std", x) for x in ((0.5, 0.5, 0.0), (0.5, 0.5, math.inf))),
    (VisionConfig, "heads", -1),
    (VisionConfig, "stages", (1, 1, 0, 1)),
    (VisionConfig, "tower", "vat"),
    *((TextConfig, "context_length", n) for n in (2, HUGE)),
    *((TextConfig, "eot_id", n) for n in (49408, -2)),
    *((TextConfig, "width", n) for n in (511, 8 * HUGE)),
    *((TextConfig, "layers", n) for n in (0, HUGE)),
    *((TextConfig, "vocab_size", n) for n in (0, HUGE)),
    (TextConfig, "tower", "hf"),
    *((CLIPConfig, "embed_dim", n) for n in (0, HUGE)),
    (CLIPConfig, "activation", "relu"),
    (CLIPConfig, "logit_scale_init", 1e308),
    *((DataConfig, "image_size", n) for n in (0, 32 * HUGE)),
    *((DataConfig, "size", n) for n in (-1, HUGE)),
    *((DataConfig, "min_crop", x) for x in (0.0, 1.1)),
    *((DataConfig, "color", x) for x in (-0.1, 1.1)),
    *((DataConfig, "first_size", n) for n in (40, 80, -16)),  # no multiple of 16, and above image_size
    *((LoopConfig, "seed", n) for n in (-1, 10**30)),
    *((LoopConfig, "batch_size", n) for n in (1, HUGE)),  # one pair has no negatives
    *((LoopConfig, "loss_chunk", n) for n in (-1, 10**30)),
    *((LoopConfig, "micro_batch", n) for n in (-1, 10**30)),
    *((LoopConfig, "lr", x) for x in (0.0, math.nan, math.inf)),
    *((LoopConfig, "vision_lr", x) for x in (-1e-5, math.nan)),
    *((LoopConfig, "layer_decay", x) for x in (0.0, 1.1, math.nan)),
    (LoopConfig, "heads_first", 1.1),
    (LoopConfig, "warmup", 1.0),
    (LoopConfig, "weight_decay", -0.1),
    *((LoopConfig, "grad_clip", x) for x in (0.0, 10**400)),
    *((LoopConfig, name, 1.0) for name in ("beta1", "beta2", "ema")),
    *((LoopConfig, "steps", n) for n in (0, HUGE)),
    *((LoopConfig, "minutes", x) for x in (-1.0, math.inf, 1e308)),
    *((LoopConfig, "log_every", n) for n in (0, HUGE)),
    *((LoopConfig, "checkpoint_every", n) for n in (0, HUGE)),
    *((LoopConfig, "eval_every", n) for n in (-1, HUGE)),
    *((LoopConfig, "overfit", n) for n in (1, HUGE)),
    *((LoopConfig, "label_smoothing", x) for x in (1.0, -0.1)),
    (LoopConfig, "unmasked_last", 1.1),
    (LoopConfig, "precision", "fp8"),
    (LoopConfig, "optimizer", "sgd"),
]


@pytest.mark.parametrize(("cls", "field", "value"), OUT_OF_RANGE, ids=lambda x: f"{x!r:.20}")
def test_a_value_out_of_range_names_the_field(cls, field, value):
    with pytest.raises(MinclipError, match=field.replace("image_size", "image.size")):
        cls(**{field: value})


@pytest.mark.parametrize(("cls", "field", "value"), [(LoopConfig, "lr", math.nan), (TextConfig, "eot_id", 49408)])
def test_a_value_out_of_range_is_repeated_in_the_message(cls, field, value):
    with pytest.raises(MinclipError, match=rf"\.{field} {value}"):
        cls(**{field: value})


# ---- two fields


def test_the_tower_follows_the_size_of_the_data():
    assert TrainConfig(data=DataConfig(image_size=96)).model.vision.image_size == 96
    shapes = PRESETS["shapes"]
    changed = replace(shapes, data=replace(shapes.data, image_size=32))
    assert changed.model.vision.image_size == 32
    wider = replace(changed.model, vision=replace(changed.model.vision, width=64))
    assert replace(changed, model=wider, data=replace(shapes.data, image_size=48)).model.vision.image_size == 48


@pytest.mark.parametrize("size", [224, 32])  # 224 is the default, but here somebody chose it
def test_two_image_sizes_that_disagree_are_refused(size):
    model = CLIPConfig(vision=VisionConfig(image_size=size))
    with pytest.raises(MinclipError, match=rf"data\.image_size 64 .*model\.vision\.image_size {size}"):
        TrainConfig(data=DataConfig(image_size=64), model=model)
    assert TrainConfig(data=DataConfig(image_size=size), model=model).model.vision.image_size == size
    assert small(image_size=32, patch_size=8, width=32, layers=1, text_layers=1, vocab_size=600).vision.image_size == 32


def test_a_data_size_that_the_patches_do_not_divide_is_refused():
    with pytest.raises(MinclipError, match=r"image size 100 .*model\.vision\.patch_size 32"):
        TrainConfig(data=DataConfig(image_size=100))


RESNET, SMALL_RESNET, TIMM = {"tower": "resnet"}, {"tower": "small_resnet"}, {"tower": "timm:test_vit"}
BAG, HF = {"tower": "bag"}, {"tower": "hf:a"}
UNUSED = [
    *((VisionConfig, SMALL_RESNET | {name: value}, name) for name, value in [("heads", 8), ("pool", "mean")]),
    *((VisionConfig, RESNET | {name: value}, name) for name, value in [("stem", "conv"), ("dropout", 0.1)]),
    *((VisionConfig, TIMM | {name: value}, name) for name, value in [("width", 64), ("patch_dropout", 0.5)]),
    (VisionConfig, {"stages": (1, 1, 1, 1)}, "stages"),
    (VisionConfig, {"stem_width": 8}, "stem_width"),  # of no convolution
    (TextConfig, BAG | {"layers": 3}, "layers"),
    (TextConfig, HF | {"dropout": 0.1}, "dropout"),
    (TextConfig, {"hf_config": "{}"}, "hf_config"),
    (DataConfig, {"workers": 4}, "workers"),
    (DataConfig, {"root": "there"}, "root"),
    (DataConfig, {"name": "flickr8k", "image_column": "photo"}, "image_column"),
    (DataConfig, {"name": "shards", "image_column": "photo"}, "image_column"),
    (DataConfig, {"name": "flickr8k", "caption_column": "title"}, "caption_column"),
]


@pytest.mark.parametrize(("cls", "values", "field"), UNUSED)
def test_a_field_that_would_have_no_effect_is_refused(cls, values, field):
    with pytest.raises(MinclipError, match=rf"\.{field}"):
        cls(**values)


def config(vision=None, text=None, data=None, **loop):
    """A config whose towers and loop are given; other fields of the model may stand among the loop's."""
    model = {name: loop.pop(name) for name in ("loss", "activation") if name in loop}
    towers = {"vision": VisionConfig(**(vision or {})), "text": TextConfig(**(text or {}))}
    return TrainConfig(DataConfig(**(data or {})), CLIPConfig(**towers, **model), LoopConfig(**loop))


TOGETHER = [
    ({"vision": SMALL_RESNET, "text": BAG, "activation": "quick_gelu"}, "model.activation"),
    ({"data": {"first_size": 32}}, "data.first_size"),
    ({"loss": "siglip", "label_smoothing": 0.1}, "train.label_smoothing"),
    ({"optimizer": "muon", "parallel": "fsdp"}, "muon"),
    ({"unmasked_last": 0.1}, "train.unmasked_last"),
    ({"freeze": "vision"}, "train.freeze"),
    ({"heads_first": 0.1}, "train.heads_first"),
    ({"heads_first": 0.1, "vision": TIMM}, "model.text.tower"),
    ({"freeze": "both", "heads_first": 0.1, "init": "there"}, "train.heads_first"),
    ({"freeze": "both", "layer_decay": 0.9, "init": "there"}, "train.layer_decay"),
    ({"freeze": "both", "vision": TIMM}, "model.text.tower"),
    ({"freeze": "vision", "vision": TIMM, "vision_lr": 1e-5}, "train.vision_lr"),
    ({"freeze": "vision", "vision": TIMM, "text": BAG, "grad_checkpointing": True}, "train.grad_checkpointing"),
]


@pytest.mark.parametrize(("values", "field"), TOGETHER)
def test_fields_that_do_not_go_together_are_refused(values, field):
    with pytest.raises(MinclipError, match=field.replace(".", r"\.")):
        config(**values)


def test_fields_that_go_together_are_taken():
    config(text=BAG, grad_checkpointing=True)  # the image tower has blocks
    config(vision=TIMM, text=HF, freeze="vision", grad_checkpointing=True, text_lr=1e-5)
    config(compile=True, grad_checkpointing=True)
    config(init="there", freeze="both")
    config(init="there", freeze="vision", heads_first=0.1, layer_decay=0.8)
    config(data={"name": "shards", "caption_column": "text"})
    config(vision=SMALL_RESNET, activation="quick_gelu", data={"image_size": 8 * 16, "first_size": 32})


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("vision", ["vit", "resnet", "small_resnet", "timm:any"])
@pytest.mark.parametrize("text", ["transformer", "bag", "hf:any"])
def test_a_preset_is_made_ready_for_other_towers(name, vision, text):
    model = for_towers(preset(name), vision=vision, text=text).model
    for part, tower in (("vision", vision), ("text", text)):
        ours, theirs = getattr(model, part), getattr(preset(name).model, part)
        for field in dataclasses.fields(ours):
            unused = field.name in unused_fields(part, tower)
            assert getattr(ours, field.name) == (field.default if unused else getattr(theirs, field.name))
    assert model.activation == (preset(name).model.activation if {"vit", "transformer"} & {vision, text} else "gelu")


# ---- names and places


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_found_by_its_name(name):
    assert preset(name) is PRESETS[name]


def test_an_unknown_preset_names_the_nearest_and_all():
    with pytest.raises(MinclipError, match=r"'shape' \(did you mean 'shapes'\?\)") as error:
        preset("shape")
    assert all(name in str(error.value) for name in PRESETS)


def test_nearest_says_nothing_where_nothing_is_near():
    assert nearest("xyz", ["shapes", "flickr8k"]) == ""


def test_data_folder_honors_the_environment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given in (str(tmp_path / "elsewhere"), "elsewhere"):
        monkeypatch.setenv("MINCLIP_DATA", given)
        assert data_folder() == tmp_path / "elsewhere"


def folder_of_an_installed_copy(place, here, **environment):
    """What `data_folder` says where minclip was installed into `place` and is used in the folder `here`."""
    (place / "minclip").mkdir(parents=True, exist_ok=True)
    for file in ("config.py", "weights/hub.py"):
        (place / "minclip" / file).parent.mkdir(exist_ok=True)
        (place / "minclip" / file).write_bytes((ROOT / "minclip" / file).read_bytes())
    code = "from minclip.weights.hub import data_folder; print(data_folder())"
    kept = {k: v for k, v in os.environ.items() if k not in ("MINCLIP_DATA", "HOME")}
    env = {**kept, "PYTHONPATH": str(place), **environment}
    return Path(
        subprocess.run([sys.executable, "-c", code], cwd=here, env=env, capture_output=True, text=True).stdout[:-1]
    )


def test_a_data_folder_of_somebody_elses_is_left_alone(tmp_path):
    place, home = tmp_path / "site-packages", {"HOME": str(tmp_path / "home")}
    for folder in (place / "data", tmp_path / "work" / "data", tmp_path / "data"):
        folder.mkdir(parents=True)
        (folder / "README.md").touch()
    assert folder_of_an_installed_copy(place, tmp_path / "work", **home) == tmp_path / "home" / ".cache" / "minclip"
    assert (ROOT / "data" / ".minclip-data").exists()  # that of a clone, which is found from its notebooks, too
    assert folder_of_an_installed_copy(place, ROOT / "notebooks", **home) == ROOT / "data"
    assert folder_of_an_installed_copy(place, ROOT, **home) == ROOT / "data"


def test_without_a_home_there_is_still_a_data_folder(monkeypatch):
    monkeypatch.delenv("MINCLIP_DATA", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does for a user without an entry
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert data_folder().is_absolute()

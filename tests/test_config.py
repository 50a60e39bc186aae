"""Every knob: there and back through JSON, and a message that names the field for whatever is wrong."""

import dataclasses
import json
from pathlib import Path

import pytest

from minclip.config import (
    CLIPConfig,
    DataConfig,
    LoopConfig,
    MinclipError,
    TextConfig,
    TrainConfig,
    VisionConfig,
    data_folder,
    nearest,
)
from minclip.presets import PRESETS, preset
from minclip.weights.config_json import from_dict, to_dict


def plain(config):
    """A config as JSON gives it back: lists for tuples, no classes."""
    return json.loads(json.dumps(to_dict(config)))


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    assert from_dict(TrainConfig, plain(PRESETS[name])) == PRESETS[name]


def test_quick_gelu_is_recorded():
    assert plain(CLIPConfig(activation="quick_gelu"))["activation"] == "quick_gelu"


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["shapes"].train.lr = 1.0


@pytest.mark.parametrize(
    ("group", "wrong", "right"),
    [("train", "batchsize", "batch_size"), ("data", "imagesize", "image_size"), ("model", "embed_dims", "embed_dim")],
)
def test_an_unknown_field_names_itself_its_group_and_the_nearest(group, wrong, right):
    values = plain(TrainConfig())
    values[group][wrong] = 1
    with pytest.raises(MinclipError, match=rf"config\.{group} has no field '{wrong}' \(did you mean '{right}'\?\)"):
        from_dict(TrainConfig, values)


def test_an_unknown_field_that_resembles_nothing_gets_no_guess():
    with pytest.raises(MinclipError, match=r"has no field 'zzz'$"):
        from_dict(DataConfig, {**plain(DataConfig()), "zzz": 1})


def test_a_missing_field_is_named():
    values = plain(TrainConfig())
    del values["train"]["seed"], values["train"]["lr"]
    with pytest.raises(MinclipError, match=r"config\.train lacks seed, lr"):
        from_dict(TrainConfig, values)


@pytest.mark.parametrize("change", [{"mean": (0.5, 0.5)}, {"std": (0.5, 0.5, 0.0)}])
def test_an_impossible_mean_or_std_is_refused(change):
    with pytest.raises(MinclipError, match="should be three numbers each, std above 0"):
        VisionConfig(**change)


def test_a_field_that_is_younger_than_the_file_takes_its_default():
    values = plain(preset("shapes"))
    del values["model"]["vision"]["stages"], values["model"]["text"]["tower"]
    assert from_dict(TrainConfig, values) == preset("shapes")


WRONG_TYPES = [
    (LoopConfig, "batch_size", "8"),
    (LoopConfig, "batch_size", 8.0),
    (LoopConfig, "batch_size", True),  # bool is an int in Python, but not here
    (LoopConfig, "lr", "fast"),
    (LoopConfig, "lr", None),
    (LoopConfig, "device", 0),
    (LoopConfig, "precision", "fp8"),
    (DataConfig, "flip", 1),
    (VisionConfig, "mean", [0.5, 0.5]),
    (VisionConfig, "mean", ["a", "b", "c"]),
    (VisionConfig, "mean", 0.5),
    (CLIPConfig, "vision", 224),
    (CLIPConfig, "activation", "relu"),
    (TrainConfig, "data", ["shapes"]),
]


@pytest.mark.parametrize(("cls", "field", "value"), WRONG_TYPES)
def test_a_value_of_the_wrong_type_names_its_field(cls, field, value):
    with pytest.raises(MinclipError, match=rf"config\.{field} "):
        from_dict(cls, {**plain(cls()), field: value})


def test_a_whole_number_does_for_a_float():
    lr = from_dict(LoopConfig, {**plain(LoopConfig()), "lr": 1}).lr
    assert (lr, type(lr)) == (1.0, float)


OUT_OF_RANGE = [
    (VisionConfig, "patch_size", 0),
    (VisionConfig, "image_size", 0),
    (VisionConfig, "image_size", 225),  # not a multiple of 32
    (VisionConfig, "width", 767),  # not a multiple of 12 heads
    (VisionConfig, "layers", 0),
    (VisionConfig, "heads", -1),
    (VisionConfig, "patch_dropout", 1.0),
    (VisionConfig, "patch_dropout", -0.1),
    (TextConfig, "context_length", 2),
    (TextConfig, "eot_id", 49408),
    (TextConfig, "eot_id", -2),
    (TextConfig, "width", 511),
    (TextConfig, "layers", 0),
    (CLIPConfig, "embed_dim", 0),
    (CLIPConfig, "activation", "relu"),
    (DataConfig, "image_size", 0),
    (DataConfig, "size", -1),
    (DataConfig, "min_crop", 0.0),
    (DataConfig, "min_crop", 1.1),
    (DataConfig, "color", -0.1),
    (DataConfig, "color", 1.1),
    (DataConfig, "first_size", 40),  # not a multiple of 16
    (DataConfig, "first_size", 80),  # more than image_size
    (DataConfig, "first_size", -16),
    (LoopConfig, "batch_size", 1),  # one pair has nothing to be told apart from
    (LoopConfig, "lr", 0.0),
    (LoopConfig, "lr", float("nan")),
    (LoopConfig, "warmup", 1.0),
    (LoopConfig, "weight_decay", -0.1),
    (LoopConfig, "grad_clip", 0.0),
    (LoopConfig, "beta1", 1.0),
    (LoopConfig, "beta2", 1.0),
    (LoopConfig, "steps", 0),
    (LoopConfig, "minutes", -1.0),
    (LoopConfig, "log_every", 0),
    (LoopConfig, "checkpoint_every", 0),
    (LoopConfig, "eval_every", -1),
    (LoopConfig, "precision", "fp8"),
    (LoopConfig, "optimizer", "sgd"),
    (LoopConfig, "label_smoothing", 1.0),
    (LoopConfig, "label_smoothing", -0.1),
]


@pytest.mark.parametrize(("cls", "field", "value"), OUT_OF_RANGE)
def test_a_value_out_of_range_is_refused(cls, field, value):
    with pytest.raises(MinclipError):
        cls(**{field: value})


@pytest.mark.parametrize(("cls", "field", "value"), [case for case in OUT_OF_RANGE if case[1] in ("lr", "eot_id")])
def test_a_value_out_of_range_is_repeated_in_the_message(cls, field, value):
    with pytest.raises(MinclipError, match=rf"\.{field} {value}"):
        cls(**{field: value})


def test_the_tower_follows_the_size_of_the_data():
    assert TrainConfig(data=DataConfig(image_size=96)).model.vision.image_size == 96


def test_the_tower_follows_when_the_data_is_replaced():
    shapes = PRESETS["shapes"]
    changed = dataclasses.replace(shapes, data=dataclasses.replace(shapes.data, image_size=32))
    assert changed.model.vision.image_size == 32


def test_a_data_size_that_the_patches_do_not_divide_is_refused():
    with pytest.raises(MinclipError, match=r"image size 100 is not a multiple of model\.vision\.patch_size 32"):
        TrainConfig(data=DataConfig(image_size=100))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"data": DataConfig(image_size=224, first_size=128)},
            "any size, model.vision.tower small_resnet; 0 is for all",
        ),
        ({"model": CLIPConfig(loss="siglip"), "train": LoopConfig(label_smoothing=0.1)}, "is for model.loss clip"),
    ],
)
def test_fields_that_dont_go_together_are_told(values, message):
    with pytest.raises(MinclipError, match=message):
        TrainConfig(**values)


def test_muon_and_shared_out_matrices_dont_go_together():
    with pytest.raises(MinclipError, match="muon needs whole matrices"):
        LoopConfig(optimizer="muon", parallel="fsdp")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_found_by_its_name(name):
    assert preset(name) is PRESETS[name]


def test_an_unknown_preset_names_the_nearest_and_all():
    with pytest.raises(MinclipError, match=r"'shape' \(did you mean 'shapes'\?\)") as error:
        preset("shape")
    assert all(name in str(error.value) for name in PRESETS)


def test_nearest_says_nothing_where_nothing_is_near():
    assert nearest("xyz", ["shapes", "flickr8k"]) == ""


def test_data_folder_honours_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("MINCLIP_DATA", str(tmp_path / "elsewhere"))
    assert data_folder() == tmp_path / "elsewhere"


def test_an_empty_environment_variable_is_none(monkeypatch):
    monkeypatch.setenv("MINCLIP_DATA", "")
    assert data_folder() != Path("")

"""Fine-tuning and blends: what a run takes from the model it starts from, what may differ, and what is refused."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from training_runs import stopped_after

import minclip
from minclip import CLIP, CLIPConfig, LoopConfig, MinclipError, TextConfig, Tokenizer, VisionConfig, load
from minclip.loop import train
from minclip.presets import preset
from minclip.training.optim import levels_below, parameter_groups
from minclip.training.run import Run, resumed_config
from minclip.weights.folder import read_config
from minclip.weights.names import OPEN_CLIP_NAMES, to_theirs
from minclip.weights.start import blended, differences, fine_tuning

pytestmark = pytest.mark.usefixtures("small_world")
TOKENIZER = Tokenizer.train(["a red star left of a large blue ring"] * 8, 560)
MODEL = CLIPConfig(
    32,
    VisionConfig(image_size=32, patch_size=8, width=64, layers=2, heads=1, std=(0.5, 0.25, 0.25)),
    TextConfig(context_length=24, vocab_size=TOKENIZER.vocab_size, width=64, layers=2, heads=1),
    activation="quick_gelu",
)
RESNET = replace(MODEL, vision=VisionConfig(tower="resnet", image_size=32, width=8, heads=4, stages=(1, 1, 1, 1)))
KINDS = ("scenes", "sketches")
STILL = {"lr": 1e-30, "grad_clip": 1e-9}  # a step that changes no bit


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, data_home):
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def source():
    """A model with a scale of its own, as a folder "mine" of minclip."""
    model = CLIP(MODEL).eval()
    model.logit_scale.data.fill_(3.0)
    model.save_pretrained("mine", tokenizer=TOKENIZER)
    return model


class Holder(nn.Module):
    """A module with given tensors under dotted names, as OpenAI's archive has them."""

    def __init__(self, tensors):
        super().__init__()
        for name in {name.split(".")[0] for name in tensors}:
            inner = {n.partition(".")[2]: x for n, x in tensors.items() if n.split(".")[0] == name}
            if "" in inner:
                self.register_parameter(name, nn.Parameter(inner[""].contiguous(), requires_grad=False))
            else:
                self.add_module(name, Holder(inner))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def written(model, format):
    """The model in a format, with its tokenizer; returns what `load` takes."""
    if format in ("minclip", "open_clip", "transformers"):
        model.save_pretrained("there", format=format, tokenizer=TOKENIZER)
        return "there"
    theirs = to_theirs(model.state_dict(), OPEN_CLIP_NAMES)
    if format == "TorchScript":
        theirs |= {name: torch.tensor(1) for name in ("input_resolution", "context_length", "vocab_size")}
        torch.jit.save(torch.jit.script(Holder({n: x.float() for n, x in theirs.items()})), "there.pt")
    else:
        torch.save({"state_dict": {f"module.{name}": x for name, x in theirs.items()}, "epoch": 3}, "there.pt")
    TOKENIZER.save("minclip_tokenizer.json")
    return "there.pt"


def short(config, data=None, **loop):
    """The config for a few steps on a few scenes."""
    given = {"batch_size": 16, "steps": 2, "eval_every": None, "device": "cpu", "precision": "fp32", "log_every": 1}
    return replace(
        config, data=replace(config.data, size=32, **(data or {})), train=replace(config.train, **given | loop)
    )


def state(model):
    return {name: x.clone() for name, x in model.state_dict().items()}


def same(a, b, within=0.0):
    """Whether two state dicts hold the same weights; counters of batches may differ if others may."""
    names = [name for name in a if not within or not name.endswith("num_batches_tracked")]
    return a.keys() == b.keys() and all(bool(((a[n] - b[n]).abs() <= within).all()) for n in names)


# ---- where a run starts


@pytest.mark.filterwarnings("ignore:there.pt records neither")
@pytest.mark.parametrize("format", ["minclip", "open_clip", "transformers", "TorchScript", "checkpoint"])
@pytest.mark.parametrize("model", [MODEL, RESNET], ids=["vit", "resnet"])
def test_a_run_starts_from_any_format(format, model):
    if model is RESNET and format == "transformers":
        pytest.skip("transformers has no ResNet")
    mine = CLIP(replace(model, activation="gelu" if format == "checkpoint" else "quick_gelu")).eval()
    mine.logit_scale.data.fill_(3.0)
    config = fine_tuning(preset("shapes"), written(mine, format))
    ours, theirs = config.model, load(config.train.init)[0].config
    assert differences(ours, theirs) == "" and ours.activation == mine.config.activation
    assert config.data.image_size == 32 and ours.vision.std == (
        MODEL.vision.std if format not in ("TorchScript", "checkpoint") and model is MODEL else ours.vision.std
    )
    run = train(short(config, **STILL), "runs/tuned")
    assert same(state(run.model), state(mine), within=1e-20)
    assert run.tokenizer.merges == TOKENIZER.merges and Run.load("tuned").config.model == ours


def test_the_recipe_is_gentle_and_the_users_choices_stay(source):
    base = preset("flickr8k")
    config = fine_tuning(replace(base, train=replace(base.train, batch_size=8, seed=3)), "mine")
    loop, data = config.train, config.data
    assert (loop.init, loop.optimizer, loop.lr, loop.batch_size, loop.seed) == ("mine", "adamw", 1e-5, 8, 3)
    assert (data.name, data.first_size, data.min_crop, data.color) == ("flickr8k", None, 0.9, 0.0)
    assert replace(config, data=replace(data, image_size=64)).model.vision.image_size == 64


def test_positions_are_interpolated_to_the_datas_image_size(source):
    config = fine_tuning(preset("shapes"), "mine")
    run = train(short(config, {"image_size": 64}, **STILL), "runs/large")
    source.resize(64)
    assert run.model.config.vision.image_size == 64 and same(state(run.model), state(source), within=1e-20)


def test_a_siglip_model_keeps_its_bias(source):
    mine = CLIP(replace(MODEL, loss="siglip"))
    mine.logit_bias.data.fill_(-7.0)
    mine.save_pretrained("pairs", tokenizer=TOKENIZER)
    run = train(short(fine_tuning(preset("shapes"), "pairs"), **STILL), "runs/pairs")
    assert run.model.logit_bias.item() == -7.0


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("", "embed_dim", 64),
        ("", "activation", "gelu"),
        ("", "loss", "siglip"),
        ("", "logit_scale_init", 1.0),
        ("vision", "width", 32),
        ("vision", "layers", 3),
        ("vision", "mean", (0.5, 0.5, 0.5)),
        ("vision", "tower", "small_resnet"),
        ("text", "context_length", 25),
        ("text", "vocab_size", 600),
    ],
)
def test_a_field_that_contradicts_the_weights_is_refused_with_both_values(source, part, field, value):
    config = fine_tuning(preset("shapes"), "mine")
    old = getattr(config.model, part) if part else config.model
    if field == "tower":
        other = VisionConfig(tower="small_resnet", image_size=32, mean=old.mean, std=old.std)
    else:
        other = replace(old, **{field: value})
    model = replace(config.model, **{part: other}) if part else other
    with pytest.raises(MinclipError) as error:
        train(short(replace(config, model=model)), "runs/other")
    name = f"model.{part}.{field}" if part else f"model.{field}"
    assert f"{name} ({value!r} and {getattr(old, field)!r})" in str(error.value) and "mine" in str(error.value)
    assert not Path("runs/other/config.json").exists()


def test_dropout_may_differ(source):
    config = fine_tuning(preset("shapes"), "mine")
    vision = replace(config.model.vision, dropout=0.1, patch_dropout=0.5)
    config = replace(config, model=replace(config.model, vision=vision, text=replace(config.model.text, dropout=0.1)))
    run = train(short(config, **STILL), "runs/dropping")
    assert (
        same(state(run.model), state(source), within=1e-20)
        and Run.load("dropping").config.model.vision.patch_dropout == 0.5
    )


def test_a_preset_with_init_alone_is_refused_too(source):
    config = preset("shapes")
    with pytest.raises(MinclipError, match=r"model\.embed_dim \(256 and 32\).*fine_tuning"):
        train(short(replace(config, train=replace(config.train, init="mine"))))


def test_a_model_without_a_tokenizer_is_refused(source):
    source.save_pretrained("mute")
    with pytest.raises(MinclipError, match=r"mute.*tokenizer"):
        train(short(fine_tuning(preset("shapes"), "mute")))


def test_the_run_remembers_its_origin_through_resume_and_export(source):
    config = short(fine_tuning(preset("shapes"), "mine"))
    train(config, "runs/tuned")
    digest = hashlib.sha256(Path("mine/model.safetensors").read_bytes()).hexdigest()
    origin = {"name": "mine", "sha256": digest}
    assert json.loads(Path("runs/tuned/config.json").read_text())["origin"] == origin
    train(replace(config, train=replace(config.train, steps=3)), "runs/tuned", resume=True)
    Run.load("tuned").export("copy")
    assert read_config(Path("runs/tuned"))["origin"] == read_config(Path("copy"))["origin"] == origin


@pytest.mark.parametrize("step", [0, 2])
def test_resuming_needs_no_origin_and_ends_with_the_same_bits(source, step):
    config = short(fine_tuning(preset("shapes"), "mine"), steps=4, checkpoint_every=2, lr=1e-3, heads_first=0.5)
    whole = train(config, "runs/whole")
    stopped_after(config, step, "runs/cut")
    shutil.rmtree("mine")
    resumed = train(config, "runs/cut", resume=True)
    assert same(state(resumed.model), state(whole.model)) and resumed_config(resumed.folder, config) == resumed.config


# ---- what learns, and how fast


def test_batchnorm_keeps_the_statistics_that_the_weights_fit():
    mine = CLIP(RESNET)
    mine.save_pretrained("mine", tokenizer=TOKENIZER)
    run = train(short(fine_tuning(preset("shapes"), "mine"), eval_every=1, lr=1e-2), "runs/tuned")
    moved = {name for name, x in state(run.model).items() if not torch.equal(x, mine.state_dict()[name])}
    assert not [name for name in moved if "running" in name or "num_batches" in name]
    assert any("norm.weight" in name for name in moved)


@pytest.mark.parametrize("freeze", ["vision", "text", "both"])
def test_any_tower_can_be_frozen(source, freeze):
    run = train(short(fine_tuning(preset("shapes"), "mine"), freeze=freeze, lr=1e-2), "runs/frozen")
    before, after = state(source), state(run.model)
    for part in ("vision", "text"):
        still = [torch.equal(before[n], after[n]) for n in before if n.startswith(f"{part}.")]
        assert all(still) if freeze in (part, "both") else not any(still)
    assert not torch.equal(before["image_projection.weight"], after["image_projection.weight"])
    # no activations are kept for a backward pass, so memory stays bounded
    features = {"vision": run.model.vision(torch.randn(2, 3, 32, 32)), "text": run.model.text(TOKENIZER(["a"], 24))}
    frozen = {"vision", "text"} if freeze == "both" else {freeze}
    assert {part for part, x in features.items() if x.grad_fn is None} == frozen


@pytest.mark.parametrize("more", [{}, {"optimizer": "muon"}, {"ema": 0.5}, {"minutes": 0.02, "steps": 1}])
def test_the_heads_learn_first(source, more, monkeypatch):
    seen = []
    clamp = CLIP.clamp_logit_scale
    monkeypatch.setattr(CLIP, "clamp_logit_scale", lambda self: (clamp(self), seen.append(state(self))))
    loop = {"steps": 6, "heads_first": 0.5, "lr": 1e-2, "weight_decay": 0.5, "vision_lr": 1e-3, **more}
    train(short(fine_tuning(preset("shapes"), "mine"), **loop), "runs/heads")
    before = state(source)
    towers = [n for n in before if n.startswith(("vision.", "text."))]
    still = [all(torch.equal(before[n], after[n]) for n in towers) for after in seen]
    changed = still.index(False)
    assert still[:changed] == [True] * changed and not any(still[changed:])
    assert changed == 3 if "minutes" not in more else 0 < changed < len(still)
    assert not torch.equal(before["text_projection.weight"], seen[0]["text_projection.weight"])


def rates(model, **loop):
    """Each parameter's learning rate over that of the projections."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = parameter_groups(model, 0.1, loop=LoopConfig(lr=1.0, **loop))
    return {names[id(p)]: group.get("lr", 1.0) for group in groups for p in group["params"]}


def test_each_block_learns_slower_than_the_one_above_it():
    found = rates(CLIP(MODEL), layer_decay=0.5, text_lr=0.1, init="mine")
    assert found["vision.norm_post.weight"] == found["image_projection.weight"] == found["logit_scale"] == 1
    assert found["vision.transformer.blocks.1.mlp.up.weight"] == 0.5
    assert found["vision.transformer.blocks.0.mlp.up.bias"] == 0.25
    below = ("class_embedding", "positional_embedding", "stem.projection.weight", "norm_pre.bias")
    assert {found[f"vision.{name}"] for name in below} == {0.125}
    assert found["text.token_embedding.weight"] == pytest.approx(0.0125) and found["text.norm_final.bias"] == 0.1
    assert len(found) == len([*CLIP(MODEL).parameters()])


def test_layers_decay_in_any_tower():
    found = rates(CLIP(replace(RESNET, text=TextConfig("bag", width=8), activation="gelu")), layer_decay=0.5)
    assert {found["text.token_embedding.weight"], found["text.norm_final.weight"]} == {0.5}  # one block
    assert found["vision.pool.attention.qkv.weight"] == 1 and found["vision.stages.3.0.expand.conv.weight"] == 0.5
    assert found["vision.stem.0.conv.weight"] == 0.5**5

    class Between(nn.Module):
        """A tower with a layer between two blocks, as timm has them."""

        def __init__(self):
            super().__init__()
            self.first, self.one, self.between, self.two, self.last = (nn.Linear(1, 1, bias=False) for _ in range(5))
            self.blocks = [self.one, self.two]

    assert list(levels_below(Between()).values()) == [3, 2, 2, 1, 0]


def test_groups_without_decay_are_those_of_older_runs_in_their_order():
    model, rest = CLIP(MODEL), ("image_projection", "text_projection", "logit_scale")
    names = {id(p): name for name, p in model.named_parameters()}
    for own in ((), ("text",), ("vision", "text")):
        groups = parameter_groups(model, 0.1, loop=LoopConfig(**{f"{part}_lr": 0.1 for part in own}))
        parts = [{names[id(p)].split(".")[0] for p in group["params"]} for group in groups]
        shared = [n for n in ("vision", *rest[:1], "text", *rest[1:]) if n not in own]
        matrices = [{*shared} - {"logit_scale"}]
        spared = [{"vision", "text"} - {*own}] if len(own) < 2 else []
        assert parts == [*matrices, *spared, {"logit_scale"}, *({part} for part in own for _ in range(2))]
        decays = [group["weight_decay"] for group in groups]
        assert decays == [0.1, *[0.0] * (len(spared) + 1), *[0.1, 0.0] * len(own)]
        assert all(group.keys() <= {"params", "weight_decay", "muon", "lr"} for group in groups)


# ---- blends


def test_a_blend_is_a_weighted_mean_and_its_ends_are_the_models(source):
    a, b = source, CLIP(MODEL)
    b.image_projection.weight.data[0, 0] = -0.0
    assert same(state(blended(a, b, 0)), state(a)) and same(state(blended(a, b, 1)), state(b))
    assert torch.signbit(blended(a, b, 1).image_projection.weight[0, 0])
    half = state(blended(a, b, 0.25))
    for name, x in half.items():
        torch.testing.assert_close(x, 0.75 * a.state_dict()[name] + 0.25 * b.state_dict()[name])
    assert blended(a, b, 0.5).logit_scale.exp().item() == pytest.approx((np.exp(3.0) / 0.07) ** 0.5, rel=1e-5)


def test_counters_of_a_blend_are_those_of_the_nearer_model():
    a, b = CLIP(RESNET), CLIP(RESNET)
    name = next(n for n in a.state_dict() if n.endswith("num_batches_tracked"))
    a.state_dict()[name].fill_(3)
    b.state_dict()[name].fill_(9)
    assert [int(blended(a, b, alpha).state_dict()[name]) for alpha in (0, 0.4, 0.6, 1)] == [3, 3, 9, 9]


def test_models_that_do_not_fit_cannot_be_blended(source):
    wide = CLIP(replace(MODEL, vision=replace(MODEL.vision, width=128, heads=2)))
    with pytest.raises(MinclipError, match=r"model\.vision\.width \(64 and 128\), model\.vision\.heads \(1 and 2\)"):
        blended(source, wide, 0.5)
    for alpha in (-0.1, 1.1, float("nan")):
        with pytest.raises(MinclipError, match=rf"alpha {alpha}"):
            blended(source, source, alpha)


def test_models_of_other_image_sizes_cannot_be_blended():
    large = CLIP(replace(MODEL, vision=replace(MODEL.vision, image_size=64)))
    with pytest.raises(MinclipError, match=r"model\.vision\.image_size \(32 and 64\)"):
        blended(CLIP(MODEL), large, 0.5)


def test_minclip_still_opens_pictures_with_a_tuned_model(source):
    run = train(short(fine_tuning(preset("shapes"), "mine")), "runs/tuned")
    model, preprocess, tokenizer = minclip.load("tuned")
    image = preprocess(Image.new("RGB", (40, 30), "red"))[None]
    assert model.logits(image, tokenizer(["a red star"]))[0].shape == (1, 1) and run.final


@pytest.mark.slow
def test_fine_tuning_gains_on_sketches_and_a_blend_keeps_what_was_known(tmp_path):
    script = Path(__file__).parents[1] / "bench" / "finetuning.py"
    small = "--steps 60 --sketches 1000 --count 300 --split val --json out.json".split()
    subprocess.run([sys.executable, str(script), *small], check=True, capture_output=True)
    found = json.loads((tmp_path / "out.json").read_text())
    scenes, sketches = ({a: found[a][kind]["zero_shot/shape"] for a in ("0.0", "0.5", "1.0")} for kind in KINDS)
    assert sketches["1.0"] > sketches["0.0"] + 0.25 and scenes["1.0"] < scenes["0.0"] - 0.1  # it learns, and forgets
    assert sketches["0.5"] > sketches["0.0"] + 0.12 and scenes["0.5"] > scenes["0.0"] - 0.1
    recall = {a: found[a]["sketches"]["text_to_image_r@5"] for a in ("0.0", "0.5", "1.0")}
    assert recall["1.0"] > recall["0.5"] > recall["0.0"]

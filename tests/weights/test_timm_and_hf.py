"""Pretrained towers: features, tokenizer and weights equal timm's and Hugging Face's; learning rates of each part; runs that need neither any more."""

import contextlib
import importlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import huggingface_hub.constants as constants
import pytest
import safetensors.torch
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from processes import in_processes
from torch import nn
from training_runs import same, tiny
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizerFast

import minclip
from minclip.cli import main
from minclip.config import CLIPConfig, LoopConfig, MinclipError, TextConfig, TrainConfig, VisionConfig
from minclip.loop import train
from minclip.model import CLIP
from minclip.tokenizer import Tokenizer
from minclip.training.optim import parameter_groups
from minclip.training.parallel import recompute_blocks
from minclip.training.run import Run
from minclip.weights import start, towers
from minclip.weights.config_json import from_dict, to_dict
from minclip.weights.folder import read_config
from minclip.weights.towers import complete_config, fetch_weights, new_tokenizer, read_tokenizer

training = importlib.import_module("minclip.loop")
TEXTS = ["a red star", "the small blue ring left of a large green circle", "", "a"]
VIT = VisionConfig(tower="timm:test_vit", image_size=32)
HUB_VIT = "timm/test_vit.r160_in1k"


def make_bert(folder, dropout=0.1, **more):
    """A text model in the format of the hub: config.json, model.safetensors, tokenizer.json."""
    folder.mkdir()
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = "[PAD] [UNK] [CLS] [SEP] [MASK] red blue star ring circle left of large [ ]".split()
    (folder / "vocab.txt").write_text("\n".join([*words, *letters, *("##" + c for c in letters)]))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(1)
    fields = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    rates = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = BertConfig(vocab_size=len(words) + 52, max_position_embeddings=64, **fields, **rates, **more)
    BertModel(config).save_pretrained(folder)
    return folder


def of_bert(folder, length=40):
    return TextConfig(tower=f"hf:{folder}", context_length=length)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return make_bert(tmp_path_factory.mktemp("hub") / "bert")


@pytest.fixture(scope="module")
def built(bert):
    """A CLIP of two pretrained towers with the text tower's tokenizer; the text model's weights, the image model's random ones."""
    config = complete_config(CLIPConfig(24, VIT, of_bert(bert)))
    tokenizer = new_tokenizer(config.text, list)
    text = replace(config.text, vocab_size=tokenizer.vocab_size, eot_id=tokenizer.eot_id)
    torch.manual_seed(0)
    clip = CLIP(replace(config, text=text)).eval()
    clip.text.fetch()
    return clip.eval(), tokenizer


@pytest.fixture
def timm_hub(hub):
    """A stand-in for the hub that has weights for test_vit."""
    torch.manual_seed(123)
    weights = timm.create_model("test_vit").state_dict()
    hub.repo, hub.files = HUB_VIT, {"model.safetensors": safetensors.torch.save(weights)}
    return weights


def gradients(module):
    return {name: parameter.grad.clone() for name, parameter in module.named_parameters() if parameter.grad is not None}


# ---- features


@pytest.mark.parametrize("name", ["test_vit", "test_resnet", "test_efficientnet"])
def test_image_features_and_gradients_equal_timms(name):
    clip = CLIP(CLIPConfig(24, replace(VIT, tower=f"timm:{name}"), TextConfig(width=32, heads=2, layers=1))).eval()
    size = {"img_size": 32} if name == "test_vit" else {}
    theirs = timm.create_model(name, num_classes=0, **size).eval()
    theirs.load_state_dict(clip.vision.model.state_dict())
    images, wanted = torch.randn(3, 3, 32, 32), torch.randn(3, 24)
    ours = clip.encode_image(images, normalize=True)
    other = F.normalize(theirs(images) @ clip.image_projection.weight.T, dim=-1)
    torch.testing.assert_close(ours, other)
    projection = torch.autograd.grad((other * wanted).sum(), clip.image_projection.weight, retain_graph=True)[0]
    (other * wanted).sum().backward()
    clip.zero_grad()
    (ours * wanted).sum().backward()
    ours, other = gradients(clip.vision.model), gradients(theirs)
    assert ours.keys() == other.keys() == dict(theirs.named_parameters()).keys()  # each has one
    for key, value in other.items():
        torch.testing.assert_close(ours[key], value, rtol=0, atol=1e-4 * float(value.abs().max() + 0.1), msg=key)
    torch.testing.assert_close(clip.image_projection.weight.grad, projection)


def test_text_features_and_gradients_are_the_mean_over_all_tokens_of_a_text(built, bert):
    clip, tokenizer = built
    theirs = AutoModel.from_pretrained(bert).eval()
    read = AutoTokenizer.from_pretrained(bert)
    wanted = torch.randn(len(TEXTS), 24)
    alone = [theirs(**read(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0) for text in TEXTS]
    other = torch.stack(alone) @ clip.text_projection.weight.T  # one text at a time: no padding anywhere
    ours = clip.encode_text(tokenizer(TEXTS, 40))
    torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-5)
    (other * wanted).sum().backward()
    clip.zero_grad()
    (ours * wanted).sum().backward()
    ours = gradients(clip.text.model)
    other = {name: grad for name, grad in gradients(theirs).items() if not name.startswith("pooler.")}
    assert ours.keys() == other.keys() == dict(clip.text.model.named_parameters()).keys()
    for key, value in other.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-5, msg=key)


def test_padding_and_what_stands_after_the_end_change_nothing(built):
    clip, tokenizer = built
    ids = tokenizer(TEXTS[:2], 40)
    short = minclip.text.trim(ids, tokenizer.eot_id)
    assert short.shape[1] < 40 and (short[0] == tokenizer.pad_id).any()
    features = clip.text(short)
    torch.testing.assert_close(clip.text(ids), features)
    torch.testing.assert_close(clip.text(torch.where(ids == tokenizer.pad_id, 7, ids)), features)
    assert not torch.allclose(clip.text(torch.where(ids == 7, 8, ids)), features)  # but within the text they do


def test_the_towers_preprocessing_is_their_owners():
    config = complete_config(CLIPConfig(24, replace(VIT, tower="timm:resnet10t"), TextConfig()))
    assert config.vision.mean == (0.485, 0.456, 0.406) and config.vision.std == (0.229, 0.224, 0.225)
    assert complete_config(CLIPConfig()) == CLIPConfig()


def test_positions_fit_the_image_size_and_are_interpolated():
    tower = CLIP(CLIPConfig(24, replace(VIT, image_size=64), TextConfig(width=32, heads=2, layers=1))).eval()
    assert tower.vision.model.pos_embed.shape == (1, 17, 64)
    tower.resize(96)
    assert tower.encode_image(torch.randn(1, 3, 96, 96)).shape == (1, 24) and tower.config.vision.image_size == 96
    with pytest.raises(MinclipError, match=r"this tower takes \(B, 3, 96, 96\)"):
        tower.encode_image(torch.randn(1, 3, 64, 64))
    resnet = towers.TimmTower(replace(VIT, tower="timm:test_resnet"))
    resnet.resize(48)
    assert resnet(torch.randn(2, 3, 48, 48)).shape == (2, resnet.width)


# ---- tokenizer


def test_ids_equal_those_of_transformers(built, bert):
    tokenizer, theirs = built[1], AutoTokenizer.from_pretrained(bert)
    for length in (40, 6):
        wanted = theirs(TEXTS, padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids
        ids = tokenizer(TEXTS, length)
        assert ids.dtype == torch.int64 and torch.equal(ids, wanted)
        assert ((ids == tokenizer.eot_id).sum(dim=1) == 1).all()  # cut texts keep their end
    assert tokenizer("a red star", 9).shape == (1, 9) and tokenizer([], 9).shape == (0, 9)


def test_cut_texts_are_counted_and_told_once(bert):
    tokenizer = new_tokenizer(of_bert(bert), list)
    with pytest.warns(UserWarning, match=r"cut to 6 tokens; tokenizer\.truncated counts them") as caught:
        tokenizer(TEXTS, 6), tokenizer(TEXTS, 6)
    tokenizer.backend.no_truncation()
    assert len(caught) == 1 and tokenizer.truncated == 2 * sum(len(tokenizer.backend.encode(t).ids) > 6 for t in TEXTS)


def test_a_literal_end_token_in_a_caption_is_text(built):
    ids = built[1]("red [SEP] star", 40)[0]
    assert (ids == built[1].eot_id).sum() == 1
    assert ids.tolist().index(built[1].eot_id) > ids.tolist().index(built[1]("star", 3)[0, 1])


def test_a_tokenizer_comes_back_from_its_file(built, tmp_path):
    (tmp_path / "tokenizer.json").write_text(built[1].to_json())
    again = read_tokenizer(tmp_path / "tokenizer.json", replace(built[0].config.text, context_length=24))
    assert again(TEXTS).shape == (4, 24) and built[1](TEXTS).shape == (4, 40)  # as long as the model's context
    assert torch.equal(again(TEXTS, 40), built[1](TEXTS, 40)) and again.to_json() == built[1].to_json()
    assert (again.eot_id, again.pad_id, again.vocab_size) == (3, 0, built[1].vocab_size)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(MinclipError, match=r"tokenizer\.json"):
        read_tokenizer(tmp_path / "tokenizer.json", built[0].config.text)
    assert isinstance(new_tokenizer(TextConfig(vocab_size=520), lambda: TEXTS), Tokenizer)


@pytest.mark.parametrize("texts", [[5], ["\ud800"], [None]])
def test_what_is_no_text_is_refused(built, texts):
    with pytest.raises(MinclipError, match="texts"):
        built[1](texts, 9)


# ---- weights


def test_timms_weights_come_from_the_hub_and_not_from_chance(timm_hub):
    torch.manual_seed(0)
    clip = CLIP(CLIPConfig(24, replace(VIT, image_size=160), TextConfig(width=32, heads=2, layers=1)))
    assert not torch.equal(clip.vision.model.blocks[0].attn.qkv.weight, timm_hub["blocks.0.attn.qkv.weight"])
    fetch_weights(clip.eval())
    assert not clip.vision.model.training
    for name, value in clip.vision.model.state_dict().items():
        assert torch.equal(value, timm_hub[name]), name
    assert "state_dict" not in clip.vision.model.pretrained_cfg


def test_without_a_network_the_message_tells_what_to_fetch(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MinclipError, match=rf"no network.*`hf download {HUB_VIT}`"):
        towers.TimmTower(VIT).fetch()
    with pytest.raises(MinclipError, match=r"no network.*`hf download no/body`"):
        complete_config(CLIPConfig(24, VIT, of_bert("no/body")))


def test_weights_that_do_not_fit_are_refused(timm_hub, hub):
    del timm_hub["norm.weight"]
    hub.files["model.safetensors"] = safetensors.torch.save(timm_hub)
    with pytest.raises(MinclipError, match=r"model\.safetensors.*timm:test_vit.*norm\.weight"):
        towers.TimmTower(VIT).fetch()


def test_hugging_faces_weights_come_from_a_folder_or_from_the_hub(bert, hub):
    wanted = safetensors.torch.load_file(bert / "model.safetensors")
    hub.files = {path.name: path.read_bytes() for path in bert.iterdir()}
    for name in (bert, "owner/name"):
        config = complete_config(CLIPConfig(24, VIT, of_bert(name))).text
        tokenizer = new_tokenizer(config, list)
        tower = towers.HuggingFaceTower(replace(config, vocab_size=tokenizer.vocab_size, eot_id=tokenizer.eot_id))
        assert not torch.equal(
            tower.model.encoder.layer[1].output.dense.weight, wanted["encoder.layer.1.output.dense.weight"]
        )
        tower.fetch()
        assert tower.model.training  # as before: what was read is in eval mode
        for key, value in tower.model.state_dict().items():
            assert torch.equal(value, wanted[key]) and value.dtype == torch.float32


def test_a_folder_without_all_weights_is_refused(tmp_path):
    bert = make_bert(tmp_path / "bert")
    weights = safetensors.torch.load_file(bert / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    safetensors.torch.save_file(weights, bert / "model.safetensors", metadata={"format": "pt"})
    tower = towers.HuggingFaceTower(complete_config(CLIPConfig(24, VIT, of_bert(bert))).text)
    with pytest.raises(MinclipError, match=r"bert.*encoder\.layer\.1\.output\.dense\.weight"):
        tower.fetch()
    (bert / "model.safetensors").unlink()
    with pytest.raises(MinclipError, match=r"bert.*model\.safetensors"):
        tower.fetch()


# ---- one learning rate a tower, and none


def run_of(bert, loop=None, vision=VIT):
    config = tiny({"steps": 3, "checkpoint_every": 2, "batch_size": 16})
    data, loop = replace(config.data, image_size=32, size=48), replace(config.train, **(loop or {}))
    return TrainConfig(data, CLIPConfig(24, vision, of_bert(bert)), loop)


def short_train(config, folder, resume=False):
    """`train` without its figures, which take longer than three steps."""
    with (
        mock.patch.object(training, "final_figures", lambda *_, **__: {}),
        mock.patch.object(training, "evaluate", lambda *_, **__: {}),
    ):
        return train(config, folder, resume=resume)


RATES = {"lr": 1e-2, "vision_lr": 1e-4, "text_lr": 1e-3}


def part_of(name):
    return {"vision": "vision_lr", "text": "text_lr"}.get(name.split(".")[0], "lr")


def test_each_part_moves_by_its_own_rate(tmp_path):
    # Adam's first step is the learning rate in each weight that has a gradient
    config = tiny({"steps": 1, "warmup": 0.0, "weight_decay": 0.0, **RATES})
    with mock.patch.object(training, "EMA", side_effect=AssertionError):
        after = short_train(config, tmp_path / "run").model
    torch.manual_seed(0)
    before = CLIP(after.config).state_dict()
    for name, value in after.state_dict().items():
        wanted = RATES[part_of(name)]
        assert (value - before[name]).abs().max() == pytest.approx(wanted, rel=0.02), name


def test_rates_rise_and_fall_together_and_resuming_takes_the_new_ones(tmp_path):
    config = tiny({"steps": 3, **RATES})
    run = short_train(config, tmp_path / "run")
    assert rates_at_the_end(run) == pytest.approx({k: v * run.steps[-1]["lr"] / 1e-2 for k, v in RATES.items()})
    lower = replace(config, train=replace(config.train, steps=6, lr=5e-3, text_lr=2e-4))
    run = short_train(lower, tmp_path / "run", resume=True)
    wanted = {"lr": 5e-3, "vision_lr": 1e-4, "text_lr": 2e-4}
    assert rates_at_the_end(run) == pytest.approx({k: v * run.steps[-1]["lr"] / 5e-3 for k, v in wanted.items()})
    with pytest.raises(MinclipError, match=r"train\.text_lr \(0\.0002, now None\)"):
        train(replace(lower, train=replace(lower.train, text_lr=None)), tmp_path / "run", resume=True)


def rates_at_the_end(run):
    groups = torch.load(run.folder / "state.pt", weights_only=True)["optimizer"]["param_groups"]
    found = {(part_of(name), group["lr"]) for group in groups for name in group["params"]}
    assert len(found) == len(dict(found)) == 3
    return dict(found)


def test_decay_spares_the_embeddings_of_pretrained_towers(built):
    names = {id(parameter): name for name, parameter in built[0].named_parameters()}
    groups = parameter_groups(built[0], 0.1, loop=LoopConfig(vision_lr=1e-5))
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(names)
    embeddings = ("word_embeddings", "position_embeddings", "token_type_embeddings", "pos_embed", "cls_token")
    assert all(any(part in name for name in names.values()) for part in embeddings)
    assert not [
        name for name in decayed if name.endswith(embeddings) or "_embeddings." in name or "norm" in name.lower()
    ]
    assert {"vision.model.patch_embed.proj.weight", "text.model.encoder.layer.0.output.dense.weight"} <= decayed


@pytest.mark.parametrize(
    ("freeze", "frozen"), [("vision", ("vision",)), ("text", ("text",)), ("both", ("vision", "text"))]
)
def test_a_frozen_tower_stays_as_it_was(bert, tmp_path, monkeypatch, freeze, frozen):
    seen = {}

    def remember(clip):
        clip.text.fetch()
        seen.update({name: value.clone() for name, value in clip.state_dict().items()})

    monkeypatch.setattr(start, "fetch_weights", remember)  # a ResNet, for its BatchNorm, at random
    config = run_of(bert, {"freeze": freeze, "ema": 0.5, "lr": 1e-3}, replace(VIT, tower="timm:test_resnet"))
    run = short_train(config, tmp_path / "run")
    moved = {name for name, value in run.model.state_dict().items() if not torch.equal(value, seen[name])}
    for tower in ("vision", "text"):
        of_tower = {name for name in moved if name.startswith(tower + ".")}
        assert (not of_tower) == (tower in frozen)
    if "vision" not in frozen:
        assert any("running_mean" in name for name in moved)
    assert {"image_projection.weight", "text_projection.weight", "logit_scale"} <= moved
    trained = [p for name, p in run.model.named_parameters() if not name.startswith(tuple(t + "." for t in frozen))]
    length = sum(p.detach().square().sum() for p in trained).sqrt()  # of what is trained, as the log tells it
    assert run.steps[-1]["param_norm"] == pytest.approx(float(length), rel=0.01)
    optimizer = torch.load(run.folder / "state.pt", weights_only=True)["optimizer"]
    known = {name for group in optimizer["param_groups"] for name in group["params"]} | optimizer["state"].keys()
    assert not [name for name in known if name.startswith(tuple(tower + "." for tower in frozen))]


def test_a_run_of_such_towers_is_fine_tuned_without_their_origin(bert, tmp_path, monkeypatch):
    monkeypatch.setattr(start, "fetch_weights", lambda clip: None)
    first = short_train(run_of(bert, {"text_lr": None}), tmp_path / "first")
    monkeypatch.setattr(start, "fetch_weights", lambda clip: 1 / 0)
    config = start.fine_tuning(first.config, str(first.folder))
    config = replace(config, train=replace(config.train, steps=1, lr=1e-30, layer_decay=0.5, eval_every=None))
    second = short_train(config, tmp_path / "second")
    weights = second.model.state_dict()
    assert all(torch.allclose(x, weights[n], rtol=0, atol=1e-20) for n, x in first.model.state_dict().items())
    assert second.tokenizer(TEXTS).equal(first.tokenizer(TEXTS)) and read_config(second.folder)["origin"][
        "name"
    ] == str(first.folder)


def test_frozen_towers_have_no_dropout_and_no_new_statistics_in_training(built):
    clip = CLIP(built[0].config)
    clip.freeze("text")
    clip.train()
    assert not clip.text.model.training and clip.vision.training and clip.training
    assert torch.equal(clip.text(built[1](TEXTS, 40)), clip.text(built[1](TEXTS, 40)))
    assert not any(p.requires_grad for p in clip.text.parameters()) and clip.text_projection.weight.requires_grad


def test_only_pretrained_towers_can_be_frozen():
    with pytest.raises(MinclipError, match=r"'both'.*model\.vision\.tower 'vit'"):
        tiny({"freeze": "both"})
    with pytest.raises(MinclipError, match=r"train\.freeze 'all' is not one of"):
        tiny({"freeze": "all"})
    with pytest.raises(MinclipError, match=r"train\.text_lr -1e-05"):
        tiny({"text_lr": -1e-5})


# ---- a run, and what is left when the owners are gone


@pytest.mark.slow
def test_a_run_goes_on_and_opens_without_its_owners(timm_hub, hub, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bert = make_bert(tmp_path / "bert")
    config = run_of(bert, {"lr": 1e-3})
    whole = short_train(config, "runs/whole")
    write = minclip.training.run.write_metrics

    def break_at(number):
        def broken(folder, line):
            if line["step"] == number:
                raise RuntimeError("the machine stops")
            write(folder, line)

        return mock.patch.object(minclip.training.run, "write_metrics", broken)

    # before the first checkpoint the owners are asked again
    with break_at(1), pytest.raises(RuntimeError, match="machine stops"):
        short_train(config, "runs/early")
    assert not Path("runs/early/state.pt").exists()
    early = short_train(config, "runs/early", resume=True)
    with break_at(3), pytest.raises(RuntimeError, match="machine stops"):
        short_train(config, "runs/cut")
    # afterwards nobody
    shutil.rmtree(bert)
    shutil.rmtree(constants.HF_HUB_CACHE)
    hub.status = 503
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    resumed = short_train(config, "runs/cut", resume=True)
    opened = Run.load("whole")
    for run in (early, resumed, opened):
        assert run.model.state_dict().keys() == whole.model.state_dict().keys()
        for name, value in whole.model.state_dict().items():
            assert torch.equal(run.model.state_dict()[name], value), name
    assert opened.config == whole.config and opened.config.model.vision.mean == (0.5, 0.5, 0.5)
    images, ids = torch.randn(2, 3, 32, 32), opened.tokenizer(TEXTS, 40)
    assert torch.equal(ids, whole.tokenizer(TEXTS, 40))
    with torch.no_grad():
        for ours, theirs in zip(opened.model(images, ids), whole.model(images, ids)):
            assert torch.equal(ours, theirs)
    # a copy to ship, and the command line
    opened.export("shipped")
    model, preprocess, tokenizer = minclip.load("shipped")
    assert torch.equal(tokenizer(TEXTS, 40), ids) and preprocess.config.mean == (0.5, 0.5, 0.5)
    torch.testing.assert_close(model.encode_text(ids), whole.model.encode_text(ids), rtol=1e-2, atol=1e-2)
    Image.new("RGB", (40, 30), "red").save("red.png")
    assert main(["classify", "whole", "red.png", "--labels", "red star, blue ring", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.splitlines()[-1])["results"][0]["probabilities"]
    assert sum(answer.values()) == pytest.approx(1, abs=1e-3)


@pytest.mark.slow
def test_the_command_line_takes_a_tower_by_name(bert, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(start, "fetch_weights", lambda clip: None)
    short = ["--model.vision", "timm:test_vit", f"--model.text=hf:{bert}", "--train.text-lr", "1e-5", "--json"]
    loop = "--data.image-size 32 --data.size 64 --train.batch-size 32 --train.steps 2 --train.device cpu --train.eval-every 0"
    assert main(["train", "shapes", *short, *loop.split()]) == 0
    trained = json.loads(capsys.readouterr().out.splitlines()[-1])
    config = Run.load("shapes").config
    assert config.model.vision.tower == "timm:test_vit" and config.model.text.tower == f"hf:{bert}"
    assert trained["step"] == 2 and set(trained["figures"]) == {"test", "heldout"} and config.train.text_lr == 1e-5


def trained_by(folder, configs):
    """In one of several processes: the weights after each of the runs."""
    torch.manual_seed(0)
    return {name: short_train(config, folder / name).model.state_dict() for name, config in configs.items()}


@pytest.mark.slow
def test_many_processes_end_with_the_weights_of_one(timm_hub, tmp_path, monkeypatch):
    bert = make_bert(tmp_path / "bert", dropout=0.0)  # each process draws its own
    config = run_of(bert, {"lr": 3e-4, "text_lr": 3e-5})
    frozen = replace(config, train=replace(config.train, freeze="text", text_lr=None))
    ways = {
        "ddp": config,
        "fsdp": replace(config, train=replace(config.train, parallel="fsdp")),
        "fsdp, frozen": replace(frozen, train=replace(frozen.train, parallel="fsdp")),
    }
    alone = trained_by(tmp_path / "1", {"": config, "frozen": frozen})
    monkeypatch.setenv("HF_HUB_CACHE", constants.HF_HUB_CACHE)  # where the stand-in's file lies by now
    for of_process in in_processes(2, trained_by, tmp_path / "2", ways):
        for way, found in of_process.items():
            wanted = alone["frozen" if "frozen" in way else ""]
            dull = [name for name in wanted if name.endswith("key.bias")]  # as the keys' in `same`
            same(*({n: x for n, x in weights.items() if n not in dull} for weights in (found, wanted)))


# ---- what is made of them


@pytest.mark.parametrize("vision", ["timm:test_vit", "timm:test_resnet"])
def test_gradient_checkpointing_changes_no_gradient_and_no_statistics(built, vision):
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        clip = CLIP(replace(built[0].config, vision=replace(VIT, tower=vision)))
        if recompute:
            recompute_blocks(clip.vision), recompute_blocks(clip.text)
        torch.manual_seed(5)
        features = clip.train()(torch.rand(2, 3, 32, 32), built[1](TEXTS[:2], 40))
        sum(x.sum() for x in features).backward()
        found.append(gradients(clip) | dict(clip.named_buffers()))
    assert found[0].keys() == found[1].keys() and len(found[0]) >= len(list(clip.parameters()))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, msg=name)


def test_norms_keep_their_activations_when_they_are_synchronized():
    vision = replace(VIT, tower="timm:test_efficientnet")
    clip = CLIP(CLIPConfig(24, vision, TextConfig(width=32, heads=2, layers=1))).eval()
    before = [type(part) for part in clip.modules() if isinstance(part, nn.BatchNorm2d)]
    images = torch.randn(2, 3, 32, 32)
    wanted = clip.vision(images)
    towers.synchronize_norms(clip)
    after = [part for part in clip.modules() if isinstance(part, nn.SyncBatchNorm)]
    assert len(after) == len(before) > 0 and not [p for p in clip.modules() if isinstance(p, nn.BatchNorm2d)]
    with contextlib.suppress(ValueError):  # on a CPU it refuses to run at all
        torch.testing.assert_close(clip.vision(images), wanted)
    assert any(not isinstance(getattr(part, "act", nn.Identity()), nn.Identity) for part in after)


# ---- mistakes


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"vision": {"tower": "timm:vit_bas_patch16_224"}}, r"timm has no model 'vit_bas_patch16_224' \(did you mean 'vit_base_patch16_224'\?\)"),
        ({"vision": {"tower": "timm:test_vit.r160_in2k"}}, r"no model 'test_vit.r160_in2k' \(did you mean 'test_vit.r160_in1k'\?\)"),
        ({"vision": {"tower": "timm:"}}, "timm has no model ''"),
        ({"vision": {"tower": "timm:hf-hub:timm/test_vit"}}, "timm has no model"),
        ({"vision": {"tower": "resnet50"}}, "tower 'resnet50' is not one of vit, resnet, small_resnet, timm:"),
        ({"text": {"tower": "bert"}}, "tower 'bert' is not one of transformer, bag, hf:"),
        ({"text": {"tower": "hf:there/is-none"}}, r"there/is-none/config\.json.*no network"),
        ({"text": {"tower": "hf:./nowhere/at/all"}}, r"\./nowhere/at/all"),
    ],
)  # fmt: skip
def test_a_name_that_is_none_is_told(config, message):
    with pytest.raises(MinclipError, match=message):
        values = to_dict(CLIPConfig())
        complete_config(
            from_dict(CLIPConfig, {**values, **{part: {**values[part], **new} for part, new in config.items()}})
        )


def test_a_folder_that_is_no_text_model_is_told(tmp_path, bert):
    empty = of_bert(tmp_path)
    with pytest.raises(MinclipError, match=r"config\.json"):
        complete_config(CLIPConfig(24, VIT, empty))
    with pytest.raises(MinclipError, match=r"tokenizer"):
        new_tokenizer(empty, list)
    text = complete_config(CLIPConfig(24, VIT, of_bert(bert))).text
    for change, message in (
        ({"hf_config": ""}, r"model\.text\.hf_config.*hf:"),
        ({"hf_config": '{"model_type": "nonsense"}'}, r"model\.text\.hf_config.*nonsense"),
        (
            {"hf_config": '{"model_type": "t5", "d_model": 8, "num_layers": 1, "d_ff": 8}'},
            "t5",
        ),
        ({"context_length": 65}, "context_length 65.*64"),
        ({"hf_config": "[" * 100_000}, r"model\.text\.hf_config"),
        ({"hf_config": '{"model_type": "bert", "num_hidden_layers": 1000000000000}'}, "layers"),
        ({"hf_config": '{"model_type": "bert", "vocab_size": 1000000000000}'}, "768,"),
        ({"hf_config": '{"model_type": "bert", "hidden_size": "wide"}'}, r"model\.text\.hf_config"),
        ({"hf_config": '{"model_type": "bert", "hidden_size": -4}'}, r"model\.text\.hf_config"),
    ):
        with pytest.raises(MinclipError, match=message):
            towers.HuggingFaceTower(replace(text, **change))


def test_an_image_size_that_the_patches_do_not_divide_is_told():
    with pytest.raises(MinclipError, match=r"40.*timm:test_vit.*16"):
        towers.TimmTower(replace(VIT, image_size=40))


def test_a_library_that_is_missing_is_told_with_its_extra(bert, monkeypatch):
    for library in ("timm", "transformers"):
        monkeypatch.setitem(sys.modules, library, None)
    for make in (
        lambda: complete_config(CLIPConfig(24, VIT, TextConfig())),
        lambda: towers.TimmTower(VIT),
    ):
        with pytest.raises(MinclipError, match=r'^this tower needs timm: pip install "minclip\[timm\]"'):
            make()
    for make in (
        lambda: new_tokenizer(of_bert(bert), list),
        lambda: towers.HuggingFaceTower(replace(of_bert(bert), hf_config="{}")),
    ):
        with pytest.raises(MinclipError, match=r'^this tower needs transformers: pip install "minclip\[hf\]"'):
            make()


@pytest.mark.slow
def test_importing_minclip_imports_neither(tmp_path):
    code = "import sys, minclip; sys.exit(bool({'timm', 'transformers', 'tokenizers'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(minclip.__file__).parent.parent).returncode == 0


def test_a_config_of_before_pretrained_towers_is_still_read():
    values = to_dict(tiny())
    del (
        values["train"]["freeze"],
        values["train"]["vision_lr"],
        values["train"]["text_lr"],
        values["model"]["text"]["hf_config"],
    )
    assert from_dict(TrainConfig, values) == tiny()

"""Models as people have and name them: folders of every kind, half a CLIP, heads, paths and names, tokenizers."""

import json
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants as constants
import pytest
import torch
from tiny_weights import CONFIG, TOKENIZER, equal, hugging_face, opened, state

from minclip import CLIP, MinclipError, TextConfig, VisionConfig, load
from minclip.training.run import Run
from minclip.weights.folder import look_up
from minclip.weights.load import save
from minclip.weights.names import OPEN_CLIP_NAMES, config_of

pytestmark = pytest.mark.usefixtures("own_home")


@pytest.fixture
def model(own_home):
    return CLIP(CONFIG).eval()


# ---- folders


def test_a_folder_with_nothing_but_weights_is_opened(model, here):
    for name in ("open_clip_pytorch_model.bin", "open_clip_model.safetensors", "clip.pt", "pytorch_model.bin"):
        (here / name).mkdir()
        torch.save(state(model), here / name / name)
        assert equal(opened(here / name), model)


def test_a_folder_of_sentence_transformers_is_opened(model, here):
    hugging_face(model, here / "st" / "0_CLIPModel", tokenizer=TOKENIZER)
    (here / "st" / "modules.json").write_text('[{"idx": 0, "name": "0", "path": "0_CLIPModel"}]')
    (here / "st" / "config_sentence_transformers.json").write_text("{}")
    loaded, _, tokenizer = load(here / "st")
    assert equal(loaded, model) and tokenizer.merges == TOKENIZER.merges and loaded.config.activation == "quick_gelu"


def test_a_folder_above_or_a_file_beside_the_weights_will_do(model, here):
    model.save_pretrained(here / "a" / "b", tokenizer=TOKENIZER)
    for path in (here / "a", here / "a" / "b" / "config.json", here / "a" / "b" / "tokenizer.json"):
        loaded, _, tokenizer = load(path)
        assert equal(loaded, model) and tokenizer.merges == TOKENIZER.merges


def test_several_weights_are_listed(model, here):
    for epoch in (1, 2):
        torch.save(state(model), here / f"epoch_{epoch}.pt")
    with pytest.raises(MinclipError, match=r"epoch_1\.pt, epoch_2\.pt"):
        load(here)
    for name in ("text_encoder", "unet"):
        hugging_face(model, here / "pipeline" / name)
    with pytest.raises(MinclipError, match=r"pipeline.*text_encoder, unet"):
        load(here / "pipeline")


def test_an_object_in_place_of_a_name_is_not_printed_whole(model):
    for thing in (model, model.state_dict()):
        with pytest.raises(MinclipError, match="no run or model") as error:
            load(thing)
        assert len(str(error.value)) < 600


def test_a_snapshot_of_the_hub_is_opened(model, here):
    folder = hugging_face(model, here / "blobs")
    (here / "snapshots" / "abc").mkdir(parents=True)
    for file in folder.iterdir():
        (here / "snapshots" / "abc" / file.name).symlink_to(file)
    assert equal(load(here / "snapshots" / "abc")[0], model)
    (here / "snapshots" / "older").mkdir()
    (here / "refs").mkdir()
    (here / "refs" / "main").write_text("abc")
    assert equal(load(here)[0], model)  # the folder of the hub's cache


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_several_files_are_refused(model, here, name):
    folder = hugging_face(model, here / "there")
    stem, ending = name.split(".")
    (folder / "model.safetensors").rename(folder / f"{stem}-00001-of-00002.{ending}")
    (folder / f"{name}.index.json").write_text(json.dumps({"weight_map": {}}))
    for path in (folder, folder / f"{name}.index.json"):
        with pytest.raises(MinclipError, match="max_shard_size"):
            load(path)


def test_a_config_of_another_size_is_refused(model, here):
    for format, file, keys in (
        ("open_clip", "open_clip_config.json", ("model_cfg", "vision_cfg", "width")),
        ("transformers", "config.json", ("text_config", "hidden_size")),
    ):
        save(here / format, model, format=format)
        values = inner = json.loads((here / format / file).read_text())
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = 128
        (here / format / file).write_text(json.dumps(values))
        with pytest.raises(MinclipError, match=r"\(64,\), not \(128,\)"):
            load(here / format)


# ---- files that hold no CLIP, or half of one


def named(*names):
    return {name: torch.zeros(2, 2) for name in names}


@pytest.mark.parametrize(
    "names",
    [
        ["base_model.model.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight"],
        ["text_model.embeddings.token_embedding.weight", "text_projection.weight"],
        ["visual.class_embedding", "visual.proj"],
        ["visual.trunk.patch_embed.proj.weight", "text.token_embedding.weight", "logit_scale"],
        ["vision_model.head.probe", "text_model.head.weight", "logit_bias"],
        ["embeddings.mask_token", "encoder.layer.0.layer_scale1.lambda1"],
        ["vision.stem.projection.weight", "text.token_embedding.weight"],
    ],
)
def test_the_tensors_of_another_kind_of_model_are_named(here, names):
    torch.save(named(*names), here / "w.pt")
    with pytest.raises(MinclipError, match=rf"w\.pt.*{sorted(names)[0]}.*config\.json"):
        load(here / "w.pt", activation="gelu")


@pytest.mark.parametrize("kind", ["siglip", "clip_text_model", "clip_vision_model", "clipseg"])
def test_the_config_of_another_kind_of_model_is_named(model, here, kind):
    hugging_face(model, here / "m")
    values = json.loads((here / "m" / "config.json").read_text()) | {"model_type": kind}
    (here / "m" / "config.json").write_text(json.dumps(values))
    with pytest.raises(MinclipError, match=rf"config\.json.*{kind}"):
        load(here / "m")


# ---- heads, which no tensor shows


def test_heads_may_be_given(model, here):
    torch.save(state(model), here / "w.pt")
    config = opened(here / "w.pt", heads=(4, 2)).config
    assert (config.vision.heads, config.text.heads) == (4, 2)
    save(here / "there", model, format="transformers")
    assert load(here / "there", heads=(2, 8))[0].config.vision.heads == 2
    for wrong in ((3, 1), (0, 1), (1,), 4, (1.5, 1)):
        with pytest.raises(MinclipError, match="heads"):
            opened(here / "w.pt", heads=wrong)


def test_heads_of_a_run_are_its_own(model, here):
    model.save_pretrained(here / "mine")
    with pytest.raises(MinclipError, match="heads"):
        load(here / "mine", heads=(2, 2))


def test_the_heads_that_were_assumed_are_said(model, here):
    torch.save(state(model), here / "w.pt")
    with pytest.warns(UserWarning, match=r"heads=\(1, 1\)"):
        load(here / "w.pt")


def test_the_heads_of_every_plain_clip_of_open_clip_are_known():
    open_clip = pytest.importorskip("open_clip")
    checked = 0
    for file in (Path(open_clip.__file__).parent / "model_configs").glob("*.json"):
        theirs = json.loads(file.read_text())
        vision, text = theirs.get("vision_cfg", {}), theirs["text_cfg"]
        if {"timm_model_name", "hf_model_name"} & {*vision, *text} or "multimodal_cfg" in theirs or "width" not in text:
            continue
        resnet = isinstance(vision["layers"], list)
        sizes = {"width": vision.get("width", 64 if resnet else 768), "layers": 1, "heads": 1}
        sizes |= {"tower": "resnet", "stages": (1, 1, 1, 1), "image_size": 32} if resnet else {"image_size": 32}
        small = replace(CONFIG, vision=VisionConfig(**{k: v for k, v in sizes.items() if not resnet or k != "layers"}))
        small = replace(small, text=TextConfig(width=text["width"], layers=1, vocab_size=9, heads=1))
        with torch.device("meta"):
            found = config_of(state(CLIP(small)), OPEN_CLIP_NAMES, {"activation": "gelu"})
        wide = vision.get("width", 64 if resnet else 768) * (32 if resnet else 1)
        assert found.vision.heads == wide // vision.get("head_width", 64), file.name
        assert found.text.heads == text["heads"], file.name
        checked += 1
    assert checked > 30


# ---- names as people type them


def test_a_folder_without_a_model_does_not_hide_a_run(model, here):
    (here / "flickr8k" / "Images").mkdir(parents=True)
    (here / "flickr8k" / "captions.txt").write_text("image,caption\n")
    model.save_pretrained(here / "runs" / "flickr8k")
    assert look_up("flickr8k") == Path("runs/flickr8k") and equal(load("flickr8k")[0], model)
    assert look_up("./flickr8k") == Path("flickr8k")
    for path in ("./flickr8k", here / "flickr8k"):
        with pytest.raises(MinclipError, match="flickr8k"):
            load(path)
        with pytest.raises(MinclipError, match=r"flickr8k has no config\.json"):
            Run.load(path)


def test_a_file_that_is_no_weights_does_not_hide_a_run_either(model, here):
    (here / "mine").write_text("notes")
    model.save_pretrained(here / "runs" / "mine")
    assert equal(load("mine")[0], model)
    (here / "runs" / "mine" / "model.safetensors").unlink()
    with pytest.raises(MinclipError, match=r"model\.safetensors"):  # a run that lost its weights is still the run
        load("mine")


def test_paths_are_understood_in_any_spelling(model, here):
    model.save_pretrained(here / "home" / "my model")
    for name in (
        "~/my model",
        (here / "home" / "my model").as_uri(),
        f"file://{here}/home/my model",
        f"local-dir:{here}/home/my model",
        "home/my model/",
    ):
        assert equal(load(name)[0], model)


@pytest.mark.parametrize(
    "name",
    [
        "hf-hub:owner/name",
        "https://huggingface.co/owner/name",
        "https://huggingface.co/owner/name/tree/main",
        "hf.co/owner/name",
    ],
)
def test_a_repository_is_understood_in_any_spelling(model, here, monkeypatch, name):
    hugging_face(model, here / "there")
    asked = []

    def find_on_hub(repo):
        asked.append(repo)
        return here / "there"

    monkeypatch.setattr("minclip.weights.load.find_on_hub", find_on_hub)
    assert equal(load(name)[0], model) and asked == ["owner/name"]


@pytest.mark.parametrize("name", ["ViT-B-32:laion2b_s34b_b79k", "ViT-H-14/laion2b_s32b_b79k", "ViT-B-16, openai"])
def test_a_tag_of_open_clip_is_told_the_hubs_name(name):
    with pytest.raises(MinclipError, match=r"hub"):
        load(name)


def test_weights_on_the_hub_may_lie_in_sentence_transformers_folder(model, here, monkeypatch):
    hugging_face(model, here / "hub" / "0_CLIPModel", tokenizer=TOKENIZER)

    def hub_file(repo, name, *, by_hand=None, missing_ok=False):
        return here / "hub" / name if (here / "hub" / name).exists() else None

    monkeypatch.setattr("minclip.weights.load.hub_file", hub_file)
    loaded, _, tokenizer = load("owner/name")
    assert equal(loaded, model) and tokenizer.merges == TOKENIZER.merges


@pytest.mark.parametrize("format", ["open_clip", "transformers"])
def test_a_repository_that_was_downloaded_whole_needs_no_network(model, here, monkeypatch, format):
    # by `hf download`, as the message without a network advises: it remembers no missing files
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(here / "cache"))
    with pytest.raises(MinclipError, match="hf download owner/name"):
        load("owner/name")
    repo = here / "cache" / "models--owner--name"
    save(repo / "snapshots" / "abc", model, format=format, tokenizer=TOKENIZER)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    loaded, _, tokenizer = load("owner/name")
    assert equal(loaded, model) and tokenizer.merges == TOKENIZER.merges


# ---- tokenizers


def test_why_there_is_no_tokenizer_is_said(model, here):
    save(here / "there", model, format="transformers")
    with pytest.warns(UserWarning, match=r"tokenizer.*520"):
        assert load(here / "there")[2] is None
    (here / "there" / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": {"a": 0}}}))
    with pytest.warns(UserWarning, match=r"tokenizer\.json"):
        assert load(here / "there")[2] is None


@pytest.mark.parametrize("damage", ["[1]", '{"model": 3}', '{"model": {"vocab": [], "merges": [3]}}', "{"])
def test_a_damaged_tokenizer_of_hugging_face_leaves_the_images(model, here, damage):
    save(here / "there", model, format="transformers")
    (here / "there" / "tokenizer.json").write_text(damage)
    with pytest.warns(UserWarning, match=r"tokenizer\.json"):
        assert equal(load(here / "there")[0], model)

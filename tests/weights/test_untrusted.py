"""Weights and configs that other people wrote, at their worst: limits, one sentence for any damage, no home, no second reading."""

import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants as constants
import pytest
import safetensors.torch
import torch
from local_hub import CONTENT
from torch import nn

import minclip.weights.hub
from minclip import CLIP, CLIPConfig, MinclipError, TextConfig, Tokenizer, VisionConfig, load
from minclip.training.run import Run
from minclip.weights.files import read_tensors
from minclip.weights.hub import hub_file
from minclip.weights.load import OPENAI, save
from minclip.weights.names import OPEN_CLIP_NAMES, TRANSFORMERS_NAMES, to_theirs
from minclip.weights.towers import complete_config, new_tokenizer

TOKENIZER = Tokenizer.train(["a red circle"] * 4, 520)
CONFIG = CLIPConfig(
    embed_dim=32,
    vision=VisionConfig(image_size=16, patch_size=8, width=64, layers=1, heads=1),
    text=TextConfig(context_length=8, vocab_size=520, width=64, layers=1, heads=1),
)


@pytest.fixture(autouse=True)
def somewhere(here, data_home):
    torch.manual_seed(0)


@pytest.fixture
def model():
    return CLIP(CONFIG)


# ---- a loaded tokenizer knows its model's context length


@pytest.mark.parametrize("format", ["minclip", "open_clip", "transformers"])
def test_the_tokenizer_of_a_folder_fits_its_model(model, here, format):
    model.save_pretrained(here / "there", format=format, tokenizer=TOKENIZER)
    loaded, _, tokenizer = load(here / "there")
    assert tokenizer(["a red circle"]).shape == (1, 8) and loaded.encode_text(tokenizer("a red circle")).shape == (
        1,
        32,
    )


def test_openais_tokenizer_fits_the_model_it_comes_with(here):
    text = replace(CONFIG.text, vocab_size=49408, context_length=12)
    save(here / "there", CLIP(replace(CONFIG, text=text)), format="open_clip")
    assert load(here / "there")[2](["a red circle"]).shape == (1, 12)


def test_the_tokenizers_of_a_run_and_of_a_new_one_fit(monkeypatch):
    monkeypatch.delenv("MINCLIP_DATA")
    assert Run.load(Path(minclip.__file__).parent.parent / "data" / "demo").tokenizer("a").shape == (1, 32)
    assert new_tokenizer(replace(CONFIG.text, vocab_size=520), lambda: ["a red circle"] * 4)("a").shape == (1, 8)


# ---- the activation that the caller names


@pytest.mark.parametrize("name", ["mine", "mine/model.safetensors"])
def test_an_activation_is_honoured_for_minclips_own_folders(model, here, name):
    model.save_pretrained(here / "mine")
    images, quick = torch.randn(2, 3, 16, 16), CLIP(replace(CONFIG, activation="quick_gelu")).eval()
    quick.load_state_dict(model.state_dict())
    loaded = load(here / name, activation="quick_gelu")[0]
    assert loaded.config.activation == "quick_gelu"
    assert torch.equal(loaded.encode_image(images), quick.encode_image(images))
    with pytest.raises(MinclipError, match="activation"):
        load(here / name, activation="relu")


# ---- a file is hashed once, until it changes


@pytest.fixture
def hashed(monkeypatch):
    """The files whose bytes are read for their hash."""
    paths, sha256 = [], minclip.weights.hub.sha256
    monkeypatch.setattr(minclip.weights.hub, "sha256", lambda path: (paths.append(Path(path).name), sha256(path))[1])
    return paths


def test_a_file_of_the_hub_is_hashed_once_until_it_changes(hub, hashed):
    path = hub_file("owner/name", "weights.bin")
    assert hub_file("owner/name", "weights.bin") == hub_file("owner/name", "weights.bin") == path
    assert len(hashed) == 1
    path.resolve().write_bytes(CONTENT[:-1] + b"!")  # as long as before
    with pytest.raises(MinclipError, match=r"weights\.bin"):
        hub_file("owner/name", "weights.bin")
    with pytest.raises(MinclipError, match=r"weights\.bin"):
        hub_file("owner/name", "weights.bin")  # and again


def test_openais_file_is_hashed_once(model, data_home, monkeypatch, hashed):
    data_home.mkdir(exist_ok=True)
    path = data_home / "ViT-B-32.pt"
    torch.save(to_theirs(model.state_dict(), OPEN_CLIP_NAMES), path)
    monkeypatch.setitem(OPENAI, "ViT-B/32", (minclip.weights.hub.sha256(path), "none"))
    hashed.clear()
    for name in ("ViT-B/32", path, "ViT-B/32"):
        load(name)
    assert hashed == ["ViT-B-32.pt"]


def test_a_data_folder_that_can_not_be_written_costs_the_memory_only(hub, hashed, data_home):
    data_home.write_text("a file where the folder would be")
    assert [hub_file("owner/name", "weights.bin").read_bytes() for _ in range(2)] == [CONTENT] * 2 and len(hashed) == 2


# ---- JSON nested without end

NESTED = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("format", "file"),
    [
        ("minclip", "config.json"),
        ("minclip", "tokenizer.json"),
        ("open_clip", "open_clip_config.json"),
        ("open_clip", "minclip_tokenizer.json"),
        ("transformers", "config.json"),
        ("transformers", "preprocessor_config.json"),
    ],
)
def test_json_that_is_nested_without_end_is_named(model, here, format, file):
    model.save_pretrained(here / "there", format=format, tokenizer=TOKENIZER)
    (here / "there" / file).write_text(NESTED)
    with pytest.raises(MinclipError, match=file):
        load(here / "there")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_json_of_a_text_tower_that_is_nested_without_end_is_named(tmp_path, file):
    config = replace(CONFIG.text, tower=f"hf:{tmp_path}", width=512, layers=12, heads=8)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_text(NESTED if name == file else '{"model_type": "bert"}')
    with pytest.raises(MinclipError, match=str(tmp_path)):
        if file == "config.json":
            complete_config(replace(CONFIG, text=config))
        else:
            new_tokenizer(config, list)


# ---- sizes


@pytest.mark.parametrize(
    ("group", "field"),
    [
        ("vision", "layers"),
        ("vision", "width"),
        ("vision", "mlp_width"),
        ("text", "layers"),
        ("text", "context_length"),
        ("text", "vocab_size"),
        (None, "embed_dim"),
    ],
)
def test_a_declared_size_without_end_is_refused(model, here, group, field):
    model.save_pretrained(here / "mine")
    values = json.loads((here / "mine" / "config.json").read_text())
    (values["model"][group] if group else values["model"])[field] = 10**12
    (here / "mine" / "config.json").write_text(json.dumps(values))
    with pytest.raises(MinclipError):
        load(here / "mine")


def deflated(path, change=lambda name, data: data):
    """Writes the zip again, its members compressed as torch never compresses them."""
    with zipfile.ZipFile(path) as old:
        members = {name: change(name, old.read(name)) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for name, data in members.items():
            new.writestr(name, data)


@pytest.mark.parametrize("kind", ["torchscript", "state dict"])
def test_an_archive_that_unpacks_to_much_more_than_it_holds_is_refused(here, kind):
    module = nn.Linear(6000, 6000, bias=False)  # 144 MB of zeros
    nn.init.zeros_(module.weight)
    if kind == "torchscript":
        torch.jit.save(torch.jit.script(module), here / "bomb.pt")
    else:
        torch.save(module.state_dict(), here / "bomb.pt")
    deflated(here / "bomb.pt")
    assert (here / "bomb.pt").stat().st_size < 2_000_000
    with pytest.raises(MinclipError, match=r"bomb\.pt.*144"):
        read_tensors(here / "bomb.pt")


class Expanded(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("a", torch.zeros(1).expand(100_000_000))

    def forward(self, x):
        return x


@pytest.mark.parametrize("kind", ["torchscript", "state dict", "legacy"])
def test_a_tensor_that_is_much_larger_than_its_file_is_refused(here, kind):
    if kind == "torchscript":
        torch.jit.save(torch.jit.script(Expanded()), here / "bomb.pt")
    else:
        torch.save({"a": Expanded().a}, here / "bomb.pt", _use_new_zipfile_serialization=kind == "state dict")
    assert (here / "bomb.pt").stat().st_size < 10_000
    with pytest.raises(MinclipError, match=r"bomb\.pt.*400"):
        read_tensors(here / "bomb.pt")


def test_an_archive_that_is_merely_compressed_is_read(here):
    torch.save({"a": torch.arange(1000.0)}, here / "small.pt")
    deflated(here / "small.pt")
    assert torch.equal(read_tensors(here / "small.pt")["a"], torch.arange(1000.0))


# ---- weights in which any tensor has another shape


@pytest.mark.parametrize("names", [OPEN_CLIP_NAMES, TRANSFORMERS_NAMES], ids=["open_clip", "transformers"])
@pytest.mark.parametrize("shape", [(), (2, 2, 2)])
def test_any_tensor_of_another_shape_is_told_by_its_file(model, here, names, shape):
    right = {name: x.contiguous() for name, x in to_theirs(model.state_dict(), names).items()}
    for name in right:
        if right[name].shape == shape:
            continue
        safetensors.torch.save_file(right | {name: torch.zeros(shape)}, here / "weights.safetensors")
        with pytest.raises(MinclipError, match=r"weights\.safetensors"):
            load(here / "weights.safetensors", activation="gelu")


def test_a_tensor_without_values_is_refused(model, here):
    tensors = to_theirs(model.state_dict(), OPEN_CLIP_NAMES)
    torch.save(tensors | {"ln_final.weight": torch.empty(64, device="meta")}, here / "weights.pt")
    with pytest.raises(MinclipError, match=r"weights\.pt.*ln_final\.weight"):
        load(here / "weights.pt", activation="gelu")


# ---- no home


@pytest.fixture
def no_home(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)


def test_without_a_home_weights_are_opened(no_home, model, here, data_home):
    save(data_home, model, format="open_clip")
    assert load(data_home)[0].config == load(data_home / "open_clip_model.safetensors", activation="gelu")[0].config


def test_without_a_home_the_message_says_where_was_looked(no_home, data_home, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MinclipError, match=str(data_home)):
        load("ViT-B/32")


def test_without_a_home_the_hubs_files_go_to_the_data_folder(hub, no_home, here, data_home, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "~/.cache/huggingface/hub")  # what the library makes of no home
    assert data_home in hub_file("owner/name", "weights.bin").parents and not (here / "~").exists()

"""Weights that others trained: OpenAI's, OpenCLIP's and Hugging Face's, opened by name or path, and written for others."""

import contextlib
import dataclasses
import json
import re
import warnings
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..config import CLIPConfig, MinclipError, data_folder, nearest
from ..model import CLIP
from ..preprocess import Preprocess
from ..tokenizer import Tokenizer
from .files import blame, read_tensors, shards
from .folder import atomic_write, build, look_up, read_folder, some, unknown_name, write_folder, write_json
from .hub import NoSuchFile, hub_file, sha256
from .names import OPEN_CLIP_NAMES, TRANSFORMERS_NAMES, config_of, to_ours, to_theirs
from .peers import (
    Known,
    for_image_processor,
    for_open_clip,
    for_transformers,
    open_clip_config,
    transformers_config,
)

# OpenAI's nine models: the SHA-256 of the file that OpenAI published, and where the hub has the same weights
OPENAI = {
    "RN50": ("afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762", "timm/resnet50_clip.openai"),
    "RN101": ("8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599", "timm/resnet101_clip.openai"),
    "RN50x4": ("7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd", "timm/resnet50x4_clip.openai"),
    "RN50x16": ("52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa", "timm/resnet50x16_clip.openai"),
    "RN50x64": ("be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c", "timm/resnet50x64_clip.openai"),
    "ViT-B/32": (
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        "timm/vit_base_patch32_clip_224.openai",
    ),
    "ViT-B/16": (
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        "timm/vit_base_patch16_clip_224.openai",
    ),
    "ViT-L/14": (
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
        "timm/vit_large_patch14_clip_224.openai",
    ),
    "ViT-L/14@336px": (
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        "timm/vit_large_patch14_clip_336.openai",
    ),
}

OPEN_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TRANSFORMERS_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
TOKENIZER_FILE = "minclip_tokenizer.json"  # ours beside theirs, whose own `tokenizer.json` is another format


def load(
    name_or_path: str | Path, device: torch.device | str = "cpu", activation: str | None = None
) -> tuple[CLIP, Preprocess, Tokenizer | None]:
    """Opens a model, in eval mode and fp32: `model, preprocess, tokenizer = minclip.load("ViT-B/32")`.

    `name_or_path` is a run or a name in `data/` ("demo"); a folder that minclip, OpenCLIP or Hugging Face's `CLIPModel`
    wrote; a file of weights (see `archive.read_tensors`); one of OpenAI's nine names; or a repository of the hub,
    "owner/name".  Sizes are read back from the weights.  `activation` ("gelu" or "quick_gelu") overrides what their origin
    tells; where that tells nothing, GELU is assumed, with a warning.
    """
    name, path = str(name_or_path), look_up(name_or_path)
    if path is not None and path.is_dir():
        model, tokenizer = read_any_folder(path, activation)
    elif path is not None:
        check_openai(path)
        model, tokenizer = read_file_and_config(path, activation)
    elif name in OPENAI:
        model, tokenizer = read_file(find_openai(name), activation or "quick_gelu")
    elif Path(name).suffix in (".pt", ".pth", ".bin", ".ckpt", ".safetensors") or name.startswith((".", "/", "~")):
        raise MinclipError(f"{name} is not there")
    elif re.fullmatch(r"(hf-hub:)?[\w.-]+/[\w.-]+", name) and not nearest(name, OPENAI, cutoff=0.8):
        model, tokenizer = read_hub(name.removeprefix("hf-hub:"), activation)
    else:
        raise unknown_name(name, OPENAI)
    return model.to(device), Preprocess(model.config.vision), tokenizer


def openai_file(name: str) -> str:
    """The name of OpenAI's file: "ViT-L/14@336px" -> "ViT-L-14-336px.pt"."""
    return name.replace("/", "-").replace("@", "-") + ".pt"


def find_openai(name: str) -> Path:
    """OpenAI's own file in `data/` or where its package keeps it, its hash checked; else the hub's copy of the weights."""
    digest, repo = OPENAI[name]
    for folder in (data_folder(), Path.home() / ".cache" / "clip"):
        if (path := folder / openai_file(name)).exists():
            check_openai(path)
            return path
    url = f"https://openaipublic.azureedge.net/clip/models/{digest}/{openai_file(name)}"
    by_hand = f"Where there is a network, download {url} and put it into {data_folder()}"
    return hub_file(repo, OPEN_CLIP_FILES[0], by_hand)


def check_openai(path: Path) -> None:
    """Refuses a file in `data/` or `~/.cache/clip` that has one of OpenAI's names and another content."""
    name = next((name for name in OPENAI if openai_file(name) == path.name), None)
    theirs = path.parent.resolve() in (data_folder().resolve(), (Path.home() / ".cache" / "clip").resolve())
    if name and theirs and (found := sha256(path)) != OPENAI[name][0]:
        raise MinclipError(
            f"{path} is not OpenAI's {name}: its SHA-256 is {found[:12]}…, OpenAI's {OPENAI[name][0][:12]}….  "
            "Delete it; or, if it is your own, move it elsewhere"
        )


def read_hub(repo: str, activation: str | None) -> tuple[CLIP, Tokenizer | None]:
    """A repository of the hub that OpenCLIP or `transformers` can load, too."""
    for config, files in (("open_clip_config.json", OPEN_CLIP_FILES), ("config.json", TRANSFORMERS_FILES)):
        for file in files:
            try:
                hub_file(repo, config)
                path = hub_file(repo, file)
            except NoSuchFile:
                continue
            for shard in shards(path) if file.endswith(".index.json") else ():
                hub_file(repo, shard)
            for optional in ("preprocessor_config.json", TOKENIZER_FILE):
                with contextlib.suppress(NoSuchFile):
                    hub_file(repo, optional)
            return read_file_and_config(path, activation)
    raise MinclipError(
        f"the hub's repository {repo} has nothing that OpenCLIP or transformers could load: {some(OPEN_CLIP_FILES + TRANSFORMERS_FILES)}"
    )


def format_of(folder: Path) -> str:
    """Whose model lies in a folder: "open_clip", "transformers", "minclip", or "" where there is no config."""
    if (folder / "open_clip_config.json").exists():
        return "open_clip"
    if "model_type" in _json(folder / "config.json"):
        return "transformers"
    return "minclip" if (folder / "config.json").exists() else ""


def read_any_folder(folder: Path, activation: str | None) -> tuple[CLIP, Tokenizer | None]:
    """A folder of minclip, OpenCLIP or Hugging Face, told apart by its config."""
    files = {"open_clip": OPEN_CLIP_FILES, "transformers": TRANSFORMERS_FILES}.get(format_of(folder))
    if files is None:
        return read_folder(folder)
    weights = next((folder / file for file in files if (folder / file).exists()), None)
    if weights is None:
        raise MinclipError(f"{folder} has a config, but no weights: {' or '.join(files)}")
    return read_file_and_config(weights, activation)


def read_file_and_config(path: Path, activation: str | None) -> tuple[CLIP, Tokenizer | None]:
    """A file of weights, with the config that belongs to a file of that name where one lies beside it."""
    ours, theirs = path.with_name("config.json"), path.with_name("open_clip_config.json")
    if path.name in OPEN_CLIP_FILES and theirs.exists():
        with blame(theirs):
            known = open_clip_config(_json(theirs), theirs)
        return read_file(path, activation, known)
    if path.name in TRANSFORMERS_FILES and "model_type" in (values := _json(ours)):
        with blame(ours):
            known = transformers_config(values, _json(path.with_name("preprocessor_config.json")), ours)
        return read_file(path, activation, known)
    if path.name == "model.safetensors" and "format" in _json(ours):
        return read_folder(path.parent)
    return read_file(path, activation)


def _json(path: Path) -> dict[str, Any]:
    """A file's fields; none where it is no JSON or holds something else, which its reader will find out."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def read_file(path: Path, activation: str | None = None, known: Known | None = None) -> tuple[CLIP, Tokenizer | None]:
    """A file of weights under OpenCLIP's (and OpenAI's) or Hugging Face's names."""
    tensors = read_tensors(path)
    if "text.token_embedding.weight" in tensors and any(name.startswith("visual.") for name in tensors):
        tensors = {name.removeprefix("text."): tensor for name, tensor in tensors.items()}  # OpenCLIP's CustomTextCLIP
    if "token_embedding.weight" in tensors:
        names = OPEN_CLIP_NAMES
    elif "text_model.embeddings.token_embedding.weight" in tensors:
        names = TRANSFORMERS_NAMES
    elif "text.token_embedding.weight" in tensors:
        raise MinclipError(f"{path} holds minclip's own weights, but no config.json lies beside it")
    else:
        raise MinclipError(
            f"{path} does not hold a CLIP of OpenAI's, OpenCLIP's or Hugging Face's: it begins with {some(sorted(tensors))}"
        )
    if known is None:
        # only OpenAI's files hold their input resolution
        known = Known(activation="quick_gelu" if "input_resolution" in tensors else None)
    if activation or known.activation:
        known = dataclasses.replace(known, activation=activation or known.activation)
    else:
        warnings.warn(
            f"{path.name} does not tell its activation or its heads: GELU and heads of 64 channels are assumed; where that is wrong, "
            'load(…, activation="quick_gelu") or load the folder with its config',
            stacklevel=3,
        )
        known = dataclasses.replace(known, activation="gelu")
    with blame(path):
        config = config_of(tensors, names, known, path)
    model = build(config, to_ours(tensors, names, config, path), str(path))
    return model, _tokenizer_of(config, path.parent)


def _tokenizer_of(config: CLIPConfig, folder: Path) -> Tokenizer | None:
    """The one that `save` put beside the weights, or OpenAI's where the vocabulary has its size."""
    if (folder / TOKENIZER_FILE).exists():
        return Tokenizer.load(folder / TOKENIZER_FILE)
    if config.text.vocab_size != 49408:
        return None
    try:
        return Tokenizer.from_openai()
    except MinclipError as error:
        warnings.warn(f"the model comes without a tokenizer: {error}", stacklevel=4)
        return None


# ---- for others to load


def save(folder: str | Path, model: CLIP, tokenizer: Tokenizer | None = None, format: str = "minclip") -> None:
    """Writes a model for minclip, for OpenCLIP (`create_model("local-dir:FOLDER")`) or for `transformers` (`CLIPModel.from_pretrained`).

    MinclipError where the other library has no such tower, or where `format` is none of the three.
    """
    folder, formats = Path(folder), ("minclip", "open_clip", "transformers")
    if format not in formats:
        raise MinclipError(f"the format {format!r} is none of {', '.join(formats)}{nearest(format, formats)}")
    if format_of(folder) not in ("", format):
        raise MinclipError(f"{folder} holds a model in the format of {format_of(folder)}: choose another folder")
    if format == "minclip":
        return write_folder(folder, model, tokenizer)
    config = model.config
    vision, text = config.vision, config.text
    plain_vit = vision.tower == "vit" and vision.stem == "patch" and vision.pool == "cls"
    plain = text.tower == "transformer" and (plain_vit or (vision.tower == "resnet" and format == "open_clip"))
    plain = plain and (config.loss == "clip" or format == "open_clip")
    if not plain or text.eot_id % text.vocab_size != text.vocab_size - 1:
        raise MinclipError(
            f"{format} has no such model: it needs a plain ViT{' or a ModifiedResNet' if format == 'open_clip' else ''}, a text Transformer, EOT as the last token{'' if format == 'open_clip' else ' and the loss clip'}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    names = OPEN_CLIP_NAMES if format == "open_clip" else TRANSFORMERS_NAMES
    weights = safetensors.torch.save(to_theirs(model, names), metadata={"format": "pt"})
    if format == "open_clip":
        write_json(folder / "open_clip_config.json", for_open_clip(config))
        atomic_write(folder / OPEN_CLIP_FILES[0], weights)
    else:
        write_json(folder / "config.json", for_transformers(config))
        write_json(folder / "preprocessor_config.json", for_image_processor(vision))
        atomic_write(folder / TRANSFORMERS_FILES[0], weights)
    if tokenizer is not None:
        atomic_write(folder / TOKENIZER_FILE, tokenizer.to_json().encode())
    if tokenizer is not None and format == "transformers":
        write_json(folder / "vocab.json", {token: i for i, token in enumerate(tokenizer.vocab)})
        merges = "".join(f"{a} {b}\n" for a, b in tokenizer.merges)
        atomic_write(folder / "merges.txt", f"#version: 0.2\n{merges}".encode())
        write_json(
            folder / "tokenizer_config.json",
            {"tokenizer_class": "CLIPTokenizer", "model_max_length": text.context_length},
        )

"""Loads weights of OpenAI, OpenCLIP, Hugging Face and minclip by name or path, and saves models in their formats."""

import re
import warnings
from pathlib import Path

import torch

from ..config import MinclipError, TextConfig, nearest, need
from ..model import CLIP
from ..preprocess import Preprocess
from ..tokenizer import Tokenizer
from . import names
from .config_json import read_fields
from .files import errors_naming, read_tensors
from .folder import atomic_write, build, find_folder, look_up, read_folder, write_folder, write_json, write_weights
from .hub import hub_file
from .openai import OPENAI, check_openai, find_openai
from .towers import read_tokenizer, with_context

# For each format: its config, and its weights files, of which the first one that exists is read
CONFIGS = {"open_clip": "open_clip_config.json", "transformers": "config.json"}
FILES = {"open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")}
FILES |= {"transformers": ("model.safetensors", "pytorch_model.bin")}
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
TOKENIZER_FILE = "minclip_tokenizer.json"  # not `tokenizer.json`, which has another format there


def load(
    name_or_path: str | Path, device: torch.device | str | None = None, *, activation: str | None = None
) -> tuple[CLIP, Preprocess, Tokenizer | None]:
    """Opens a model, in eval mode and fp32: `model, preprocess, tokenizer = minclip.load("ViT-B/32")`.

    `name_or_path` is a run or a name in the data folder ("demo"); a folder of minclip, OpenCLIP or transformers'
    `CLIPModel`; a weights file (see `files.read_tensors`); one of OpenAI's nine names; or the hub's "owner/name".
    `device` None is the CPU.  `activation` ("gelu" or "quick_gelu") overrides the model's; if the files don't record
    it, GELU is assumed, with a warning.  The tokenizer, None if there is none, pads to the model's context length.
    MinclipError: the model can't be found, read or trusted.
    """
    if look_up(name_or_path) is None and str(name_or_path) in OPENAI:
        activation = activation or "quick_gelu"
    model, tokenizer = read(find(name_or_path), activation)
    return model.to(device or "cpu"), Preprocess(model.config.vision), tokenizer


def find(name_or_path: str | Path) -> Path:
    """The file or folder that `load` opens, downloaded if necessary."""
    name, path = str(name_or_path), look_up(name_or_path)
    if path is None and name in OPENAI:
        return find_openai(name)
    if path is None and is_hub_name(name) and not nearest(name, OPENAI, cutoff=0.8):
        return find_on_hub(name.removeprefix("hf-hub:"))
    return path or find_folder(name, others=OPENAI)


def is_hub_name(name: str) -> bool:
    """Whether `name` can be the hub's "owner/name": it isn't spelled like a weights file."""
    return bool(re.fullmatch(r"(hf-hub:)?\w[\w.-]*/[\w.-]+", name)) and not name.endswith(SUFFIXES)


def find_on_hub(repo: str) -> Path:
    """Downloads the weights of an OpenCLIP or transformers repository, config and tokenizer too; returns their path."""
    for format, file in [(format, file) for format, files in FILES.items() for file in files]:
        config = hub_file(repo, CONFIGS[format], missing_ok=True)
        if config and (path := hub_file(repo, file, missing_ok=True)):
            for optional in ("preprocessor_config.json", TOKENIZER_FILE):
                hub_file(repo, optional, missing_ok=True)
            return path
    files = ", ".join(sum(FILES.values(), ()))
    raise MinclipError(f"the hub's repository {repo} has no CLIP of OpenCLIP or transformers: none of {files}")


def format_of(folder: Path) -> str | None:
    """A folder's format, by its config: "open_clip", "transformers" or "minclip"; None if there is no config."""
    if (folder / CONFIGS["open_clip"]).exists():
        return "open_clip"
    if "model_type" in read_fields(folder / "config.json"):
        return "transformers"
    return "minclip" if (folder / "config.json").exists() else None


def read(path: Path, activation: str | None) -> tuple[CLIP, Tokenizer | None]:
    """Reads a folder, or a weights file and, if there is one, the config of its format beside it."""
    if path.is_dir():
        folder, files = path, FILES.get(format_of(path), ())
        if not files:
            return read_folder(folder, activation=activation)
        path = next((folder / file for file in files if (folder / file).exists()), None)
        need(path, f"{folder} has a config, but no weights: {' or '.join(files)}")
    check_openai(path)
    format = next((format for format, files in FILES.items() if path.name in files), None)
    beside = path.with_name(CONFIGS.get(format, "config.json"))
    declared = names.CONFIG_READERS[format](beside) if format else {}
    if not declared and path.name == "model.safetensors" and "format" in read_fields(path.with_name("config.json")):
        return read_folder(path.parent, activation=activation)
    tensors = read_tensors(path)
    if "text.token_embedding.weight" in tensors and any(name.startswith("visual.") for name in tensors):
        tensors = {name.removeprefix("text."): tensor for name, tensor in tensors.items()}  # OpenCLIP's CustomTextCLIP
    both = (names.OPEN_CLIP_NAMES, names.TRANSFORMERS_NAMES)
    table = next((table for table in both if table["text.token_embedding"] + ".weight" in tensors), None)
    what = "is not a CLIP of OpenAI, OpenCLIP or transformers, nor one of minclip with its config.json"
    need(table, f"{path} {what}: it holds {', '.join(sorted(tensors)[:10])}")
    of_openai = "input_resolution" in tensors  # no other files have it
    activation = activation or declared.get("activation") or ("quick_gelu" if of_openai else None)
    if activation is None:
        what = "records neither its activation nor its number of heads: minclip assumes GELU and heads of 64 channels"
        advice = 'If that is wrong, use load(…, activation="quick_gelu"), or load the folder with its config'
        warnings.warn(f"{path.name} {what}.  {advice}", stacklevel=3)
    with errors_naming(f"{path} with {beside}" if declared else path):
        config = names.config_of(tensors, table, {**declared, "activation": activation or "gelu"})
    return build(config, tensors, path, names=table), tokenizer_beside(path, config.text)


def tokenizer_beside(path: Path, text: TextConfig) -> Tokenizer | None:
    """The tokenizer that `save` put beside the weights, or OpenAI's if the vocabulary has its size, or None."""
    if path.with_name(TOKENIZER_FILE).exists():
        return read_tokenizer(path.with_name(TOKENIZER_FILE), text)
    try:
        return with_context(Tokenizer.from_openai(), text) if text.vocab_size == 49408 else None
    except MinclipError as error:
        warnings.warn(f"the model comes without a tokenizer: {error}", stacklevel=4)
        return None


def save(folder: str | Path, model: CLIP, *, tokenizer: Tokenizer | None = None, format: str = "minclip") -> None:
    """Writes a model for minclip, for OpenCLIP ("open_clip": `create_model("local-dir:FOLDER")`) or for "transformers".

    MinclipError: the other library has no such architecture, or the folder holds a model in another format.
    """
    folder, formats, open_clip = Path(folder), ("minclip", *FILES), format == "open_clip"
    need(format in formats, f"format {format!r} is not one of {', '.join(formats)}{nearest(format, formats)}")
    there = format_of(folder)
    need(there in (None, format), f"{folder} holds a model in the format {there}: choose another folder")
    if format == "minclip":
        return write_folder(folder, model, tokenizer=tokenizer)
    config, vision, text = model.config, model.config.vision, model.config.text
    vit = vision.tower == "vit" and vision.stem == "patch" and vision.pool == "cls"
    fits = vit or vision.tower == "resnet" if open_clip else vit and config.loss == "clip"
    last = text.tower == "transformer" and text.eot_id % text.vocab_size == text.vocab_size - 1
    kinds = "a plain ViT or a ModifiedResNet" if open_clip else "the loss clip, a plain ViT"
    needs = f"it needs {kinds}, a text Transformer, and EOT as the last token"
    need(fits and last, f"{format} has no such architecture: {needs}")
    folder.mkdir(parents=True, exist_ok=True)
    table = names.OPEN_CLIP_NAMES if open_clip else names.TRANSFORMERS_NAMES
    write_weights(folder / FILES[format][0], names.to_theirs(model.state_dict(), table))
    for name, values in (names.for_open_clip(config) if open_clip else names.for_transformers(config)).items():
        write_json(folder / name, values)
    if tokenizer is not None:
        atomic_write(folder / TOKENIZER_FILE, tokenizer.to_json().encode())
    if tokenizer is not None and not open_clip:
        about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": text.context_length}
        write_json(folder / "tokenizer_config.json", about)
        write_json(folder / "vocab.json", {token: i for i, token in enumerate(tokenizer.vocab)})
        merges = "\n".join(["#version: 0.2", *map(" ".join, tokenizer.merges), ""])
        atomic_write(folder / "merges.txt", merges.encode())

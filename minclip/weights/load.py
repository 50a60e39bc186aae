"""Loads weights of OpenAI, OpenCLIP, Hugging Face and minclip by name or path, and saves models in their formats."""

import re
import warnings
from dataclasses import replace
from pathlib import Path

import torch

from ..config import MinclipError, TextConfig, nearest, need
from ..model import CLIP
from ..preprocess import Preprocess
from ..tokenizer import Tokenizer
from . import names
from .config_json import parse_json, read_fields
from .files import WEIGHTS, errors_naming, read_tensors
from .folder import atomic_write, build, find_folder, look_up, read_folder, write_folder, write_json, write_weights
from .hub import hub_file
from .onnx import write_onnx
from .openai import OPENAI, check_openai, find_openai
from .towers import read_tokenizer, with_context

# For each format: its config, and its weights files, of which the first one that exists is read
CONFIGS = {"open_clip": "open_clip_config.json", "transformers": "config.json"}
FILES = {"open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")}
FILES |= {"transformers": ("model.safetensors", "pytorch_model.bin")}
TOWERS = {"open_clip": {"token_embedding.weight", "visual.conv1.weight"}}  # a tensor of each tower
TOWERS |= {"transformers": {"text_projection.weight", "visual_projection.weight"}}
TOKENIZER_FILE = "minclip_tokenizer.json"  # not `tokenizer.json`, which has another format there
TOKENIZER_FILES = (TOKENIZER_FILE, "tokenizer.json", "merges.txt")  # the others are Hugging Face's


def load(
    name_or_path: str | Path,
    device: torch.device | str | None = None,
    *,
    activation: str | None = None,
    heads: tuple[int, int] | None = None,
) -> tuple[CLIP, Preprocess, Tokenizer | None]:
    """Opens a model, in eval mode and fp32: `model, preprocess, tokenizer = minclip.load("ViT-B/32")`.

    `name_or_path` is a run or a name in the data folder ("demo"); a folder of minclip, OpenCLIP or transformers'
    `CLIPModel`; a weights file (see `files.read_tensors`); one of OpenAI's nine names; or the hub's "owner/name".
    `device` None is the CPU.  `activation` ("gelu" or "quick_gelu") overrides the model's; if the files don't record
    it, GELU is assumed, with a warning; `heads` (of the image tower, of the text tower) likewise, with the heads of
    OpenCLIP's models.  The tokenizer, None (with a warning) if there is none, pads to the model's context length.
    MinclipError: the model can't be found, read or trusted.
    """
    if look_up(name_or_path) is None and str(name_or_path) in OPENAI:
        activation = activation or "quick_gelu"
    model, tokenizer = read(find(name_or_path), activation, heads)
    return model.to(device or "cpu"), Preprocess(model.config.vision), tokenizer


def find(name_or_path: str | Path) -> Path:
    """The file or folder that `load` opens, downloaded if necessary."""
    name, path = str(name_or_path), look_up(name_or_path)
    if path is None and name in OPENAI:
        return find_openai(name)
    if path is None and (repo := hub_repository(name)) and not nearest(name, OPENAI, cutoff=0.8):
        return find_on_hub(repo)
    return path or find_folder(name)


def hub_repository(name: str) -> str:
    """The "owner/name" of a repository of the hub, from its name or address; "" if `name` is neither."""
    hub = r"(?:hf-hub:|hf://|(?:https://)?(?:huggingface|hf)\.co/)?"
    repo = re.fullmatch(hub + r"(\w[\w.-]*/[\w.-]+)(?:/(?:tree|blob|resolve)/.*)?", name)
    return repo[1] if repo and not repo[1].endswith(WEIGHTS) else ""


def find_on_hub(repo: str) -> Path:
    """Downloads the weights of an OpenCLIP or transformers repository, config and tokenizer too; returns their path."""
    for folder, format in [("", "open_clip"), ("", "transformers"), ("0_CLIPModel/", "transformers")]:
        config = hub_file(repo, folder + CONFIGS[format], missing_ok=True)
        for file in FILES[format] if config or format == "open_clip" else ():
            if path := hub_file(repo, folder + file, missing_ok=True):
                for optional in ("preprocessor_config.json", *TOKENIZER_FILES):
                    hub_file(repo, folder + optional, missing_ok=True)
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


def read(path: Path, activation: str | None, heads: tuple[int, int] | None) -> tuple[CLIP, Tokenizer | None]:
    """Reads a folder, or a weights file and, if there is one, the config of its format beside it."""
    path = weights_file(path)
    folder = path.parent
    if format_of(folder) == "minclip" and path.name == "model.safetensors":
        need(heads is None, f"the config in {folder} records the heads: leave out heads")
        return read_folder(folder, activation=activation)
    check_openai(path)
    tensors = read_tensors(path)
    if "text.token_embedding.weight" in tensors and any(name.startswith("visual.") for name in tensors):
        tensors = {name.removeprefix("text."): tensor for name, tensor in tensors.items()}  # OpenCLIP's CustomTextCLIP
    format = next((format for format, towers in TOWERS.items() if towers <= tensors.keys()), None)
    held = f"it holds {', '.join(sorted(tensors)[:10])} (merge a LoRA into its base; minclip's own need config.json)"
    need(format, f"{path} is not a CLIP of OpenAI, OpenCLIP or transformers with both towers: {held}")
    beside = folder / CONFIGS[format]
    declared = names.CONFIG_READERS[format](beside)
    of_openai = "input_resolution" in tensors  # no other files have it
    activation = activation or declared.get("activation") or ("quick_gelu" if of_openai else None)
    with errors_naming(f"{path} with {beside}" if declared else path):
        pair = heads is None or (isinstance(heads, tuple | list) and len(heads) == 2)
        need(pair, f"heads must be those of the image and of the text tower, (12, 8), not {heads!r:.60}")
        for tower, number in zip(("vision", "text"), heads or ()):
            declared[tower] = declared.get(tower, {}) | {"heads": number}
        config = names.config_of(tensors, names.TABLES[format], {**declared, "activation": activation or "gelu"})
    if activation is None:
        assumed = f"GELU and heads=({config.vision.heads}, {config.text.heads})"
        what = f"records neither its activation nor its number of heads: minclip assumes {assumed}"
        advice = 'If that is wrong, use load(…, activation="quick_gelu", heads=…), or load the folder with its config'
        warnings.warn(f"{path.name} {what}.  {advice}", stacklevel=3)
    tokenizer = tokenizer_beside(path, config.text)
    if tokenizer and tokenizer.eot_id != config.text.eot_id % config.text.vocab_size:  # the vocabulary was padded
        config = replace(config, text=replace(config.text, eot_id=tokenizer.eot_id))
    return build(config, tensors, path, names=names.TABLES[format]), tokenizer


def weights_file(path: Path) -> Path:
    """The weights in a folder, beside a JSON file, or in the only subfolder with some; or `path`, if it is weights."""
    path = path.parent if path.suffix == ".json" and path.is_file() else path
    if not path.is_dir():
        return path
    main = path / "refs/main"  # of a repository in the hub's cache
    if main.is_file() and (snapshot := path / "snapshots" / main.read_text().strip()).is_dir():
        path = snapshot
    if format_of(path) == "minclip":
        return path / "model.safetensors"
    there = [file for file in sorted(path.iterdir()) if file.name[0] != "."]
    found = [file for file in there if file.suffix in WEIGHTS]
    known = [path / name for format in (format_of(path), *FILES) for name in FILES.get(format, ())]
    found = [file for file in known if file in found][:1] or found
    found = found or [folder for folder in there if any(file.suffix in WEIGHTS for file in folder.glob("*"))]
    listed = ", ".join(file.name for file in (found or there)[:10]) or "nothing"
    need(found, f"{path} holds no weights ({', '.join(WEIGHTS)}; convert any others to safetensors), but {listed}")
    need("-of-0" not in listed, f'{path} is split: make one file, save_pretrained(…, max_shard_size="99GB")')
    need(len(found) == 1, f"{path} holds several weights files, give the path of one: {listed}")
    return weights_file(found[0])


def tokenizer_beside(path: Path, text: TextConfig) -> Tokenizer | None:
    """The tokenizer in the weights' folder, or OpenAI's if the vocabulary has its size, or None with a warning."""
    own, theirs, merges = (path.with_name(name) for name in TOKENIZER_FILES)
    if own.exists():
        return read_tokenizer(own, text)
    try:
        if theirs.exists():
            with errors_naming(theirs):
                model = parse_json(theirs.read_bytes(), "it")["model"]
                pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
                tokenizer = Tokenizer(pairs, clean="openai")
                need(tokenizer.ids.items() <= model["vocab"].items(), "it is not a byte-level BPE like CLIP's")
        else:
            close = 0 <= text.vocab_size - 49408 < 512  # OpenAI's, or rounded up
            need(close, f"there is no {theirs}, and the vocabulary has {text.vocab_size} tokens, not OpenAI's 49408")
            tokenizer = Tokenizer.from_openai(merges if merges.exists() else None)
        fits = tokenizer.eot_id < text.vocab_size and text.eot_id in (-1, tokenizer.eot_id)
        need(fits, f"its end token is {tokenizer.eot_id}, not {text.eot_id} of {text.vocab_size}")
        return with_context(tokenizer, text)
    except MinclipError as error:
        warnings.warn(f"the model comes without a tokenizer: {error}", stacklevel=4)
        return None


def save(folder: str | Path, model: CLIP, *, tokenizer: Tokenizer | None = None, format: str = "minclip") -> None:
    """Writes a model for minclip, OpenCLIP ("open_clip": `create_model("local-dir:FOLDER")`), "transformers" or "onnx".

    MinclipError: the other library has no such architecture, or the folder holds a model in another format.
    """
    folder, formats, open_clip = Path(folder), ("minclip", *FILES, "onnx"), format == "open_clip"
    need(format in formats, f"format {format!r} is not one of {', '.join(formats)}{nearest(format, formats)}")
    there = format_of(folder)
    need(there in (None, format), f"{folder} holds a model in the format {there}: choose another folder")
    if format in ("minclip", "onnx"):
        return (write_onnx if format == "onnx" else write_folder)(folder, model, tokenizer=tokenizer)
    config, vision, text = model.config, model.config.vision, model.config.text
    vit = vision.tower == "vit" and vision.stem == "patch" and vision.pool == "cls"
    fits = vit or vision.tower == "resnet" if open_clip else vit and config.loss == "clip"
    last = text.tower == "transformer" and text.eot_id % text.vocab_size == text.vocab_size - 1
    kinds = "a plain ViT or a ModifiedResNet" if open_clip else "the loss clip, a plain ViT"
    needs = f"it needs {kinds}, a text Transformer, and EOT as the last token"
    need(fits and last, f"{format} can't hold this architecture: {needs}")
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(folder / FILES[format][0], names.to_theirs(model.state_dict(), names.TABLES[format]))
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

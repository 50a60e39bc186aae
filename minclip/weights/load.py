"""Weights that others trained (OpenAI's, OpenCLIP's, Hugging Face's): opened by name or path, written for others."""

import contextlib
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
from .config_json import read_fields
from .files import one_error, read_tensors, shards
from .folder import atomic_write, build, look_up, read_folder, unknown_name, write_folder, write_json, write_weights
from .hub import NoSuchFile, data_folder, hub_file, remembered_sha256
from .towers import read_tokenizer, with_context

# OpenAI's nine models: name, SHA-256 of OpenAI's file, and X where the hub has the same weights as timm/X.openai
_OPENAI = """
RN50            afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762  resnet50_clip
RN101           8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599  resnet101_clip
RN50x4          7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd  resnet50x4_clip
RN50x16         52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa  resnet50x16_clip
RN50x64         be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c  resnet50x64_clip
ViT-B/32        40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af  vit_base_patch32_clip_224
ViT-B/16        5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f  vit_base_patch16_clip_224
ViT-L/14        b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836  vit_large_patch14_clip_224
ViT-L/14@336px  3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02  vit_large_patch14_clip_336
"""
OPENAI = {name: (digest, repo) for name, digest, repo in map(str.split, _OPENAI.strip().splitlines())}
# format -> its config, and its files of weights, of which the first one that exists is read
CONFIGS = {"open_clip": "open_clip_config.json", "transformers": "config.json"}
_SHARDED = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
FILES = {"open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"), "transformers": _SHARDED}
SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
TOKENIZER_FILE = "minclip_tokenizer.json"  # ours beside theirs, whose own `tokenizer.json` has another format


def load(
    name_or_path: str | Path, device: torch.device | str | None = None, *, activation: str | None = None
) -> tuple[CLIP, Preprocess, Tokenizer | None]:
    """Opens a model, in eval mode and fp32: `model, preprocess, tokenizer = minclip.load("ViT-B/32")`.

    `name_or_path` is a run or a name in the data folder ("demo"); a folder of minclip, OpenCLIP or transformers'
    `CLIPModel`; a file of weights (see `files.read_tensors`); one of OpenAI's nine names; or the hub's "owner/name".
    `device` None is the CPU.  `activation` ("gelu" or "quick_gelu") overrides the model's; where nothing says which it
    is, GELU is assumed, with a warning.  The tokenizer, or None, knows the model's context length.  MinclipError for
    what can't be found, read or trusted.
    """
    name, path = str(name_or_path), look_up(name_or_path)
    is_repo = re.fullmatch(r"(hf-hub:)?\w[\w.-]*/[\w.-]+", name) and Path(name).suffix not in SUFFIXES
    if path is None and name in OPENAI:
        path, activation = find_openai(name), activation or "quick_gelu"
    elif path is None and is_repo and not nearest(name, OPENAI, cutoff=0.8):
        path = find_on_hub(name.removeprefix("hf-hub:"))
    elif path is None:
        raise unknown_name(name, OPENAI)
    model, tokenizer = read(path, activation)
    return model.to(device or "cpu"), Preprocess(model.config.vision), tokenizer


def openai_paths(name: str) -> list[Path]:
    """Where OpenAI's file of a model may lie: in minclip's data folder, or where OpenAI's package keeps it."""
    folders = [data_folder()]
    with contextlib.suppress(RuntimeError):  # no home directory, as in some containers
        folders.append(Path.home() / ".cache" / "clip")
    return [folder / (name.replace("/", "-").replace("@", "-") + ".pt") for folder in folders]


def find_openai(name: str) -> Path:
    """OpenAI's own file, or else the hub's copy of the weights."""
    (digest, repo), paths = OPENAI[name], openai_paths(name)
    url = f"https://openaipublic.azureedge.net/clip/models/{digest}/{paths[0].name}"
    places = " or ".join(str(path.parent) for path in paths)
    by_hand = f"On a machine with a network, download {url} and put it into {places}"
    found = next((path for path in paths if path.exists()), None)
    return found or hub_file(f"timm/{repo}.openai", FILES["open_clip"][0], by_hand=by_hand)


def check_openai(path: Path) -> None:
    """Refuses a file that lies where OpenAI's file is looked for, and has other content."""
    for name, (wanted, _) in OPENAI.items():
        if path.resolve() in [place.resolve() for place in openai_paths(name)]:
            found, advice = remembered_sha256(path), "Delete it; or, if it is your own, move it elsewhere"
            hashes = f"{found[:12]}…, OpenAI's {wanted[:12]}…"
            need(found == wanted, f"{path} is not OpenAI's {name}: its SHA-256 is {hashes}.  {advice}")


def find_on_hub(repo: str) -> Path:
    """The weights of a repository that OpenCLIP or transformers can load, downloaded with all that belongs to them."""
    for format, file in [(format, file) for format, files in FILES.items() for file in files]:
        with contextlib.suppress(NoSuchFile):  # the next one may be there
            hub_file(repo, CONFIGS[format])
            path = hub_file(repo, file)
            for shard in shards(path) if file.endswith(".index.json") else ():
                hub_file(repo, shard)
            for optional in ("preprocessor_config.json", TOKENIZER_FILE):
                with contextlib.suppress(NoSuchFile):
                    hub_file(repo, optional)
            return path
    files = ", ".join(sum(FILES.values(), ()))
    raise MinclipError(f"the hub's repository {repo} has no CLIP of OpenCLIP or transformers: none of {files}")


def format_of(folder: Path) -> str | None:
    """Who wrote a folder, by its config: "open_clip", "transformers" or "minclip"; None where there is no config."""
    if (folder / CONFIGS["open_clip"]).exists():
        return "open_clip"
    if "model_type" in read_fields(folder / "config.json"):
        return "transformers"
    return "minclip" if (folder / "config.json").exists() else None


def read(path: Path, activation: str | None) -> tuple[CLIP, Tokenizer | None]:
    """A folder, or a file of weights with the config that belongs to a file of that name, if it lies beside it."""
    if path.is_dir():
        folder, files = path, FILES.get(format_of(path), ())
        if not files:
            return read_folder(folder, activation=activation)
        path = next((folder / file for file in files if (folder / file).exists()), None)
        need(path, f"{folder} has a config, but no weights: {' or '.join(files)}")
    check_openai(path)
    config, hints = path.with_name("config.json"), None
    if path.name in FILES["open_clip"]:
        hints = names.open_clip_hints(path.with_name(CONFIGS["open_clip"]))
    elif path.name in FILES["transformers"]:
        hints = names.transformers_hints(config)
    if hints is None and path.name == "model.safetensors" and "format" in read_fields(config):
        return read_folder(path.parent, activation=activation)
    tensors = read_tensors(path)
    if "text.token_embedding.weight" in tensors and any(name.startswith("visual.") for name in tensors):
        tensors = {name.removeprefix("text."): tensor for name, tensor in tensors.items()}  # OpenCLIP's CustomTextCLIP
    both = (names.OPEN_CLIP_NAMES, names.TRANSFORMERS_NAMES)
    table = next((table for table in both if table["text.token_embedding"] + ".weight" in tensors), None)
    what = "holds no CLIP of OpenAI, OpenCLIP or transformers, nor one of minclip with its config.json"
    need(table, f"{path} {what}, but {', '.join(sorted(tensors)[:10])}")
    hints = hints or names.Hints(
        "quick_gelu" if "input_resolution" in tensors else None
    )  # which only OpenAI's files have
    activation = activation or hints.activation
    if activation is None:
        what = "says neither its activation nor its number of heads: GELU and heads of 64 channels are assumed"
        advice = 'If that is wrong, use load(…, activation="quick_gelu"), or load the folder with its config'
        warnings.warn(f"{path.name} {what}.  {advice}", stacklevel=3)
    with one_error(path):
        config = names.config_of(tensors, table, hints=replace(hints, activation=activation or "gelu"))
        model = build(config, names.to_ours(tensors, table, config), path)
    return model, tokenizer_beside(path, config.text)


def tokenizer_beside(path: Path, text: TextConfig) -> Tokenizer | None:
    """The tokenizer that `save` put beside the weights, or OpenAI's where the vocabulary has its size."""
    if path.with_name(TOKENIZER_FILE).exists():
        return read_tokenizer(path.with_name(TOKENIZER_FILE), text)
    try:
        return with_context(Tokenizer.from_openai(), text) if text.vocab_size == 49408 else None
    except MinclipError as error:
        warnings.warn(f"the model comes without a tokenizer: {error}", stacklevel=4)
        return None


def save(folder: str | Path, model: CLIP, *, tokenizer: Tokenizer | None = None, format: str = "minclip") -> None:
    """Writes a model for minclip, for OpenCLIP ("open_clip": `create_model("local-dir:FOLDER")`) or for "transformers".

    MinclipError for a model that the other library can't have, and for a folder that holds another format.
    """
    folder, formats, open_clip = Path(folder), ("minclip", *FILES), format == "open_clip"
    need(format in formats, f"format {format!r} is none of {', '.join(formats)}{nearest(format, formats)}")
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
    need(fits and last, f"{format} has no such model: {needs}")
    folder.mkdir(parents=True, exist_ok=True)
    table = names.OPEN_CLIP_NAMES if open_clip else names.TRANSFORMERS_NAMES
    write_weights(folder / FILES[format][0], names.to_theirs(model, table))
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

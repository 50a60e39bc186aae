"""Weights that others trained (OpenAI's, OpenCLIP's, Hugging Face's): opened by name or path, and written for others."""

import contextlib
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..config import CLIPConfig, MinclipError, data_folder, nearest
from ..model import CLIP
from ..preprocess import Preprocess
from ..tokenizer import Tokenizer
from .config_json import parse_json
from .files import one_error, read_tensors, shards
from .folder import atomic_write, build, look_up, read_folder, some, unknown_name, write_folder, write_json
from .hub import NoSuchFile, hub_file, remembered_sha256
from .names import OPEN_CLIP_NAMES, TRANSFORMERS_NAMES, config_of, to_ours, to_theirs
from .peers import (
    Hints,
    for_image_processor,
    for_open_clip,
    for_transformers,
    open_clip_config,
    transformers_config,
)
from .towers import read_tokenizer, with_context

# OpenAI's nine models: the SHA-256 of OpenAI's file, and the same weights on the hub, in `timm/NAME.openai`
OPENAI = {
    "RN50": ("afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762", "resnet50_clip"),
    "RN101": ("8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599", "resnet101_clip"),
    "RN50x4": ("7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd", "resnet50x4_clip"),
    "RN50x16": ("52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa", "resnet50x16_clip"),
    "RN50x64": ("be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c", "resnet50x64_clip"),
    "ViT-B/32": ("40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af", "vit_base_patch32_clip_224"),
    "ViT-B/16": ("5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f", "vit_base_patch16_clip_224"),
    "ViT-L/14": ("b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836", "vit_large_patch14_clip_224"),
    "ViT-L/14@336px": (
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        "vit_large_patch14_clip_336",
    ),
}

# Format -> its config, and its files of weights in order of preference
CONFIGS = {"open_clip": "open_clip_config.json", "transformers": "config.json"}
FILES = {
    "open_clip": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    "transformers": tuple(f + i for f in ("model.safetensors", "pytorch_model.bin") for i in ("", ".index.json")),
}
TOKENIZER_FILE = "minclip_tokenizer.json"  # ours beside theirs, whose own `tokenizer.json` has another format


def load(
    name_or_path: str | Path, device: torch.device | str | None = None, *, activation: str | None = None
) -> tuple[CLIP, Preprocess, Tokenizer | None]:
    """Opens a model, in eval mode and fp32: `model, preprocess, tokenizer = minclip.load("ViT-B/32")`.

    `name_or_path` is a run or a name in the data folder ("demo"); a folder written by minclip, OpenCLIP or transformers'
    `CLIPModel`; a file of weights (see `files.read_tensors`); one of OpenAI's nine names; or a repository of the hub,
    "owner/name".  `device` None is the CPU.  `activation` ("gelu" or "quick_gelu") overrides the one that comes with the
    weights; where none does, GELU is assumed, with a warning.  The tokenizer fills the model's context length; it is
    None for a model without a known one.  MinclipError for anything that can't be found, read or trusted.
    """
    name, path = str(name_or_path), look_up(name_or_path)
    if path is not None and path.is_dir():
        model, tokenizer = read_any_folder(path, activation)
    elif path is not None:
        check_openai(path)
        model, tokenizer = read_weights(path, activation)
    elif name in OPENAI:
        model, tokenizer = read_file(find_openai(name), activation or "quick_gelu")
    elif Path(name).suffix in (".pt", ".pth", ".bin", ".ckpt", ".safetensors") or name.startswith((".", "/", "~")):
        raise MinclipError(f"{name} is not there")
    elif re.fullmatch(r"(hf-hub:)?[\w.-]+/[\w.-]+", name) and not nearest(name, OPENAI, cutoff=0.8):
        model, tokenizer = read_hub(name.removeprefix("hf-hub:"), activation)
    else:
        raise unknown_name(name, OPENAI)
    return model.to(device or "cpu"), Preprocess(model.config.vision), tokenizer


# ---- OpenAI's files


def openai_file(name: str) -> str:
    """The name of OpenAI's file: "ViT-L/14@336px" -> "ViT-L-14-336px.pt"."""
    return name.replace("/", "-").replace("@", "-") + ".pt"


def openai_folders() -> list[Path]:
    """Where OpenAI's files are looked for: minclip's data folder and the cache of OpenAI's package."""
    with contextlib.suppress(RuntimeError):  # no home directory, as in some containers
        return [data_folder(), Path.home() / ".cache" / "clip"]
    return [data_folder()]


def find_openai(name: str) -> Path:
    """OpenAI's own file, its hash checked, or else the hub's copy of the weights."""
    digest, repo = OPENAI[name]
    for folder in openai_folders():
        if (path := folder / openai_file(name)).exists():
            check_openai(path)
            return path
    url = f"https://openaipublic.azureedge.net/clip/models/{digest}/{openai_file(name)}"
    looked = " or ".join(map(str, openai_folders()))
    by_hand = f"On a machine with a network, download {url} and put it into {looked}"
    return hub_file(f"timm/{repo}.openai", FILES["open_clip"][0], by_hand=by_hand)


def check_openai(path: Path) -> None:
    """Refuses a file that has one of OpenAI's names, where OpenAI's files are looked for, and other content."""
    name = next((name for name in OPENAI if openai_file(name) == path.name), None)
    if name is None or path.parent.resolve() not in [folder.resolve() for folder in openai_folders()]:
        return
    found, wanted = remembered_sha256(path), OPENAI[name][0]
    if found != wanted:
        raise MinclipError(
            f"{path} is not OpenAI's {name}: its SHA-256 is {found[:12]}…, OpenAI's {wanted[:12]}….  "
            "Delete it; or, if it is your own, move it elsewhere"
        )


# ---- any format


def read_hub(repo: str, activation: str | None = None) -> tuple[CLIP, Tokenizer | None]:
    """A repository of the hub that OpenCLIP or transformers can load."""
    for format, files in FILES.items():
        for file in files:
            try:
                hub_file(repo, CONFIGS[format])
                path = hub_file(repo, file)
            except NoSuchFile:
                continue
            for shard in shards(path) if file.endswith(".index.json") else ():
                hub_file(repo, shard)
            for optional in ("preprocessor_config.json", TOKENIZER_FILE):
                with contextlib.suppress(NoSuchFile):
                    hub_file(repo, optional)
            return read_weights(path, activation)
    names = ", ".join(sum(FILES.values(), ()))
    raise MinclipError(f"the hub's repository {repo} has no CLIP of OpenCLIP or transformers: none of {names}")


def format_of(folder: Path) -> str | None:
    """Who wrote a folder, by its config: "open_clip", "transformers", "minclip"; None where there is no config."""
    if (folder / CONFIGS["open_clip"]).exists():
        return "open_clip"
    if "model_type" in _fields(folder / "config.json"):
        return "transformers"
    return "minclip" if (folder / "config.json").exists() else None


def read_any_folder(folder: Path, activation: str | None) -> tuple[CLIP, Tokenizer | None]:
    files = FILES.get(format_of(folder))
    if files is None:
        return read_folder(folder, activation=activation)
    weights = next((folder / file for file in files if (folder / file).exists()), None)
    if weights is None:
        raise MinclipError(f"{folder} has a config, but no weights: {' or '.join(files)}")
    return read_weights(weights, activation)


def read_weights(path: Path, activation: str | None) -> tuple[CLIP, Tokenizer | None]:
    """A file of weights, with the config that belongs to a file of that name, if it lies beside it."""
    open_clip, config = path.with_name(CONFIGS["open_clip"]), path.with_name("config.json")
    if path.name in FILES["open_clip"] and open_clip.exists():
        values = _fields(open_clip)
        with one_error(open_clip):
            return read_file(path, activation, open_clip_config(values, open_clip))
    if path.name in FILES["transformers"]:
        values, images = _fields(config), _fields(path.with_name("preprocessor_config.json"))
        if "model_type" in values:
            with one_error(config):
                hints = transformers_config(values, images, config)
            return read_file(path, activation, hints)
        if "format" in values and path.name == "model.safetensors":
            return read_folder(path.parent, activation=activation)
    return read_file(path, activation)


def _fields(path: Path) -> dict[str, Any]:
    """The fields of a JSON file; none where it is missing or holds something else, which its reader will say."""
    values = parse_json(path.read_bytes(), str(path)) if path.exists() else {}
    return values if isinstance(values, dict) else {}


def read_file(path: Path, activation: str | None = None, hints: Hints | None = None) -> tuple[CLIP, Tokenizer | None]:
    """A file of weights under OpenCLIP's (and OpenAI's) names or transformers'."""
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
        first = some(sorted(tensors))
        raise MinclipError(f"{path} does not hold a CLIP of OpenAI, OpenCLIP or transformers: its tensors are {first}")
    if hints is None:  # only OpenAI's files have an input resolution
        hints = Hints(activation="quick_gelu" if "input_resolution" in tensors else None)
    if activation is None and hints.activation is None:
        warnings.warn(
            f"{path.name} says neither its activation nor its number of heads: GELU and heads of 64 channels are assumed.  "
            'If that is wrong, use load(…, activation="quick_gelu"), or load the folder with its config',
            stacklevel=3,
        )
    with one_error(path):
        hints = replace(hints, activation=activation or hints.activation or "gelu")
        config = config_of(tensors, names, hints=hints, path=path)
        model = build(config, to_ours(tensors, names, config=config, path=path), path)
    return model, _tokenizer_of(config, path.parent)


def _tokenizer_of(config: CLIPConfig, folder: Path) -> Tokenizer | None:
    """The tokenizer that `save` put beside the weights, or OpenAI's where the vocabulary has its size."""
    if (folder / TOKENIZER_FILE).exists():
        return read_tokenizer(folder / TOKENIZER_FILE, config.text)
    if config.text.vocab_size != 49408:
        return None
    try:
        return with_context(Tokenizer.from_openai(), config.text)
    except MinclipError as error:
        warnings.warn(f"the model comes without a tokenizer: {error}", stacklevel=4)
        return None


# ---- for others to load


def save(
    folder: str | Path, model: CLIP, *, tokenizer: Tokenizer | None = None, format: str = "minclip"
) -> None:
    """Writes a model and its tokenizer in one of three formats: "minclip", "open_clip", "transformers".

    OpenCLIP loads the second with `create_model("local-dir:FOLDER")`, transformers the third with
    `CLIPModel.from_pretrained`.  MinclipError for a model that the other library can't have, for a folder that holds a
    model of another format, and for an unknown format.
    """
    folder, formats = Path(folder), ("minclip", *FILES)
    if format not in formats:
        raise MinclipError(f"format {format!r} is none of {', '.join(formats)}{nearest(format, formats)}")
    if format_of(folder) not in (None, format):
        raise MinclipError(f"{folder} holds a model in the format {format_of(folder)}: choose another folder")
    if format == "minclip":
        return write_folder(folder, model, tokenizer=tokenizer)
    check_exportable(model.config, format)
    folder.mkdir(parents=True, exist_ok=True)
    text, open_clip = model.config.text, format == "open_clip"
    tensors = to_theirs(model, OPEN_CLIP_NAMES if open_clip else TRANSFORMERS_NAMES)
    write_json(folder / CONFIGS[format], for_open_clip(model.config) if open_clip else for_transformers(model.config))
    atomic_write(folder / FILES[format][0], safetensors.torch.save(tensors, metadata={"format": "pt"}))
    if not open_clip:
        write_json(folder / "preprocessor_config.json", for_image_processor(model.config.vision))
    if tokenizer is None:
        return
    atomic_write(folder / TOKENIZER_FILE, tokenizer.to_json().encode())
    if not open_clip:
        write_json(folder / "vocab.json", {token: i for i, token in enumerate(tokenizer.vocab)})
        merges = "".join(f"{a} {b}\n" for a, b in tokenizer.merges)
        atomic_write(folder / "merges.txt", f"#version: 0.2\n{merges}".encode())
        about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": text.context_length}
        write_json(folder / "tokenizer_config.json", about)


def check_exportable(config: CLIPConfig, format: str) -> None:
    """A MinclipError for a model that OpenCLIP or transformers has no class for."""
    vision, text, open_clip = config.vision, config.text, format == "open_clip"
    vit = vision.tower == "vit" and vision.stem == "patch" and vision.pool == "cls"
    fits = text.tower == "transformer" and (vit or (open_clip and vision.tower == "resnet"))
    if not fits or text.eot_id % text.vocab_size != text.vocab_size - 1 or not (open_clip or config.loss == "clip"):
        raise MinclipError(
            f"{format} has no such model: it needs a plain ViT{' or a ModifiedResNet' if open_clip else ''}, a text "
            f"Transformer, EOT as the last token{'' if open_clip else ', and the loss clip'}"
        )

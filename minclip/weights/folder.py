"""Writes, reads and finds a model's folder: `config.json`, `model.safetensors` and `tokenizer.json`."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import safetensors.torch
import torch
from torch import Tensor

from ..config import CLIPConfig, MinclipError, nearest, need
from ..model import CLIP
from ..tokenizer import Tokenizer
from .config_json import FORMAT, VERSION, from_dict, read_fields, to_dict
from .files import WEIGHTS, errors_naming, read_tensors
from .hub import data_folder
from .names import IGNORED, to_theirs
from .openai import OPENAI
from .towers import check_memory, read_tokenizer


def atomic_write(path: str | Path, data: bytes | memoryview) -> None:
    """Writes a temporary file and renames it: a reader sees the complete old file or the complete new one."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # only the owner could read one from tempfile
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # if writing failed


def write_json(path: Path, values: dict[str, Any] | list[Any]) -> None:
    atomic_write(path, (json.dumps(values, indent=2) + "\n").encode())


def write_weights(path: Path, tensors: dict[str, Tensor], *, dtype: torch.dtype = torch.float32) -> None:
    kept = {n: (t.to(dtype) if t.is_floating_point() else t).detach().cpu().contiguous() for n, t in tensors.items()}
    # as bytes, not with safetensors' own file writer: then a full disk raises an ordinary OSError
    atomic_write(path, safetensors.torch.save(kept, metadata={"format": "pt"}))


def write_folder(folder: str | Path, model: CLIP, *, tokenizer: Any = None, dtype: torch.dtype = torch.float32) -> None:
    """Writes a model and, unless it is None, its tokenizer; `dtype` torch.float16 halves the file's size."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"format": FORMAT, "minclip": VERSION, "model": to_dict(model.config)})
    write_weights(folder / "model.safetensors", model.state_dict(), dtype=dtype)
    if tokenizer is not None:
        atomic_write(folder / "tokenizer.json", tokenizer.to_json().encode())


def read_config(folder: Path) -> dict[str, Any]:
    """The fields of a folder's config.json; a MinclipError if it is missing, damaged or in another format."""
    path = folder / "config.json"
    need(path.exists(), f"{folder} has no config.json: it is not a run or model of minclip")
    fields = read_fields(path)
    found = f"format {fields.get('format')!r:.60} of minclip {fields.get('minclip', '?')!s:.60}, not format {FORMAT}"
    need(fields.get("format") == FORMAT, f"{path} has {found}: install that version, or train the model again")
    return fields


def read_folder(folder: Path, *, activation: str | None = None) -> tuple[CLIP, Tokenizer | None]:
    """Reads a model (in eval mode) and its tokenizer from a run or model; `activation` overrides the config's."""
    config = from_dict(CLIPConfig, read_config(folder).get("model"), str(folder / "config.json"), group="model.")
    if activation is not None:
        config = replace(config, activation=activation)
    path = folder / "model.safetensors"
    model, file = build(config, read_tensors(path), path), folder / "tokenizer.json"
    return model, read_tokenizer(file, config.text) if file.exists() else None


def build(config: CLIPConfig, tensors: Mapping[str, Tensor], where: Path, *, names: Mapping | None = None) -> CLIP:
    """Builds the model of `config` from `tensors`, in eval mode and fp32; a MinclipError lists those that don't fit.

    `names` is the table in `names.py` that translates the tensors' names; None means that they are minclip's own.
    """
    with errors_naming(where):
        with torch.device("meta"):  # shapes only: filling a large model with random numbers takes seconds
            model = CLIP(config)
        check_memory(model)
        ours = {name: torch.zeros(x.shape, dtype=x.dtype) for name, x in model.state_dict().items()}
        wanted, ignored = (to_theirs(ours, names), IGNORED) if names else (ours, ())
        wrong = {"missing": wanted.keys() - tensors.keys(), "unknown": tensors.keys() - wanted.keys()}
        wrong = {what: [name for name in found if not name.endswith(ignored)] for what, found in wrong.items()}
        for name in wanted.keys() & tensors.keys():
            x, place = tensors[name], wanted[name]
            number = x.is_floating_point() or name.endswith("num_batches_tracked")
            if not (number and x.layout == torch.strided and x.device.type == "cpu"):
                wrong.setdefault("not plain numeric tensors", []).append(name)
            elif x.shape != place.shape and not x.numel() == place.numel() == 1:  # some files store the scale as (1,)
                wrong.setdefault("of another shape", []).append(f"{name} {tuple(x.shape)}, not {tuple(place.shape)}")
            else:  # fp32, whatever the file has: only the training loop uses low precision
                place.copy_(x.detach().reshape(place.shape))
        listed = [f"{len(found)} {what}: {', '.join(sorted(found)[:10])}" for what, found in wrong.items() if found]
        need(not listed, f"the tensors do not fit the config; {'; '.join(listed)}")
        model.load_state_dict(ours, assign=True)
        return model.to(memory_format=torch.channels_last).eval()


def look_up(name_or_path: str | Path) -> Path | None:
    """The file or folder at that path (~, file:// and local-dir: too), or of that name in `runs/` or the data folder.

    Of several, the first that looks like a model: photographs in ./flickr8k don't hide runs/flickr8k.  None if none is.
    """
    name = os.path.expanduser(str(name_or_path).removeprefix("local-dir:"))
    name = url2pathname(name.removeprefix("file:")) if name.startswith("file:") else name
    places = [Path(name), Path("runs") / name, data_folder() / name][: 1 if name.startswith("./") else 3]
    places = [place for place in places if os.path.exists(place)]  # Path.exists raises if a name is too long
    models = (p for p in places for file in [p, *p.glob("*")] if file.name.endswith((*WEIGHTS, "config.json")))
    return next(models, places[0] if places else None)


def find_folder(name_or_path: str | Path) -> Path:
    """The folder that `look_up` finds; otherwise a MinclipError suggests the nearest name and lists all that exist."""
    if (folder := look_up(name_or_path)) and folder.is_dir():
        return folder
    here = sorted(p.parent.name for parent in (Path("runs"), data_folder()) for p in parent.glob("*/config.json"))
    named = f"{str(name_or_path)!r:.200}{nearest(str(name_or_path), [*here, *OPENAI])}"
    there = ", ".join([*(here or ["no runs yet (minclip train shapes makes one)"]), *OPENAI])
    where = f"minclip looked in the current folder, in runs and in {data_folder()}, and knows {there}"
    hub = "OpenCLIP's have the names of the hub, laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    raise MinclipError(f"no run or model is named {named}: {where}; {hub}")

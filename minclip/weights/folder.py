"""A model's folder (`config.json`, `model.safetensors`, `tokenizer.json`): written whole, read, found by name."""

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..config import CLIPConfig, MinclipError, nearest, need
from ..model import CLIP
from ..tokenizer import Tokenizer
from .config_json import FORMAT, from_dict, read_fields, to_dict
from .files import one_error, read_tensors
from .hub import data_folder
from .towers import check_memory, read_tokenizer


def package_version() -> str:
    try:
        return version("minclip")
    except PackageNotFoundError:  # a checkout that was not installed
        return "0"


def atomic_write(path: str | Path, data: bytes | memoryview) -> None:
    """Writes to a temporary name and moves it into place: a reader finds the old file or the new one, whole."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")  # tempfile's could only be read by their owner
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)  # where the writing failed


def write_json(path: Path, values: dict[str, Any] | list[Any]) -> None:
    atomic_write(path, (json.dumps(values, indent=2) + "\n").encode())


def write_weights(path: Path, tensors: dict[str, Tensor], *, dtype: torch.dtype = torch.float32) -> None:
    tensors = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    # as bytes, not with safetensors' own file writer: a full disk is then an OSError like any other
    atomic_write(path, safetensors.torch.save(tensors, metadata={"format": "pt"}))


def write_folder(folder: str | Path, model: CLIP, *, tokenizer: Any = None, dtype: torch.dtype = torch.float32) -> None:
    """Writes a model and, unless it is None, its tokenizer; `dtype` torch.float16 halves the file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"format": FORMAT, "minclip": package_version(), "model": to_dict(model.config)})
    write_weights(folder / "model.safetensors", model.state_dict(), dtype=dtype)
    if tokenizer is not None:
        atomic_write(folder / "tokenizer.json", tokenizer.to_json().encode())


def read_config(folder: Path) -> dict[str, Any]:
    """The fields of a folder's config.json; a MinclipError where it is missing, damaged or of another format."""
    path = folder / "config.json"
    need(path.exists(), f"{folder} has no config.json: it is not a run or model of minclip")
    fields = read_fields(path)
    theirs = f"format {fields.get('format')!r:.60} (minclip {fields.get('minclip', 'unknown')!s:.60})"
    how = f"minclip {package_version()} reads format {FORMAT}: use that version, or train the model again"
    need(fields.get("format") == FORMAT, f"{path} has {theirs}; {how}")
    return fields


def read_folder(folder: Path, *, activation: str | None = None) -> tuple[CLIP, Tokenizer | None]:
    """Model (in eval mode) and tokenizer of a run or of `write_folder`; `activation` overrides the config's."""
    config = from_dict(CLIPConfig, read_config(folder).get("model"), str(folder / "config.json"), group="model.")
    if activation is not None:
        config = replace(config, activation=activation)
    path = folder / "model.safetensors"
    model, file = build(config, read_tensors(path), path), folder / "tokenizer.json"
    return model, read_tokenizer(file, config.text) if file.exists() else None


def build(config: CLIPConfig, tensors: dict[str, Tensor], where: Path) -> CLIP:
    """A model of `config` in eval mode that holds `tensors`, in fp32; a MinclipError lists those that don't fit."""
    with one_error(where):
        with torch.device("meta"):  # shapes only: filling a large model with random numbers takes seconds
            model = CLIP(config)
        check_memory(model)
        wanted, values, wrong = model.state_dict(), {}, []
        check_names(wanted, tensors)
        for name, x in tensors.items():
            plain = x.layout == torch.strided and x.device.type == "cpu" and not x.is_complex()
            if not plain or not (x.is_floating_point() or name.endswith("num_batches_tracked")):
                wrong.append(f"{name} is no plain tensor of floating-point numbers")
            elif x.shape != wanted[name].shape:
                wrong.append(f"{name} {tuple(x.shape)}, not {tuple(wanted[name].shape)}")
            else:  # BatchNorm's counter stays an integer, the rest is fp32: low precision lives in the training loop
                x = x.float() if x.is_floating_point() else x
                # a tensor that is not aligned in the file's memory is multiplied slower and rounds differently: copy it
                values[name] = x if x.data_ptr() % 64 == 0 else x.clone()
        need(not wrong, f"the tensors do not fit the config: {some(wrong)}")
        model.load_state_dict(values, assign=True)
        return model.to(memory_format=torch.channels_last).eval()


def check_size(config: CLIPConfig, *, copies: int = 1) -> None:
    """`check_memory` of a model that is not built yet."""
    with torch.device("meta"):
        check_memory(CLIP(config), copies=copies)


def check_names(wanted: Iterable[str], found: Iterable[str]) -> None:
    missing, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    both = {"missing": missing, "unknown": unknown}
    parts = [f"{len(names)} {what}: {some(names)}" for what, names in both.items() if names]
    need(not parts, f"the tensors do not fit the config; {'; '.join(parts)}")


def some(names: Sequence[str]) -> str:
    """At most ten names, and how many more there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def find_folder(name_or_path: str | Path) -> Path:
    """A folder by path, or by name in `runs/` or the data folder; a MinclipError suggests the nearest name."""
    folder = look_up(name_or_path)
    if folder is None or not folder.is_dir():
        raise unknown_name(str(name_or_path))
    return folder


def look_up(name_or_path: str | Path) -> Path | None:
    """The file or folder of that path, or of that name in `runs/` or the data folder; None where there is none."""
    places = [Path(name_or_path), Path("runs") / name_or_path, data_folder() / name_or_path]
    with contextlib.suppress(OSError):  # a name that is too long for the system
        return next((place for place in places if place.exists()), None)
    return None


def unknown_name(name: str, others: Iterable[str] = ()) -> MinclipError:
    """The error for a name that is neither a run nor a model: it has the nearest name, and those that exist."""
    here = sorted(p.parent.name for parent in (Path("runs"), data_folder()) for p in parent.glob("*/config.json"))
    there = f"there are {', '.join(here)}" if here else "there is none yet: minclip train shapes makes one"
    also = f"; others are {', '.join(others)}" if others else ""
    looked = f"in the current folder, in runs and in {data_folder()}"
    return MinclipError(f"no run or model is named {name!r}{nearest(name, [*here, *others])} {looked}: {there}{also}")

"""A model's folder, `config.json`, `model.safetensors` and `tokenizer.json`: written whole, read back, found by name."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..config import CLIPConfig, MinclipError, data_folder, nearest
from ..model import CLIP
from ..tokenizer import Tokenizer
from .config_json import FORMAT, from_dict, to_dict
from .files import read_tensors
from .towers import read_tokenizer


def package_version() -> str:
    try:
        return version("minclip")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0"


def atomic_write(path: str | Path, data: bytes | memoryview) -> None:
    """Writes to a temporary name and moves it into place: whoever reads `path` finds the old file or the new one, whole."""
    path = Path(path)
    # not tempfile.mkstemp: its files are readable to their owner only, and a run is to be shared
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def fingerprint(about: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of a text and of all bytes of some tensors with their names: what a cache's entry is kept under."""
    key = hashlib.sha256(about.encode())
    for name, tensor in tensors.items():
        key.update(name.encode())
        key.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())  # in place, without a copy
    return key.hexdigest()


def write_json(path: Path, values: dict[str, Any] | list[Any]) -> None:
    atomic_write(path, (json.dumps(values, indent=2) + "\n").encode())


def write_folder(
    folder: str | Path, model: CLIP, tokenizer: Tokenizer | None = None, dtype: torch.dtype = torch.float32
) -> None:
    """Writes a model, and its tokenizer where there is one; `dtype` torch.float16 halves the file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"format": FORMAT, "minclip": package_version(), "model": to_dict(model.config)})
    write_weights(folder / "model.safetensors", model.state_dict(), dtype)
    if tokenizer is not None:
        atomic_write(folder / "tokenizer.json", tokenizer.to_json().encode())


def write_weights(path: Path, tensors: dict[str, Tensor], dtype: torch.dtype = torch.float32) -> None:
    # through bytes, not safetensors' own file writer: a full disk is then an OSError like any other
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    tensors = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
    atomic_write(path, safetensors.torch.save(tensors, metadata={"format": "pt"}))


def read_config(folder: Path) -> dict[str, Any]:
    """The fields of a folder's config.json, of this version's format; a MinclipError tells what else it is."""
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MinclipError(f"{folder} has no config.json: it is not a run or model of minclip") from None
    except ValueError as error:
        raise MinclipError(f"{path} is damaged: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise MinclipError(
            f"{path} has format {values.get('format') if isinstance(values, dict) else None} (minclip {values.get('minclip', 'unknown') if isinstance(values, dict) else 'unknown'}); "
            f"this is minclip {package_version()}, which reads format {FORMAT}: use that version, or train anew"
        )
    return values


def read_folder(folder: Path) -> tuple[CLIP, Tokenizer | None]:
    """The model, in eval mode, and the tokenizer of a run or of a folder that `write_folder` wrote."""
    config = from_dict(CLIPConfig, read_config(folder).get("model"), f"{folder / 'config.json'}: model")
    path = folder / "model.safetensors"
    if not path.exists():
        raise MinclipError(f"{path} is not there: the run has not saved a checkpoint yet")
    model = build(config, read_tensors(path), str(path))
    path = folder / "tokenizer.json"
    return model, read_tokenizer(path, config.text) if path.exists() else None


def build(config: CLIPConfig, tensors: dict[str, Tensor], where: str) -> CLIP:
    """A model of `config` in eval mode that holds `tensors`, in fp32; a MinclipError lists those that don't fit."""
    with torch.device("meta"):  # shapes alone: filling a large model with random numbers takes seconds
        model = CLIP(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    check_names(wanted.keys(), found.keys(), where)
    odd = [name for name, t in tensors.items() if t.layout != torch.strided or not is_number(name, t)]
    if odd:
        raise MinclipError(f"{where} holds tensors that are no plain floating-point numbers: {some(odd)}")
    wrong = [f"{name} {found[name]}, not {wanted[name]}" for name in wanted if wanted[name] != found[name]]
    if wrong:
        raise MinclipError(f"{where} does not fit its config: {some(wrong)}")
    # a counter of BatchNorm stays whole, all else is fp32: low precision lives in the training loop
    values = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    # Tensors that lie crooked in the file's memory are multiplied slower and round otherwise: such get memory of their own.
    values = {name: value if value.data_ptr() % 64 == 0 else value.clone() for name, value in values.items()}
    model.load_state_dict(values, assign=True)
    return model.to(memory_format=torch.channels_last).eval()


def is_number(name: str, tensor: Tensor) -> bool:
    """Whether a tensor is of floats, or of whole numbers where it is BatchNorm's counter."""
    return tensor.is_floating_point() or (name.endswith("num_batches_tracked") and not tensor.is_complex())


def check_names(wanted: Iterable[str], found: Iterable[str], where: str) -> None:
    missing, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    parts = [
        f"{len(names)} {what}: {some(names)}" for what, names in (("missing", missing), ("not known", extra)) if names
    ]
    if parts:
        raise MinclipError(f"{where} does not fit its config; {'; '.join(parts)}")


def some(names: Sequence[str]) -> str:
    """Ten names at most, and how many more there are."""
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def find_folder(name_or_path: str | Path) -> Path:
    """A folder by path, or by name under `runs/` or among the shipped ones in `data/`."""
    folder = look_up(name_or_path)
    if folder is None or not folder.is_dir():
        raise unknown_name(str(name_or_path))
    return folder


def look_up(name_or_path: str | Path) -> Path | None:
    """What is there under that path, or under that name in `runs/` or `data/`; None where there is nothing."""
    places = [Path(name_or_path), Path("runs") / name_or_path, data_folder() / name_or_path]
    with contextlib.suppress(OSError):  # a name that is too long for the system
        return next((place for place in places if place.exists()), None)
    return None


def unknown_name(name: str, others: Iterable[str] = ()) -> MinclipError:
    """The error that tells the nearest name and those that are there."""
    here = sorted(p.parent.name for parent in (Path("runs"), data_folder()) for p in parent.glob("*/config.json"))
    there = f"there are {', '.join(here)}" if here else "there is none yet: minclip train shapes makes one"
    also = f"; others are {', '.join(others)}" if others else ""
    return MinclipError(f"no run or model is named {name!r}{nearest(name, [*here, *others])}: {there}{also}")

"""Reads the tensors of any weights file as data: minclip never executes code from a weights file."""

import contextlib
import io
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..config import MinclipError, need
from .config_json import POINTER

WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")  # extensions of weights files
# What a pickle gets for NumPy's classes: numbers beside weights aren't needed, and no code of NumPy runs
Unread = type("Unread", (), {"__init__": lambda self, *_: None, "__setstate__": lambda self, _: None})
_ARRAYS = [f"{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")]
NUMPY = [(Unread, f"numpy.{name}") for name in ("dtype", "ndarray", *_ARRAYS)]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors, by name, of a safetensors file, a TorchScript archive, or any nesting of dicts by `torch.save`.

    MinclipError: the file is missing or damaged, holds more than data, or needs far more memory than its size on disk.
    """
    with errors_naming(path, "is cut off, or not a weights file"):
        with path.open("rb") as file:
            head = file.read(64)
        need(head, f"{path} is empty: download it again")
        need(b"git-lfs" not in head, f"{path} {POINTER}")
        try:  # by content, because the endings of many files are wrong
            tensors = safetensors.torch.load_file(path) if head[8:9] == b"{" else _read_pickle(path)
        except pickle.UnpicklingError as error:
            # keep only the name: torch's message goes on to explain how to turn the protection off
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = "is damaged, or in another format: convert TensorFlow, Flax or ONNX weights to safetensors first"
            what = f"holds more than tensors ({named[1]}): save its state dict alone" if named else what
            raise MinclipError(f"it {what}; minclip never executes code from a weights file") from None
        _check_memory(path, sum(t.numel() * t.element_size() for t in tensors.values()))
        # names of wrappers (torch.compile, FSDP) anywhere
        tensors = {re.sub(r"\b(_orig_mod|_\w+_wrapped_module)\.", "", name): x for name, x in tensors.items()}
        # a prefix that all names of a CLIP share ends where its scale begins
        prefix = next((name.removesuffix("logit_scale") for name in tensors if name.endswith("logit_scale")), "")
        if outside := [name for name in tensors if not name.startswith(prefix)]:
            what = f"{path.name}: {len(outside)} tensors outside {prefix!r} are not read: {', '.join(outside[:10])}"
            warnings.warn(what, stacklevel=5)
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@contextlib.contextmanager
def errors_naming(where: object, what: str = "is damaged") -> Iterator[None]:
    """Turns any exception from reading a bad file into a MinclipError that names the file, `where`."""
    try:
        yield
    except MinclipError as error:
        raise MinclipError(str(error) if str(where) in str(error) else f"{where}: {error}") from None
    except Exception as error:  # unpickling arbitrary bytes can raise anything
        what = "does not exist" if isinstance(error, FileNotFoundError) else what
        raise MinclipError(f"{where} {what}: {type(error).__name__}: {' '.join(str(error).split()):.200}") from None


def _check_memory(path: Path, size: int) -> None:
    """Refuses files that only an attacker would write: compressed gigabytes of zeros, or a huge tensor of stride 0."""
    on_disk = path.stat().st_size
    fits = size <= 4 * on_disk + (64 << 20)  # allows for tensors under two names, and for files compressed by hand
    need(fits, f"{path} has {on_disk:,} bytes but would take {size:,} of memory: it is not a genuine weights file")


def _read_pickle(path: Path) -> dict[str, Tensor]:
    copy, safe = _without_code(path)
    # opened here, because torch.load takes the ending of a path for its format
    with path.open("rb") as file, torch.serialization.safe_globals(safe):
        loaded = torch.load(copy or file, map_location="cpu", weights_only=True)
    tensors = dict(_tensors_of(loaded, "", set()))
    need(tensors, f"{path} has no named tensors: it holds a {type(loaded).__name__}")
    return tensors


def _without_code(path: Path) -> tuple[io.BytesIO | None, list[tuple[Any, str]]]:
    """A copy of a file without its code, if it has any, and the classes that `torch.load` may build besides tensors.

    Usually no copy, and `Unread` in the place of NumPy's classes.  For a TorchScript archive, the format that OpenAI
    published, plain namespaces take the place of modules.
    """
    if not zipfile.is_zipfile(path):
        return None, NUMPY
    with zipfile.ZipFile(path) as archive:
        _check_memory(path, sum(member.file_size for member in archive.infolist()))
        need("/data.pkl" in " ".join(archive.namelist()), "it is a zip of other files: unpack it, and give the folder")
        if not any(name.endswith("/constants.pkl") for name in archive.namelist()):
            return None, NUMPY
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as data:
            for name in archive.namelist():
                if not name.endswith("/constants.pkl") and "/code/" not in name:
                    data.writestr(name, archive.read(name))
    copy.seek(0)
    classes = torch.serialization.get_unsafe_globals_in_checkpoint(copy)
    copy.seek(0)
    modules = [(SimpleNamespace, name) for name in classes if name.startswith("__torch__.")]
    # TorchScript tags lists with their element type: these functions return the plain list
    return copy, modules + [(lambda x, *_: x, name) for name in classes if name.startswith("torch.jit._pickle.")]


def _tensors_of(group: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Yields the dotted name and the tensor of everything below a module or a dict; a shared one counts once."""
    seen.add(id(group))
    for name, value in (group if isinstance(group, dict) else getattr(group, "__dict__", {})).items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, SimpleNamespace | dict) and id(value) not in seen and isinstance(name, str):
            yield from _tensors_of(value, f"{prefix}{name}.", seen)  # the state of an optimizer has numbers for names

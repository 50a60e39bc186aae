"""Reads the tensors of any weights file as data: minclip never executes code from a weights file."""

import contextlib
import io
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..config import MinclipError, need


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors, by name, of a safetensors file, a state dict (`torch.save`) or a TorchScript archive.

    MinclipError: the file is missing or damaged, holds more than data, or needs far more memory than its size on disk.
    """
    with errors_naming(path, "is cut off, or not a weights file"):
        try:
            tensors = safetensors.torch.load_file(path) if path.suffix == ".safetensors" else _read_pickle(path)
        except pickle.UnpicklingError as error:
            # keep only the name: torch's message goes on to explain how to turn the protection off
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            what = f"it is damaged or holds more than tensors{f' ({named[1]})' if named else ''}"
            raise MinclipError(f"{what}; minclip never executes code from a weights file") from None
        _check_memory(path, sum(t.numel() * t.element_size() for t in tensors.values()))
        for prefix in ("module.", "_orig_mod.", "module."):  # added by DDP and torch.compile, in either order
            if all(name.startswith(prefix) for name in tensors):
                tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
        return tensors


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
    file, safe = _without_code(path)
    with torch.serialization.safe_globals(safe):
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    if isinstance(loaded, SimpleNamespace):
        return dict(_tensors_of(loaded, "", set()))
    found = loaded if isinstance(loaded, dict) else {}
    for key in ("state_dict", "model_state_dict", "model"):  # a checkpoint may hold it
        found = found[key] if isinstance(found.get(key), dict) else found
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    need(tensors, f"{path} has no named tensors: it holds a {type(loaded).__name__}")
    return tensors


def _without_code(path: Path) -> tuple[Path | io.BytesIO, list[tuple[Any, str]]]:
    """A file without code for `torch.load`, and the classes that it may build besides tensors.

    Usually `path` itself, and no classes.  For a TorchScript archive, the format that OpenAI published, it is a copy
    without the code, and plain namespaces take the place of modules.
    """
    if not zipfile.is_zipfile(path):
        return path, []
    with zipfile.ZipFile(path) as archive:
        _check_memory(path, sum(member.file_size for member in archive.infolist()))
        if not any(name.endswith("/constants.pkl") for name in archive.namelist()):
            return path, []
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


def _tensors_of(module: SimpleNamespace, prefix: str, seen: set[int]) -> Iterator[tuple[str, Tensor]]:
    """Yields the dotted name and the tensor of everything below `module`; a shared module counts once."""
    seen.add(id(module))
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, SimpleNamespace) and id(value) not in seen:
            yield from _tensors_of(value, f"{prefix}{name}.", seen)

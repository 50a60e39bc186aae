"""Tensors out of anybody's weights file, read as data: nothing in the file is executed."""

import contextlib
import json
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..config import MinclipError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a safetensors file, a state dict (`torch.save`), a TorchScript archive (OpenAI's `.pt`), or an index.

    A state dict may lie within a checkpoint, under "state_dict", "model_state_dict" or "model", and its names may begin
    with `module.` (DDP) or `_orig_mod.` (`torch.compile`), which is taken off.  TorchScript's own loader would build the
    archive's modules and keep its code; here its pickle is read by an unpickler that knows tensors and plain holders of
    attributes, nothing else.  Other files go through `torch.load(weights_only=True)`.
    MinclipError: a file that is cut off, isn't a weights file, or holds anything but data.
    """
    try:
        if path.name.endswith(".index.json"):
            return {name: t for shard in shards(path) for name, t in read_tensors(path.with_name(shard)).items()}
        if path.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(path)
        elif zipfile.is_zipfile(path) and (root := _torchscript_root(path)) is not None:
            tensors = _read_torchscript(path, root)
        else:
            tensors = _find_state_dict(torch.load(path, map_location="cpu", weights_only=True), path)
    except FileNotFoundError:
        raise MinclipError(f"{path} is not there") from None
    except pickle.UnpicklingError as error:
        # not the whole message: torch's tells how to switch the safety off
        named = re.search(r"(?:GLOBAL|it names) ([\w.]+)", str(error))
        what = f" ({named[1]})" if named else ""
        raise MinclipError(
            f"{path} is damaged or holds more than tensors{what}, and nothing from a weights file is executed here"
        ) from None
    except MinclipError:
        raise
    except Exception as error:  # bytes that are no pickle may raise anything
        raise MinclipError(f"{path} is cut off, damaged, or not a weights file: {_first_line(error)}") from None
    return strip_prefixes(tensors)


def shards(index: Path) -> list[str]:
    """The files that a `*.index.json` of Hugging Face names: a large model's weights lie in several."""
    with blame(index):
        return sorted(
            {Path(file).name for file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()}
        )


@contextlib.contextmanager
def blame(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file causes into a MinclipError that names the file."""
    try:
        yield
    except MinclipError as error:
        raise MinclipError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    except Exception as error:
        raise MinclipError(f"{path} is damaged: {type(error).__name__}: {_first_line(error)}") from None


def strip_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Takes `module.` and `_orig_mod.` off every name, however often and in whatever order they were put before it."""
    while tensors and (found := [p for p in ("module.", "_orig_mod.") if all(name.startswith(p) for name in tensors)]):
        tensors = {name.removeprefix(found[0]): tensor for name, tensor in tensors.items()}
    return tensors


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:200]


def _find_state_dict(loaded: Any, path: Path) -> dict[str, Tensor]:
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    tensors = (
        {name: value for name, value in loaded.items() if isinstance(value, Tensor)} if isinstance(loaded, dict) else {}
    )
    if not tensors:
        raise MinclipError(f"{path} holds no tensors under names, but a {type(loaded).__name__}")
    return tensors


# ---- TorchScript archives


def _torchscript_root(path: Path) -> str | None:
    """The folder within the zip that all lies in, or None where it isn't a TorchScript archive."""
    with zipfile.ZipFile(path) as archive:
        return next((n.removesuffix("constants.pkl") for n in archive.namelist() if n.endswith("/constants.pkl")), None)


def _read_torchscript(path: Path, root: str) -> dict[str, Tensor]:
    with zipfile.ZipFile(path) as archive, archive.open(root + "data.pkl") as data:
        module = _TorchScriptUnpickler(data, archive, root).load()
    if not isinstance(module, _Module):
        raise MinclipError(f"{path} is a TorchScript archive of a {type(module).__name__}, not of a module")
    return _tensors_of(module, "", set())


_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Module:
    """Stands in for every class of an archive: a holder of attributes, without the archive's code."""


def _tensors_of(module: _Module, prefix: str, seen: set[int]) -> dict[str, Tensor]:
    """The tensors below `module` by their dotted names; a module that stands in two places is taken once."""
    found: dict[str, Tensor] = {}
    seen.add(id(module))
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            found[prefix + name] = value
        elif isinstance(value, _Module) and id(value) not in seen:
            found |= _tensors_of(value, f"{prefix}{name}.", seen)
    return found


class _TorchScriptUnpickler(pickle.Unpickler):
    """Builds tensors, lists and `_Module`s; refuses any other class or function that the pickle names."""

    def __init__(self, data: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(data)
        self.archive, self.root = archive, root
        # of its own: a pickle may set attributes on what it is handed, and must not reach the next file's reader
        self.module = type("Module", (_Module,), {})
        self.ordered_dict = type("OrderedDict", (OrderedDict,), {})

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return self.module
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *parts: _tensor(*parts)
        if (module, name) == ("collections", "OrderedDict"):
            return self.ordered_dict
        if module == "torch.jit._pickle" and name.startswith(("build_", "restore_")):
            return lambda value, *_: value  # lists, which TorchScript marks with the type of their elements
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: tuple[str, torch.dtype, str, str, int]) -> Tensor:
        _, dtype, key, _, length = pid
        if length == 0:
            return torch.empty(0, dtype=dtype)
        return torch.frombuffer(bytearray(self.archive.read(f"{self.root}data/{key}")), dtype=dtype)[:length]


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return storage.as_strided(size, stride, offset).contiguous()

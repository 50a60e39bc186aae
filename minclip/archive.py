"""Tensors out of anybody's weights file, read as data: nothing in the file is executed."""

import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from .config import MinclipError


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
        raise MinclipError(
            f"{path} is damaged or holds more than tensors, and nothing from a weights file is executed here: {_first_line(error)}"
        ) from None
    except MinclipError:
        raise
    except Exception as error:  # bytes that are no pickle may raise anything
        raise MinclipError(f"{path} is cut off, damaged, or not a weights file: {_first_line(error)}") from None
    return strip_prefixes(tensors)


def shards(index: Path) -> list[str]:
    """The files that a `*.index.json` of Hugging Face names: a large model's weights lie in several."""
    return sorted({Path(file).name for file in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})


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
    return dict(module.tensors())


_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


class _Module:
    """Stands in for every class of an archive: a holder of attributes, without the archive's code."""

    def tensors(self, prefix: str = "") -> "list[tuple[str, Tensor]]":
        found = []
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                found.append((prefix + name, value))
            elif isinstance(value, _Module):
                found += value.tensors(f"{prefix}{name}.")
        return found


class _TorchScriptUnpickler(pickle.Unpickler):
    """Builds tensors, lists and `_Module`s; refuses any other class or function that the pickle names."""

    def __init__(self, data: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(data)
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Module
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name.startswith(("build_", "restore_")):
            return lambda value, *_: value  # lists, which TorchScript marks with the type of their elements
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: tuple[str, torch.dtype, str, str, int]) -> Tensor:
        _, dtype, key, _, length = pid
        return torch.frombuffer(bytearray(self.archive.read(f"{self.root}data/{key}")), dtype=dtype)[:length]


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    return storage.as_strided(size, stride, offset).contiguous()

"""Tensors from any weights file, read as data: minclip never executes code from a weights file."""

import contextlib
import json
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..config import MinclipError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of a safetensors file, a state dict (`torch.save`), a TorchScript archive or a `*.index.json`.

    Without the prefixes `module.` (DDP) and `_orig_mod.` (`torch.compile`).  MinclipError for a file that is missing or
    damaged, holds more than data, or would take far more memory than it has bytes.
    """
    if path.name.endswith(".index.json"):
        return {name: t for shard in shards(path) for name, t in read_tensors(path.with_name(shard)).items()}
    try:
        if path.suffix == ".safetensors":
            tensors = safetensors.torch.load_file(path)
        else:
            tensors = _read_torchscript(path) if zipfile.is_zipfile(path) else None
            tensors = _read_state_dict(path) if tensors is None else tensors
    except FileNotFoundError:
        raise MinclipError(f"{path} is not there") from None
    except pickle.UnpicklingError as error:
        # only the name from torch's message, which goes on to explain how to switch the safety off
        named = re.search(r"(?:GLOBAL|it names) ([\w.]+)", str(error))
        what = f"{path} is damaged or holds more than tensors{f' ({named[1]})' if named else ''}"
        raise MinclipError(f"{what}; minclip never executes code from a weights file") from None
    except MinclipError:
        raise
    except Exception as error:  # bytes that are no pickle can raise anything
        raise MinclipError(f"{path} is cut off, or not a weights file: {shortened(error)}") from None
    _check_memory(path, sum(t.numel() * t.element_size() for t in tensors.values()))
    return strip_prefixes(tensors)


def shards(index: Path) -> list[str]:
    """The files that a `*.index.json` lists: transformers splits large models."""
    with one_error(index):
        return sorted({Path(file).name for file in json.loads(index.read_bytes())["weight_map"].values()})


@contextlib.contextmanager
def one_error(where: object, what: str = "is damaged") -> Iterator[None]:
    """Turns any exception that a bad file causes into one MinclipError that names it."""
    try:
        yield
    except MinclipError as error:
        raise MinclipError(str(error) if str(where) in str(error) else f"{where}: {error}") from None
    except Exception as error:
        raise MinclipError(f"{where} {what}: {shortened(error)}") from None


def strip_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Removes `module.` and `_orig_mod.` as long as all names begin with one of them."""
    while tensors and (found := [p for p in ("module.", "_orig_mod.") if all(name.startswith(p) for name in tensors)]):
        tensors = {name.removeprefix(found[0]): tensor for name, tensor in tensors.items()}
    return tensors


def shortened(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()):.200}"


def _check_memory(path: Path, size: int) -> None:
    """Refuses what only an attacker writes: compressed gigabytes of zeros, or a huge tensor of stride 0."""
    held = path.stat().st_size
    if size > 4 * held + (64 << 20):  # room for tensors under two names, and for files that a person compressed
        raise MinclipError(f"{path} has {held:,} bytes and would take {size:,} of memory: that is no weights file")


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    found = loaded = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model_state_dict", "model"):  # a checkpoint around it
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    tensors = {k: v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, dict) else {}
    if not tensors:
        raise MinclipError(f"{path} has no named tensors: it holds a {type(loaded).__name__}")
    return tensors


# ---- TorchScript archives, as OpenAI published them


def _read_torchscript(path: Path) -> dict[str, Tensor] | None:
    """The tensors of an archive, without `torch.jit.load`, which keeps its code; None for a zip of another kind."""
    with zipfile.ZipFile(path) as archive:
        _check_memory(path, sum(member.file_size for member in archive.infolist()))
        root = next((n[: -len("constants.pkl")] for n in archive.namelist() if n.endswith("/constants.pkl")), None)
        if root is None:
            return None
        with archive.open(root + "data.pkl") as data:
            module = _TorchScriptUnpickler(data, archive, root).load()
    if not isinstance(module, SimpleNamespace):
        raise MinclipError(f"{path} is a TorchScript archive of a {type(module).__name__}, not of a module")
    return _tensors_of(module, "", set())


# written out: to ask torch.FloatStorage for its dtype prints a warning at every import
_DTYPES = {
    "FloatStorage": torch.float, "HalfStorage": torch.half, "BFloat16Storage": torch.bfloat16, "BoolStorage": torch.bool,
    "DoubleStorage": torch.double, "LongStorage": torch.long, "IntStorage": torch.int, "ShortStorage": torch.short,
    "CharStorage": torch.int8, "ByteStorage": torch.uint8,
}  # fmt: skip


def _tensors_of(module: SimpleNamespace, prefix: str, seen: set[int]) -> dict[str, Tensor]:
    """The tensors below `module` by their dotted names; a shared module counts once."""
    found: dict[str, Tensor] = {}
    seen.add(id(module))
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            found[prefix + name] = value
        elif isinstance(value, SimpleNamespace) and id(value) not in seen:
            found |= _tensors_of(value, f"{prefix}{name}.", seen)
    return found


class _TorchScriptUnpickler(pickle.Unpickler):
    """Builds tensors, lists, and namespaces in place of modules; refuses any other class that the pickle names."""

    def __init__(self, data: Any, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(data)
        self.archive, self.root = archive, root
        self.storages: dict[str, bytearray] = {}  # shared, or a pickle could ask for one storage a million times
        # classes of this reader's own: a pickle may set attributes on them, which must not reach the next file's reader
        self.module = type("Module", (SimpleNamespace,), {})
        self.ordered_dict = type("OrderedDict", (OrderedDict,), {})

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return self.module
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: storage.as_strided(size, stride, offset)
        if (module, name) == ("collections", "OrderedDict"):
            return self.ordered_dict
        if module == "torch.jit._pickle" and name.startswith(("build_", "restore_")):
            return lambda value, *_: value  # lists, which TorchScript marks with the type of their elements
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: tuple[str, torch.dtype, str, str, int]) -> Tensor:
        _, dtype, key, _, length = pid
        if length == 0:
            return torch.empty(0, dtype=dtype)
        if key not in self.storages:
            self.storages[key] = bytearray(self.archive.read(f"{self.root}data/{key}"))
        return torch.frombuffer(self.storages[key], dtype=dtype)[:length]

"""Configs as JSON, and the parser for all JSON from outside minclip."""

import dataclasses
import json
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from ..config import TRANSFORMERS, CLIPConfig, MinclipError, TextConfig, VisionConfig, nearest, need, unused_fields

FORMAT = 1  # version of a run's folder; raise it when the meaning of a field changes
VERSION = next((found.version for found in distributions(name="minclip")), "0")  # "0" if it was not installed
to_dict = dataclasses.asdict  # a config as nested dictionaries, for JSON
POINTER = "is a git-lfs pointer, not the file itself: run `git lfs pull` in its folder, or download the file again"


def leaves(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested groups of fields, {"train": {"lr": …}} -> {"train.lr": …}."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out


def parse_json(text: str | bytes, where: str) -> Any:
    """Parses `text`; a MinclipError names its origin `where` if it is not valid JSON, or nested too deeply."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        need("git-lfs" not in str(text[:64]), f"{where} {POINTER}")
        raise MinclipError(f"{where} is not valid JSON, or nested too deeply: {error}") from None


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of the object in a JSON file; {} if the file is missing or holds another type."""
    values = parse_json(path.read_bytes(), str(path)) if path.exists() else {}
    return values if isinstance(values, dict) else {}


def from_dict(cls: type, values: Any, where: str = "config", *, group: str = "") -> Any:
    """Builds the dataclass `cls` from plain values; a MinclipError names the file `where` and the field.

    A missing field takes its default, so that files older than the field can still be read; a missing group is refused.
    `group` is the prefix of the fields in errors: "" or, for example, "train.".
    """
    need(isinstance(values, dict), f"{where}: {group[:-1] or 'it'} must be a group of fields, not {values!r:.60}")
    kinds, kept = {field.name: field.type for field in dataclasses.fields(cls)}, {}
    for name, value in values.items():
        need(name in kinds, f"{where}: {group}{name} is unknown{nearest(name, kinds)}")
        if dataclasses.is_dataclass(kinds[name]):
            value = from_dict(kinds[name], value, where, group=f"{group}{name}.")
        kept[name] = tuple(value) if isinstance(value, list) else value  # JSON has no tuples
    missing = [group + name for name, kind in kinds.items() if dataclasses.is_dataclass(kind) and name not in kept]
    need(not missing, f"{where} lacks {', '.join(missing)}")
    try:
        if cls in (VisionConfig, TextConfig):  # earlier versions also saved fields that the tower doesn't use
            unused = unused_fields("vision" if cls is VisionConfig else "text", kept.get("tower", cls.tower))
            kept = {name: value for name, value in kept.items() if name not in unused}
        elif cls is CLIPConfig and not {kept["vision"].tower, kept["text"].tower} & TRANSFORMERS:
            kept.pop("activation", None)
        return cls(**kept)
    except MinclipError as error:
        raise MinclipError(f"{where}: {error}") from None

"""Configs as JSON, and the one parser for JSON that other people wrote."""

import dataclasses
import json
import typing
from typing import Any, Literal

from ..config import MinclipError, nearest

FORMAT = 1  # of a run's folder; raise it when a field changes its meaning
# Fields younger than the first files of this FORMAT, which lack them.
YOUNGER = """
    tower stages mlp_width dropout loss
    workers first_size color image_column caption_column
    hf_config vision_lr text_lr freeze optimizer label_smoothing micro_batch loss_chunk parallel compile grad_checkpointing ema unmasked_last tensorboard overfit
""".split()


def parse_json(text: str | bytes, where: str) -> Any:
    """The value that `text` holds; a MinclipError names `where` it came from if it is no JSON, or nested without end."""
    try:
        return json.loads(text)
    except RecursionError:
        raise MinclipError(f"{where} is nested too deeply to be read as JSON") from None
    except ValueError as error:  # UnicodeDecodeError, too
        raise MinclipError(f"{where} is not valid JSON: {error}") from None


def to_dict(config: Any) -> dict[str, Any]:
    return dataclasses.asdict(config)


def from_dict(cls: type, values: dict[str, Any], where: str = "config") -> Any:
    """Builds the dataclass `cls` from plain values; an unknown field and a value of the wrong type are MinclipErrors.

    A missing field is one, too, unless it may be younger than the file: then it takes its default.
    """
    hints = typing.get_type_hints(cls)
    if not isinstance(values, dict):
        raise MinclipError(f"{where} should be a group of fields, not {values!r}")
    for name in values:
        if name not in hints:
            raise MinclipError(f"{where} has no field {name!r}{nearest(name, hints)}")
    missing = [name for name in hints if name not in values and name not in YOUNGER]
    if missing:
        raise MinclipError(f"{where} lacks {', '.join(missing)}")
    return cls(**{name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    kinds = typing.get_args(hint)
    if typing.get_origin(hint) is Literal:
        if value not in kinds:
            raise MinclipError(f"{where} {value!r} is none of {', '.join(kinds)}")
        return value
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(kinds):
            raise MinclipError(f"{where} should hold {len(kinds)} numbers, not {value!r}")
        return tuple(_convert(kind, v, where) for kind, v in zip(kinds, value))
    wanted = (int, float) if hint is float else hint
    if not isinstance(value, wanted) or (hint is bool) != isinstance(value, bool):
        raise MinclipError(f"{where} should be of type {hint.__name__}, not {value!r}")
    return hint(value)

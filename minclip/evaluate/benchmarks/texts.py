"""The words for the paper's data sets, all in our own wording: templates, and class names where a set's own can't be read."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

_WORDS = json.loads(Path(__file__).with_name("words.json").read_text(encoding="utf-8"))
TEMPLATES: dict[str, list[str]] = {name: words["templates"] for name, words in _WORDS.items()}
# by the set's own name of a class; a list is by number, where a set has no names
NAMES: dict[str, dict[str, str] | list[str]] = {name: w["names"] for name, w in _WORDS.items() if "names" in w}


def readable(name: str) -> str:
    """ "apple_pie" -> "apple pie", "apse/indoor" -> "indoor apse", "ApplyLipstick" -> "Apply Lipstick"."""
    place, _, which = name.partition("/")
    words = f"{which} {place}" if re.fullmatch(r"[a-z_]+", which) else name
    # only names made of capitalized words alone: a "McLaren" among others stays one word
    camel = re.fullmatch(r"([A-Z][a-z]+){2,}", words)
    return " ".join((re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words) if camel else words.replace("_", " ")).split())


def class_names(name: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The names for the prompts of data set `name`, whose own are `classes`; none where it has numbers only."""
    table = NAMES.get(name, {})
    if isinstance(table, list):
        return tuple(readable(c) for c in classes) or tuple(table)
    return tuple(table.get(c) or readable(c) for c in classes)

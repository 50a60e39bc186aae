"""JSON as a table: a list of records, wherever it is in the file."""

import contextlib
import re
from collections.abc import Iterator
from itertools import islice
from posixpath import basename
from typing import Any

from ...config import MinclipError, need
from ...weights.config_json import parse_json
from .columns import KNOWN, SPLIT_WORDS, MissingColumn, Table, plain
from .source import Source

JSON = (".json", ".jsonl", ".ndjson")


def names_any(text: str, names: set[str]) -> bool:
    """Whether one of the first million strings in a JSON text is one of `names`, with or without folders before it."""
    for found in islice(re.finditer(r'"((?:[^"\\]|\\.)*)"', text), 10**6):
        string = found[1]
        if "\\" in string:
            with contextlib.suppress(MinclipError):
                string = parse_json(found[0], "")
        if basename(string.replace("\\", "/")) in names:
            return True
    return False


def read_json(source: Source, path: str, asked: tuple[str, str]) -> Table:
    """The records of a JSON file as rows: a record has names and values, {"file_name": "a.jpg", "caption": "a dog"}.

    They may be JSON lines; a list, at the top or under any key ("train" gives the split); COCO's "annotations", which
    get the file names of its "images" by "image_id"; or one object by image, {"a.jpg": "a dog", "b.jpg": ["a cat"]}.
    """
    text, wanted = source.text(path), {plain(asked[0])} if asked[0] else {*KNOWN["image"]}
    records = _lines(text, path) or [*_records(parse_json(text, path), wanted)]
    if not records:
        raise MissingColumn(f'{path} has no list of records such as {{"image": "a.jpg", "caption": "a dog"}}')
    for place, record in records:
        need(isinstance(record, dict), f"{path} {place} must have names and values, got {record!r:.60}")
        if {type(record.get(key)) for key in ("filepath", "filename")} == {str}:  # Karpathy's: the folder, and the name
            record["filename"] = f"{record['filepath']}/{record['filename']}"
    header = list(dict.fromkeys(key for _, record in records for key in record))

    def rows(columns: list[int]) -> Iterator[tuple[str, list[Any], None]]:
        for place, record in records:
            yield place, [record.get(header[i]) for i in columns], None

    return header, rows


def _lines(text: str, path: str) -> list[tuple[str, Any]]:
    """The values of JSON lines, [] if the text is not that, but one value."""
    first, _, rest = text.strip().partition("\n")
    if not path.lower().endswith(JSON[1:]):
        try:
            parse_json(first if first[:1] == "{" and rest else "", path)
        except MinclipError:
            return []
    lines = enumerate(text.split("\n"), 1)  # not splitlines: JSON may hold other line ends as they are
    return [(f"line {n}", parse_json(line, f"{path} line {n}")) for n, line in lines if line.strip()]


def _records(values: Any, wanted: set[str]) -> Iterator[tuple[str, Any]]:
    """Places and records; those with one of the names `wanted`, if any has."""

    def named(record: Any) -> bool:
        return isinstance(record, dict) and any(plain(key) in wanted for key in record)

    parts = values if isinstance(values, dict) else {"": values}
    lists = {key: part for key, part in parts.items() if isinstance(part, list) and part and isinstance(part[0], dict)}
    if {"images", "annotations"} <= lists.keys() and not named(lists["annotations"][0]):
        images = {str(image.get("id")): image for image in lists["images"] if isinstance(image, dict)}
        names = {id: {key: image[key] for key in image if plain(key) in wanted} for id, image in images.items()}
        joined = (a and {**names.get(str(a.get("image_id")), {}), **a} for a in lists["annotations"])
        lists = {"annotations": list(joined)}
    for key, records in ({key: part for key, part in lists.items() if named(part[0])} or lists).items():
        split = {"split": key} if key.lower() in SPLIT_WORDS else {}
        yield from ((f"{key}[{i}]", {**split, **record} if split else record) for i, record in enumerate(records))
    if isinstance(values, dict) and not lists:
        if named(values):
            yield "", values
        elif all(isinstance(part, str | list) for part in values.values()):
            yield from ((repr(name), {"image": name, "caption": part}) for name, part in values.items())
        elif all(isinstance(part, dict) for part in values.values()):
            yield from ((repr(name), {"image": name, **part}) for name, part in values.items())

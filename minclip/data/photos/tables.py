"""Tables of captions: CSV, TSV, parquet, Flickr's token files or JSON, with an image column and caption columns."""

import ast
import contextlib
import csv
import io
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import chain, islice
from posixpath import basename
from typing import Any

from ...config import MinclipError, nearest, need
from ...weights.config_json import parse_json
from .parquet import Table, read_parquet
from .source import JSON, Row, Source, plain

TOKENS = (".token", ".token.txt")  # Flickr's own files, without a header: name#number, a tab, a caption
# known names of columns, the likelier ones first; compared in lower case, with "_" for spaces and "-"
NAMES = "image image_path image_file image_name file_name filename filepath file_path file img photo picture path"
KNOWN = {
    "image": f"{NAMES} image_bytes jpg jpeg png webp".split(),
    "caption": "caption captions text title comment sentence sentences description raw".split(),
}
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "restval"), "train"),  # "restval": COCO's val images that Karpathy trains on
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SHARDS = 'download the images with img2dataset as shards, and set data.name to "shards"'
URL = ("http://", "https://")
IMAGE_NAME = re.compile(r"\.(jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|jp2|heic)(#\d+)?$", re.I)
HALF = re.compile("[\ud800-\udfff]")  # half a character, which JSON can hold
# a string as Python prints it, with no escape that Python doesn't know; a list of such, also without commas (NumPy)
STRING = r"""'(?:[^'\\]|\\[\\'"nrtabfvxuU0-7])*'|"(?:[^"\\]|\\[\\'"nrtabfvxuU0-7])*\""""
PRINTED = re.compile(rf"\[\s*(?:(?:{STRING}|None|nan)[\s,]*)*\]")


class MissingColumn(MinclipError):
    """The table has no image or no caption column: it may be a table of something else."""


def read_table(source: Source, path: str, *, columns: tuple[str, str] = ("", ""), split: str = "") -> Iterator[Row]:
    """The rows of one table; `split` applies to all of them if the table has no column "split".

    `columns` are the image column and the caption columns: names, patterns such as "caption_*", or numbers from 1, with
    commas between several.  For "", known names are tried, for captions also with a number ("caption_0", "caption_1").
    If all are numbers, a CSV has no header.  A caption cell may hold a list, also as JSON or Python prints it.
    Raises MissingColumn if a column is missing, and a MinclipError that names the first bad row.
    """
    kind = path.lower()
    columns = ("1", "2") if kind.endswith(TOKENS) else columns
    reader = read_parquet if kind.endswith(".parquet") else _json if kind.endswith(JSON) else _csv
    header, rows = reader(source, path, columns)
    chosen = _columns(path, header, columns)
    splits = [i for i, name in enumerate(header) if key_of(name) == "split"][:1]
    place = ""
    for line, (name, *cells), read in rows([*chosen, *splits]):
        place, texts = f"{path} {line}", [captions_in(cell) for cell in cells]
        for i, values in zip([*chosen, *splits], [[name or ""], *texts]):
            if wrong := [v for v in values if not isinstance(v, str) or (not v.isascii() and HALF.search(v))]:
                raise MinclipError(f"{place}: the column {header[i]!r} must hold text, got {wrong[0]!r:.60}")
        need(bool(name and name.strip()), f"{place}: the column {header[chosen[0]]!r} is empty")
        need(not name.startswith(URL), f"{place}: {name:.60} is a URL: {SHARDS}")
        named = "".join(texts.pop()).strip() if splits else split
        known = SPLIT_WORDS.get(named.lower(), "")
        need(bool(known or not named), f"{place}: the split must be train, val or test, got {named!r}")
        name = re.sub(r"(\.\w+)#\d+$", r"\1", name.strip()) if "#" in name else name.strip()  # Flickr's "a.jpg#0"
        yield Row(path, place, name, [*chain(*texts)], known, read)
    need(bool(place), f"{path} has no rows below its header {', '.join(header)}")


def key_of(name: str) -> str:
    """The name of a column or field, as KNOWN has it."""
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _columns(path: str, header: list[str], asked: tuple[str, str]) -> list[int]:
    """The image column and the caption columns, counted from 0."""
    images, captions = (_matching(header, what, wanted) for what, wanted in zip(KNOWN, asked))
    has = f"it has {', '.join(header) or 'none: it is empty'}"
    for what, wanted, found in zip(KNOWN, asked, (images, captions)):
        if not found:
            urls = what == "image" and not wanted and {"url", "image_url", "link"} & {*map(key_of, header)}
            which = f"column {wanted!r}{nearest(wanted, header)}" if wanted else f"known {what} column"
            todo = SHARDS if urls else f'set data.name to "own" and data.{what}_column to yours'
            raise MissingColumn(f"{path} has {'URLs, but ' if urls else ''}no {which}: {has}: {todo}")
    need(len(images) == 1, f"{path} has several columns for data.image_column {asked[0]!r}: {has}")
    return images + captions


def _matching(header: list[str], what: str, asked: str) -> list[int]:
    names = [key_of(name) for name in header]
    numbers = ("", "_[0123456789]*", "[0123456789]*") if what == "caption" else ("",)
    for wanted in [asked] if asked else [word + number for word in KNOWN[what] for number in numbers]:
        found = []
        for part in [wanted] if key_of(wanted) in names else wanted.split(","):
            key = key_of(part)
            exact = [i for i, name in enumerate(names) if name == key]  # which may hold a "[" or a "*"
            found.append(exact or [i for i, name in enumerate(names) if fnmatchcase(name, key) or key == str(i + 1)])
        if all(found):
            return sorted({*chain(*found)})
    return []


def captions_in(cell: Any) -> list[Any]:
    """The captions in a cell: a text, or the texts of a list or of its records; anything else as it is, to be refused.

    A text may be a list as JSON or Python prints it; one that only begins like a list, or lists numbers, is a caption.
    """
    items = _listed(cell) if isinstance(cell, str) and cell.startswith("[") else cell
    items = [item for item in (items if isinstance(items, list) else [items]) if item is not None]
    # a record such as Karpathy's {"raw": …, "tokens": […]}
    fields = [[key for key in KNOWN["caption"] if isinstance(item, dict) and key in item] for item in items]
    return [item[keys[0]] if keys else item for item, keys in zip(items, fields)]


def _listed(cell: str) -> Any:
    with contextlib.suppress(MinclipError):
        items = parse_json(cell, "")
        return cell if items and all(isinstance(item, int | float | list) for item in items) else items
    if PRINTED.fullmatch(cell):
        with contextlib.suppress(ValueError, SyntaxError):  # "\\x" without digits
            return [ast.literal_eval(string) for string in re.findall(STRING, cell)]
    return cell


def _csv(source: Source, path: str, asked: tuple[str, str]) -> Table:
    text = source.text(path)
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    delimiter = "\t" if "\t" in first else min(",;|", key=f"{first},;|".index)  # the first one: captions hold commas
    results = delimiter == "|" and basename(path) == "results.csv"
    if results:  # row 19999 of Flickr30k's lacks a bar: its second cell is "4   A dog runs across the grass ."
        text = re.sub(r"(?m)^([^|\n]+\|\s*\d+)\s+([^|\n]+)$", r"\1|\2", text)
    # quotes in Flickr's files are text
    quoting = csv.QUOTE_NONE if results or path.lower().endswith(TOKENS) else csv.QUOTE_MINIMAL
    options = {"delimiter": delimiter, "skipinitialspace": True, "strict": True, "quoting": quoting}

    def filled() -> Iterator[tuple[str, list[str]]]:
        """The place and the cells of each row that is not empty; all must be as long as the first."""
        reader, start, header = csv.reader(io.StringIO(text, newline=""), **options), 1, []
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    header = header or [cell.strip() for cell in cells]
                    if len(cells) != len(header):
                        what = f"expected {len(header)} columns ({', '.join(header):.99}), found {len(cells)}"
                        why = f"is a {delimiter!r} missing, or is one in a caption without quotes?"
                        raise MinclipError(f"{path} line {start}: {what}: {why} {delimiter.join(cells)[:80]!r}")
                    yield f"line {start}", cells
                start = reader.line_num + 1
        except csv.Error as error:
            why = "is a quote not closed, or one inside quotes not doubled?"
            raise MinclipError(f"{path} line {start}: {error}: {why}") from None

    table = filled()
    place, cells = next(table, ("", []))
    header = [cell.strip() for cell in cells]
    if all(re.fullmatch("[0-9, ]+", columns) for columns in asked):
        header, table = [str(i + 1) for i in range(len(cells))], chain([(place, cells)], table)
    elif any(IMAGE_NAME.search(cell) or cell.startswith(URL) for cell in header):  # it would be lost
        numbers = 'set data.name to "own", and data.image_column and data.caption_column to numbers, counted from 1'
        todo = SHARDS if any(cell.startswith(URL) for cell in header) else f"{numbers}, or add a header"
        raise MissingColumn(f"{path} has no header: its first line is {', '.join(header)[:100]!r}: {todo}")
    return header, lambda columns: ((place, [cells[i] for i in columns], None) for place, cells in table)


def names_any(text: str, names: set[str]) -> bool:
    """Whether one of the first million strings in JSON is one of `names` (see `plain`), also below folders."""
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), text[: 2**26])
    return any(plain(end[1]) in names for end in islice(re.finditer(r'(?<=["/\\])([^"/\\]+)"', text), 10**6))


def _json(source: Source, path: str, asked: tuple[str, str]) -> Table:
    """The records of a JSON file as rows: a record has names and values, {"file_name": "a.jpg", "caption": "a dog"}.

    They may be JSON lines; a list, at the top or under any key ("train" gives the split); COCO's "annotations", which
    get the file names of its "images" by "image_id"; or one object by image, {"a.jpg": "a dog", "b.jpg": ["a cat"]}.
    """
    text, wanted = source.text(path), {key_of(asked[0])} if asked[0] else {*KNOWN["image"]}
    try:
        records = [*_records(parse_json(text, path), wanted)]
    except MinclipError as error:
        if "Extra data: line" not in str(error):
            raise
        lines = enumerate(text.split("\n"), 1)  # not splitlines: JSON may hold other line ends as they are
        records = [(f"line {n}", parse_json(line, f"{path} line {n}")) for n, line in lines if line.strip()]
    if not records:
        raise MissingColumn(f'{path} has no list of records such as {{"image": "a.jpg", "caption": "a dog"}}')
    for place, record in records:
        need(isinstance(record, dict), f"{path} {place} must have names and values, got {record!r:.60}")
    header = list(dict.fromkeys(key for _, record in records for key in record))
    return header, lambda columns: ((at, [record.get(header[i]) for i in columns], None) for at, record in records)


def _records(values: Any, wanted: set[str]) -> Iterator[tuple[str, Any]]:
    """Places and records: of the lists whose records have one of the names `wanted` for images, if there are any."""

    def named(record: Any) -> bool:
        return isinstance(record, dict) and any(key_of(key) in wanted for key in record)

    parts = values if isinstance(values, dict) else {"": values}
    lists = {key: part for key, part in parts.items() if isinstance(part, list) and part and isinstance(part[0], dict)}
    if {"images", "annotations"} <= lists.keys() and not named(lists["annotations"][0]):
        images = {str(image.get("id")): image for image in lists["images"] if isinstance(image, dict)}
        for record in filter(lambda part: isinstance(part, dict), lists["annotations"]):
            image = images.get(str(record.get("image_id")), {})
            record.update((key, image[key]) for key in image if key_of(key) in wanted)
        lists.pop("images")
    kept = {key: part for key, part in lists.items() if named(part[0])}
    if named(values) and not kept:
        yield "line 1", values
    elif lists:
        for key, records in (kept or lists).items():
            split = {"split": key} if key.lower() in SPLIT_WORDS else {}
            yield from ((f"{key}[{i}]", split | part if named(part) else part) for i, part in enumerate(records))
    elif isinstance(values, dict):
        records = {name: part if isinstance(part, dict) else {"caption": part} for name, part in values.items()}
        texts = (text for record in records.values() for text in captions_in(record.get("caption")))
        if all(isinstance(text, str) for text in texts):
            yield from ((repr(k), part if named(part) else {"image": k, **part}) for k, part in records.items())

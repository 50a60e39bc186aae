"""Tables of captions: CSV, TSV, parquet or JSON with an image column and one or more caption columns."""

import contextlib
import csv
import functools
import hashlib
import io
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import chain
from posixpath import basename, splitext
from typing import Any

from ...config import MinclipError, need
from .columns import KNOWN, SHARDS, URL, MissingColumn, Table, captions_in, find_columns, plain
from .images import IMAGES
from .records import JSON, read_json
from .source import Row, Source

TOKENS = (".token", ".token.txt")  # Flickr's own files: name#number, a tab, a caption
HALF = re.compile("[\ud800-\udfff]")  # half a character, which JSON can hold: it is no text


def read_table(source: Source, path: str, *, columns: tuple[str, str] = ("", ""), split: str = "") -> Iterator[Row]:
    """The rows of one table; `split` applies to all of them if the table has no column "split".

    A table is a header, whose names, or `columns`, say where the image and its captions are (see `find_columns`), and
    rows; JSON is one, too: its records are the rows.  A CSV or TSV has no header if both `columns` are numbers.
    Raises MissingColumn if a column is missing, and a MinclipError that names the first bad row.
    """
    kind = splitext(path)[1].lower()
    reader = read_json if kind in JSON else _parquet if kind == ".parquet" else _csv
    header, rows = reader(source, path, columns)
    chosen = find_columns(path, header, columns)
    splits = [i for i, name in enumerate(header) if plain(name) == "split"][:1]
    for name in (header[i] for i in (*chosen, *splits)):
        need(header.count(name) == 1, f"{path} has {header.count(name)} columns named {name!r}: rename all but one")
    place = ""
    for line, (name, *cells), read in rows([*chosen, *splits]):
        place, texts = f"{path} {line}", [captions_in(cell) for cell in cells]
        for i, values in zip([*chosen, *splits], [[name or ""], *texts]):
            if wrong := [value for value in values if not isinstance(value, str) or HALF.search(value)]:
                raise MinclipError(f"{place}: the column {header[i]!r} must hold text, got {wrong[0]!r:.60}")
        need(bool(name and name.strip()), f"{place}: the column {header[chosen[0]]!r} is empty")
        need(not name.startswith(URL), f"{place}: {name:.60} is a URL: {SHARDS}")
        given = "".join(texts.pop()) if splits else split
        yield Row(path, place, re.sub(r"(\.\w+)#\d+$", r"\1", name.strip()), [*chain(*texts)], given.strip(), read)
    need(bool(place), f"{path} has no rows below its header {', '.join(header)}")


def _csv(source: Source, path: str, asked: tuple[str, str]) -> Table:
    text = source.text(path)
    first = next((line for line in io.StringIO(text) if line.strip()), "")
    delimiter = "\t" if "\t" in first else min(",;|", key=f"{first},;|".index)  # the first one: captions hold commas
    token, results = path.lower().endswith(TOKENS), delimiter == "|" and basename(path) == "results.csv"
    quoting = (
        csv.QUOTE_NONE if token or results else csv.QUOTE_MINIMAL
    )  # in Flickr's files, quotes are part of the text
    options = {"skipinitialspace": True, "strict": True, "quoting": quoting}
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, **options)

    def filled() -> Iterator[tuple[int, list[str]]]:
        """The number of the first line and the cells of each row that is not empty."""
        start = 1
        try:
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    yield start, cells
                start = reader.line_num + 1
        except csv.Error as error:
            why = "is a quote not closed, or one inside quotes not doubled?"
            raise MinclipError(f"{path} line {start}: {error}: {why}") from None

    table = filled()
    number, cells = next(table, (0, []))
    header = [name.strip() for name in cells]
    if token or _numbered(header, asked):
        table = chain([(number, cells)], table)
        header = ["image", "caption"] if token else [str(i + 1) for i in range(len(cells))]
    else:
        _check_header(source, path, header)

    def rows(columns: list[int]) -> Iterator[tuple[str, list[Any], None]]:
        for number, cells in table:
            # row 19999 of Flickr30k's results.csv lacks a bar: its second cell is "4   A dog runs across the grass ."
            if results and len(cells) == 2 and (run_together := re.fullmatch(r"(\d+)\s+(.+)", cells[1])):
                cells[1:] = run_together.groups()
            if len(cells) != len(header):
                what = f"expected {len(header)} columns ({', '.join(header)}), found {len(cells)}"
                why = f"is a {delimiter!r} missing, or is one in a caption without quotes?"
                raise MinclipError(f"{path} line {number}: {what}: {why} {delimiter.join(cells)[:80]!r}")
            yield f"line {number}", [cells[i] for i in columns], None

    return header, rows


def _numbered(cells: list[str], asked: tuple[str, str]) -> bool:
    """Whether both columns are given by number, and the first row is not a header nevertheless."""
    if not all(re.fullmatch(r"\d+(\s*,\s*\d+)*", columns) and columns not in cells for columns in asked):
        return False
    return not any(plain(cell) in KNOWN["image"] for cell in cells[int(asked[0].split(",")[0]) - 1 :][:1])


def _check_header(source: Source, path: str, cells: list[str]) -> None:
    """Raises MissingColumn if the first row names an image, or is one of a table of URLs: it must not be lost."""
    named = any(plain(cell) in words for cell in cells for words in KNOWN.values())
    known = set() if named else {splitext(basename(image))[0] for image in source.images}
    images = [i for i, cell in enumerate(cells) if cell.lower().endswith(IMAGES) or cell in known]
    first = f"{path} has no header: its first line is {', '.join(cells)[:100]!r}"
    if any(cell.startswith(URL) for cell in cells):
        raise MissingColumn(f"{first}, with a URL: {SHARDS}")
    if images:
        caption = max(set(range(len(cells))) - set(images), key=lambda i: len(cells[i]), default=1)
        how = f'data.name to "own", data.image_column to {images[0] + 1} and data.caption_column to {caption + 1}'
        raise MissingColumn(f"{first}: set {how}, which count from 1, or add a header such as image,caption")


def _parquet(source: Source, path: str, asked: tuple[str, str]) -> Table:
    try:
        from pyarrow.parquet import ParquetFile  # most runs don't need it
    except ImportError:
        raise MinclipError(f"{path} needs pyarrow: pip install pyarrow, or write a CSV") from None
    with _parquet_errors(path):
        file = ParquetFile(io.BytesIO(source.read(path)) if source.archive else source.root / path)
        header, groups = file.schema_arrow.names, range(file.num_row_groups)

    def rows(columns: list[int]) -> Iterator[tuple[str, list[Any], Callable[[], bytes] | None]]:
        image, *others = (header[i] for i in columns)
        with _parquet_errors(path):
            names, leaf = _images(file, image)
            cells = [file.read([other])[other].to_pylist() for other in others]
            places = [(group, i) for group in groups for i in range(file.metadata.row_group(group).num_rows)]
        counts = Counter(names) if leaf else {}
        for number, (place, name, *rest) in enumerate(zip(places, names, *cells), 1):
            read = functools.partial(_encoded, file, leaf, *place) if leaf else None
            if read and (not name or counts[name] > 1):
                # one image in several rows, or several with one name; or none, which img2dataset could not download
                data = read()
                name, read = (hashlib.sha256(data).hexdigest()[:16], read) if data else (f"row {number}", None)
            yield f"row {number}", [f"{path}: {name}" if leaf else name, *rest], read

    return header, rows


@contextlib.contextmanager
def _parquet_errors(path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # pyarrow's errors, and Python's on damaged names and lengths
        raise MinclipError(f"{path} is not a valid parquet file: {error}") from None


def _images(file: Any, column: str) -> tuple[list[Any], str]:
    """The image name of each row, None without one, and the (sub)column of encoded images, "" without one."""
    kind, names, leaf = file.schema_arrow.field(column).type, [None] * file.metadata.num_rows, f"{column}.bytes"
    if str(kind) in ("binary", "large_binary"):
        return names, column
    # Hugging Face's struct of bytes and path, one of which may be null
    parts = kind if str(kind).startswith("struct") else ()
    fields = {part.name: str(part.type).removeprefix("large_") for part in parts}
    if fields.get("bytes") not in ("binary", "null") or fields.get("path", "null") not in ("string", "null"):
        return file.read([column])[column].to_pylist(), ""  # names of files; read_table refuses anything else
    if "path" in fields:
        names = [cell and cell["path"] for cell in file.read([f"{column}.path"])[column].to_pylist()]
    return names, "" if names and names[0] and not _encoded(file, leaf, 0, 0) else leaf


_LOCK = threading.Lock()  # ParquetFile is not thread-safe


def _encoded(file: Any, leaf: str, group: int, row: int) -> bytes:
    """The encoded image in one row of a row group, b"" without one; fast if rows are read in order."""
    with _LOCK:
        cell = _row_group(file, leaf, group)[row].as_py()
    return (cell["bytes"] if isinstance(cell, dict) else cell) or b""


@functools.lru_cache(maxsize=2)  # row groups, usually of a few hundred images
def _row_group(file: Any, leaf: str, number: int) -> Any:
    return file.read_row_group(number, [leaf]).column(0)

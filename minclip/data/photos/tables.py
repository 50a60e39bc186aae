"""Your own tables: CSV, TSV or parquet with an image column and a caption column."""

import contextlib
import csv
import functools
import hashlib
import io
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from posixpath import basename
from typing import Any

from ...config import MinclipError, nearest, need
from ...weights.config_json import parse_json
from .source import Row, Source

# known names of columns, the likelier ones first; compared in lower case, with "_" for spaces and "-"
KNOWN = {
    "image": "image image_path image_file image_name file_name filename filepath file_path file img photo picture path",
    "caption": "caption captions text title comment sentence sentences description raw",
}
SHARDS = 'download the images with img2dataset as shards, and set data.name to "shards"'
# the header, and rows(columns), which yields for each row its place, the cells of these columns, and an image reader
Table = tuple[list[str], Callable[[list[int]], Iterator[tuple[str, list[Any], Callable[[], bytes] | None]]]]


class MissingColumn(MinclipError):
    """The table has no image or no caption column: it may be a table of something else."""


def read_table(source: Source, path: str, *, columns: tuple[str, str] = ("", ""), split: str = "") -> Iterator[Row]:
    """The rows of one table; `split` applies to all of them if the table has no column "split".

    `columns` are the image and the caption column; for "", known names are tried.  A caption cell may hold a list, in
    parquet or as JSON.  Raises MissingColumn if a column is missing, and a MinclipError that names the first bad row.
    """
    header, rows = (_parquet if path.lower().endswith(".parquet") else _csv)(source, path)
    chosen = [_column(path, header, what, asked) for what, asked in zip(KNOWN, columns)]
    chosen += [i for i, name in enumerate(header) if _plain(name) == "split"][:1]
    for name in (header[i] for i in chosen):
        need(header.count(name) == 1, f"{path} has {header.count(name)} columns named {name!r}: rename all but one")
    line = ""
    for line, cells, read in rows(chosen):
        place, texts = f"{path} {line}", _texts(cells[1], path)
        name, row_split = cells[0] or "", (cells[2] or "") if len(cells) > 2 else split
        for i, values in zip(chosen, ([name], texts, [row_split])):
            if wrong := [value for value in values if not isinstance(value, str)]:
                raise MinclipError(f"{place}: the column {header[i]!r} must hold text, got {wrong[0]!r:.60}")
        need(bool(name.strip()), f"{place}: the column {header[chosen[0]]!r} is empty")
        need(not name.startswith(("http://", "https://")), f"{place}: {name:.60} is a URL: {SHARDS}")
        yield Row(path, place, name.strip(), texts, row_split.strip(), read)
    need(bool(line), f"{path} has no rows below its header {', '.join(header)}")


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _column(path: str, header: list[str], what: str, asked: str) -> int:
    plain, known = [_plain(name) for name in header], [_plain(asked)] if asked else KNOWN[what].split()
    if present := [name for name in known if name in plain]:
        return plain.index(present[0])
    has = f"it has {', '.join(header)}" if header else "it is empty"
    if asked:
        raise MissingColumn(f"{path} has no column {asked!r}{nearest(asked, header)}: {has}")
    if what == "image" and {"url", "image_url", "link"} & set(plain):
        raise MissingColumn(f"{path} has URLs but no image column ({has}): {SHARDS}")
    guess = next((f" (is it {name!r}?)" for name in header if nearest(_plain(name), known, 0.6)), "")
    raise MissingColumn(f"{path} has no known {what} column{guess}: {has}; set data.{what}_column to yours")


def _texts(cell: Any, path: str) -> list[Any]:
    if isinstance(cell, str) and cell.startswith('["'):
        with contextlib.suppress(MinclipError):  # not JSON, but a caption that begins like it
            return parse_json(cell, path)
    return cell if isinstance(cell, list) else [] if cell is None else [cell]


def _csv(source: Source, path: str) -> Table:
    text = source.text(path)
    delimiter = max(",;\t|", key=next((line for line in io.StringIO(text) if line.strip()), "").count)
    flickr30k = delimiter == "|" and basename(path) == "results.csv"  # whose quotes are part of the text
    options = {"skipinitialspace": True, "strict": True, "quoting": csv.QUOTE_NONE if flickr30k else csv.QUOTE_MINIMAL}
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
    header = [name.strip() for name in next(table, (0, []))[1]]

    def rows(columns: list[int]) -> Iterator[tuple[str, list[Any], None]]:
        for number, cells in table:
            # row 19999 of Flickr30k's results.csv lacks a bar: its second cell is "4   A dog runs across the grass ."
            if flickr30k and len(cells) == 2 and (run_together := re.fullmatch(r"(\d+)\s+(.+)", cells[1])):
                cells[1:] = run_together.groups()
            if len(cells) != len(header):
                what = f"expected {len(header)} columns ({', '.join(header)}), found {len(cells)}"
                why = f"is a {delimiter!r} missing, or is one in a caption without quotes?"
                raise MinclipError(f"{path} line {number}: {what}: {why} {delimiter.join(cells)[:80]!r}")
            yield f"line {number}", [cells[i] for i in columns], None

    return header, rows


def _parquet(source: Source, path: str) -> Table:
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
                name = hashlib.sha256(read()).hexdigest()[:16]  # one image in several rows, or several with one name
            yield f"row {number}", [f"{path}: {name}" if read else name, *rest], read

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

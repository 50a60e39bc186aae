"""People's own tables: CSV, TSV or parquet with an image column and a caption column."""

import csv
import functools
import hashlib
import io
import json
import threading
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from types import ModuleType
from typing import Any

from ...config import MinclipError, nearest
from .source import Row, Source

# the names of columns that are known, the likelier first; capitals, spaces and "-" don't matter
IMAGE = (
    "image image_path image_file image_name file_name filename filepath file_path file img photo picture path".split()
)
CAPTION = "caption captions text title comment sentence sentences description raw".split()
ADDRESS = "url image_url link".split()


class MissingColumn(MinclipError):
    """The table is none of images and captions, as far as one can see."""


def read_table(source: Source, path: str, columns: tuple[str, str] = ("", ""), split: str = "") -> Iterator[Row]:
    """The rows of one table, which belong to `split` where it has no column of that name.

    `columns` are the image column and the caption column, looked for by usual names where they are "".  A caption that is
    a list, in parquet or as JSON, is several.  A MissingColumn where there is no such column.
    """
    header, rows = (_parquet if path.lower().endswith(".parquet") else _csv)(source, path)
    image = _column(path, header, "image", columns[0], IMAGE)
    caption = _column(path, header, "caption", columns[1], CAPTION)
    splits = [i for i, name in enumerate(header) if _plain(name) == "split"]
    line = ""
    for line, cells, read in rows([image, caption, *splits[:1]]):
        name, texts, place = cells[0], _texts(cells[1]), f"{path} {line}"
        for column, cell, values in ((image, name, [name or ""]), (caption, cells[1], texts)):
            if not all(isinstance(value, str) for value in values):
                raise MinclipError(f"{place}: the column {header[column]!r} holds no text but {cell!r:.60}")
        if not name or not name.strip():
            raise MinclipError(f"{place}: the column {header[image]!r} is empty")
        if name.startswith(("http://", "https://")):
            raise MinclipError(f"{place}: {name:.60} is a web address; {_SHARDS}")
        yield Row(path, line, name.strip(), texts, str(cells[2] or "").strip() if splits else split, read)
    if not line:
        raise MinclipError(f"{path} is a table without rows: it ends below its columns {', '.join(header)}")


_SHARDS = "img2dataset fetches such images into shards, which --data.name shards reads"


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _column(path: str, header: list[str], what: str, asked: str, known: list[str]) -> int:
    plain = [_plain(name) for name in header]
    for name in [asked] if asked else known:
        if _plain(name) in plain:
            return plain.index(_plain(name))
    has = f"it has {', '.join(header)}" if header else "it is empty"
    if asked:
        raise MissingColumn(f"{path} has no column {asked!r}{nearest(asked, header)}: {has}")
    if what == "image" and set(plain) & set(ADDRESS):
        raise MissingColumn(f"{path} has addresses and no image column ({has}); {_SHARDS}")
    guess = next((f" (is it {name!r}?)" for name in header if nearest(_plain(name), known, 0.6)), "")
    raise MissingColumn(f"{path} has no known {what} column{guess}: {has}; name yours with --data.{what}-column")


def _texts(cell: Any) -> list[Any]:
    if isinstance(cell, str) and cell.startswith('["'):
        try:
            return json.loads(cell)
        except json.JSONDecodeError:
            return [cell]  # a caption may begin like that
    return cell if isinstance(cell, list) else [] if cell is None else [cell]


# header and rows(columns), which gives for each row its line, the cells of these columns, and how to read an image in it
Table = tuple[list[str], Callable[[list[int]], Iterator[tuple[str, list[Any], Callable[[], bytes] | None]]]]


def _csv(source: Source, path: str) -> Table:
    text = source.text(path)
    delimiter = max(",;\t|", key=next((line for line in io.StringIO(text) if line.strip()), "").count)
    lines = _csv_lines(text, path, delimiter)
    header = [name.strip() for name in next(lines, (0, []))[1]]

    def rows(columns: list[int]) -> Iterator[tuple[str, list[Any], None]]:
        for number, cells in lines:
            if len(cells) != len(header):
                raise MinclipError(
                    f"{path} line {number}: expected {len(header)} columns ({', '.join(header)}), found {len(cells)}; "
                    f"a caption with {delimiter!r} needs quotes: {delimiter.join(cells):.80}"
                )
            yield f"line {number}", [cells[i] for i in columns], None

    return header, rows


def _csv_lines(text: str, path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The number of its first line, and the cells of each row that is not empty."""
    # strict, since else a quote that is not closed swallows rows
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise MinclipError(
                f"{path} line {start}: {error}: is a quote not closed, or one inside of quotes not doubled?"
            ) from None
        if any(cell.strip() for cell in cells):
            yield start, cells


# ---- parquet


def _parquet(source: Source, path: str) -> Table:
    pyarrow = _pyarrow()
    whole = io.BytesIO(source.read(path)) if source.root.is_file() else source.root / path
    try:
        file = pyarrow.parquet.ParquetFile(whole)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise MinclipError(f"{path} is no whole parquet file: {error}") from None
    header = file.schema_arrow.names

    def rows(columns: list[int]) -> Iterator[tuple[str, list[Any], Callable[[], bytes] | None]]:
        images, *others = (header[i] for i in columns)
        names, leaf = _images(file, images)
        counts = Counter(names)
        cells = file.read(others)
        for i, (name, *rest) in enumerate(zip(names, *(cells[other].to_pylist() for other in others))):
            read = functools.partial(_encoded, file, leaf, i) if leaf else None
            if read and (not name or counts[name] > 1):
                name = hashlib.sha256(read()).hexdigest()[:16]  # the same image in several rows, or only its name
            yield f"row {i + 1}", [f"{path}: {name}" if read else name, *rest], read

    return header, rows


def _images(file: Any, column: str) -> tuple[list[Any], str]:
    """For each row what its image is called, if anything, and the part of the column that holds encoded images, or ""."""
    kind, types = file.schema_arrow.field(column).type, _pyarrow().types
    if types.is_binary(kind) or types.is_large_binary(kind):
        return [None] * file.metadata.num_rows, column
    fields = [field.name for field in kind] if types.is_struct(kind) else []
    if "bytes" not in fields:
        return file.read([column])[column].to_pylist(), ""
    # Hugging Face's struct of bytes and path, one of which may be null
    paths = file.read([f"{column}.path"])[column].to_pylist() if "path" in fields else [None] * file.metadata.num_rows
    paths = [cell and cell["path"] for cell in paths]
    leaf = f"{column}.bytes"
    beside = paths and paths[0] and not _row_group(file, leaf, 0)[0].as_py()["bytes"]
    return paths, "" if beside else leaf


_LOCK = threading.Lock()  # a ParquetFile serves one thread at a time


def _encoded(file: Any, leaf: str, row: int) -> bytes:
    """The image in one row; quick where rows are asked for in their order."""
    ends = list(accumulate(file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)))
    number = bisect(ends, row)
    with _LOCK:
        cell = _row_group(file, leaf, number)[row - ends[number]].as_py()  # from the group's end
    return (cell["bytes"] if isinstance(cell, dict) else cell) or b""


@functools.lru_cache(maxsize=2)  # a few hundred images each, as a rule
def _row_group(file: Any, leaf: str, number: int) -> Any:
    return file.read_row_group(number, [leaf]).column(0)


def _pyarrow() -> ModuleType:
    """The library, imported here since most runs need none."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise MinclipError(
            "parquet is read with pyarrow, which is not installed: pip install pyarrow, or write a CSV"
        ) from None
    return pyarrow

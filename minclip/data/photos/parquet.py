"""Parquet as a table of captions; the images are files or bytes, as Hugging Face and img2dataset write them."""

import functools
import hashlib
import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ...weights.files import errors_naming
from ...weights.towers import library
from .source import Source

# the header, and rows(columns), which yields for each row its place, the cells of these columns, and an image reader
Table = tuple[list[str], Callable[[list[int]], Iterator[tuple[str, list[Any], Callable[[], bytes] | None]]]]


def read_parquet(source: Source, path: str, _: Any) -> Table:
    parquet, bad = library("pyarrow.parquet", path, "pyarrow, or write a CSV"), "is not a valid parquet file"
    with errors_naming(path, bad):
        file = parquet.ParquetFile(io.BytesIO(source.read(path)) if source.archive else source.root / path)
        header, groups = file.schema_arrow.names, range(file.num_row_groups)

    def rows(columns: list[int]) -> Iterator[tuple[str, list[Any], Callable[[], bytes] | None]]:
        image, *others = (header[i] for i in columns)
        with errors_naming(path, bad):
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

"""Where captions are found: Flickr's files as Kaggle delivers them, or people's own tables and texts."""

import csv
import io
import re
from collections.abc import Collection, Iterator

from ...config import MinclipError
from .karpathy import KARPATHY, read_karpathy
from .source import TABLES, Row, Source, file_name
from .splits import split_in
from .tables import MissingColumn, read_table


def read_flickr(source: Source, names: Collection[str]) -> list[Row]:
    """From `captions.txt` (adityajn105), `results.csv` (hsankesara), or Karpathy's JSON, wherever they lie below the root."""
    for layout, rows in {"captions.txt": rows_of_captions_txt, "results.csv": rows_of_results_csv}.items():
        if found := [p for p in source.files if file_name(p) == layout]:
            return list(rows(source.text(found[0]), found[0]))
    if rows := read_karpathy(source, names):
        return rows
    raise MinclipError(
        f"{source.root} is no known layout of Flickr: looked for captions.txt or results.csv or {KARPATHY}, found "
        f"{source.glance()}; other pictures with captions are read with --data.name own"
    )


def rows_of_captions_txt(text: str, path: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise MinclipError(f"{path} line {start}: {error}; is a quote not closed?") from None
        if row is None:
            return
        if (start == 1 and row == ["image", "caption"]) or not row:
            continue
        if reader.line_num > start:
            raise MinclipError(f"{path} line {start}: a quote is not closed: {','.join(row):.80}")
        if len(row) != 2:
            raise MinclipError(
                f"{path} line {reader.line_num}: expected 2 columns (image,caption), found {len(row)}; a caption with a comma needs quotes: {','.join(row):.80}"
            )
        yield Row(path, f"line {start}", row[0].strip(), [row[1]])


def rows_of_results_csv(text: str, path: str) -> Iterator[Row]:
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        columns = [column.strip() for column in line.split("|")]
        if columns[0] == "image_name" or not line.strip():
            continue
        # Flickr30k's row 19999 lacks a bar: its second column reads "4   A dog runs across the grass ."
        run_together = re.fullmatch(r"(\d+)\s+(.+)", columns[1]) if len(columns) == 2 else None
        if run_together:
            columns = [columns[0], *run_together.groups()]
        if len(columns) != 3:
            raise MinclipError(
                f"{path} line {number}: expected 3 columns (image_name|comment_number|comment), found {len(columns)}: {line:.80}"
            )
        yield Row(path, f"line {number}", columns[0], [columns[2]])


# ---- people's own


def read_own(source: Source, names: Collection[str], columns: tuple[str, str] = ("", "")) -> list[Row]:
    """From all tables with an image and a caption column, else from a text beside each image, else from Karpathy's JSON.

    Tables named train, val and test tell the split by that.
    """
    rows, refused = [], None
    paths = [p for p in source.files if p.lower().endswith(TABLES) or file_name(p) == "captions.txt"]
    splits = {path: split_in(file_name(path)) for path in paths}
    for path in paths:
        try:
            split = splits[path] if "train" in splits.values() else ""
            rows += read_table(source, path, columns, split)
        except MissingColumn as error:  # a table of something else
            refused = refused or error
    if not rows and not (refused and any(columns)):
        rows = read_texts(source) or read_karpathy(source, names)
    if not rows:
        raise refused or MinclipError(
            f"{source.root} has no captions: looked for a .csv, .tsv or .parquet with an image and a caption column, a "
            f".txt beside each image, or {KARPATHY}, found {source.glance()}"
        )
    return rows


def read_texts(source: Source) -> list[Row]:
    """Each image with the `.txt` of its name in its folder, each line of which is a caption."""
    texts = {p[: -len(".txt")]: p for p in source.files if p.lower().endswith(".txt")}
    rows = []
    for image in source.images:
        if path := texts.get(image.rpartition(".")[0]):
            rows.append(Row(path, "line 1", file_name(image), source.text(path).splitlines()))
    return rows

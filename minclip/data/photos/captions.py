"""Finds and reads captions: Flickr's files, Karpathy's JSON, your own tables, JSON and text files."""

import re
from collections.abc import Collection
from fnmatch import fnmatch
from pathlib import Path
from posixpath import basename, splitext

from ...config import MinclipError
from ...weights.hub import data_folder
from .source import JSON, TABLES, Row, Source, plain
from .tables import KNOWN, SPLIT_WORDS, TOKENS, MissingColumn, names_any, read_table

KARPATHY = "dataset_*.json"
FLICKR = ("captions.txt", "captions.csv", "results.csv", "*.token.txt", "*.token")
LARGE = 2**24  # characters of JSON: more are parsed only with captions in it


def split_in(name: str) -> str:
    """The split named by a word of a file's name ("validation-00000.parquet", "Flickr_8k.devImages.txt"), or ""."""
    words = (word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name))
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "")


def read_flickr(source: Source) -> list[Row]:
    """The rows of captions.txt (adityajn105), results.csv (hsankesara), the authors' *.token, or Karpathy's JSON."""
    for layout in FLICKR:
        files = [source.table] if source.table else source.files
        if paths := [path for path in files if fnmatch(basename(path), layout) and "lemma" not in path]:
            return list(read_table(source, paths[0]))
    if rows := read_karpathy(source, source.images):
        return rows
    looked = f"looked for {', '.join(FLICKR)} or {KARPATHY}, found {source.first_files()}"
    own = 'for other photographs set data.name to "own"'
    raise MinclipError(f"{source.root} has no known Flickr layout: {looked}; {own}")


def read_karpathy(source: Source, names: Collection[str]) -> list[Row]:
    """The rows of the `dataset_*.json` that lists most of the images `names`; empty if no file does.

    It may lie below the root, beside it, or in the data folder's `karpathy-splits`.
    """
    places = [(source, path) for path in source.files if fnmatch(basename(path), KARPATHY)]
    around = [*source.root.absolute().parent.glob(KARPATHY), *(data_folder() / "karpathy-splits").rglob(KARPATHY)]
    places += [(Source(Path(), ()), path.as_posix()) for path in around]
    wanted = {plain(basename(name)) for name in names}
    for place, path in sorted(places, key=lambda place: "flickr" not in basename(place[1])):  # COCO's is long: last
        text = place.text(path)
        # don't parse another data set's file, which takes seconds; but report one that was cut off
        if names_any(text, wanted) or not text.rstrip().endswith(("}", "]")):
            rows = list(read_table(place, path))
            if len({plain(basename(row.image)) for row in rows if row.split} & wanted) > len(wanted) / 2:
                return rows
    return []


def read_own(source: Source, columns: tuple[str, str]) -> list[Row]:
    """The rows of all tables; else of token files; else of a .txt for each image; else of JSON; else of Karpathy's.

    If columns are asked for, JSON comes before text files, which have none.  A table as the root is read alone.
    Rows of files named train, val and test get that split, if there is one named train.
    """
    stems = {image: splitext(image)[0] for image in source.images}
    texts = {splitext(path)[0]: path for path in source.files if path.lower().endswith((".txt", ".caption"))}
    texts = {plain(stem): path for stem, path in texts.items()} | texts
    beside = {image: path for image, stem in stems.items() if (path := texts.get(stem, texts.get(plain(stem))))}
    tables = [path for path in source.files if path.lower().endswith(TABLES) or basename(path) == "captions.txt"]
    tokens = [path for path in source.files if path.lower().endswith(TOKENS) and "lemma" not in path]
    names, images = {plain(basename(name)) for pair in stems.items() for name in pair}, {*stems.values()}
    json = (path for path in source.files if path.lower().endswith(JSON) and splitext(path)[0] not in images)
    ours = (path for path in json if (any(columns) or not beside) and _is_ours(source, path, names, columns[1]))
    refused = None
    for paths in [[source.table]] if source.table else (tables, tokens, ours):
        rows, splits = [], {path: split_in(basename(path)) for path in paths}
        for path, split in splits.items():
            try:
                split = split if "train" in splits.values() else ""
                found = [*read_table(source, path, columns=columns, split=split)]
                if paths is not ours or not names.isdisjoint(plain(basename(row.image)) for row in found):
                    rows += found  # JSON may name an image, and no captions: {"title": "a.jpg", "views": "3"}
            except MissingColumn as error:  # perhaps a table of something else
                refused = refused or error
        if rows:
            return rows
    if refused and (any(columns) or source.table):
        raise refused
    rows = [Row(path, path, basename(image), source.text(path).splitlines()) for image, path in beside.items()]
    if rows := rows or read_karpathy(source, source.images):
        return rows
    looked = (
        f"{', '.join(TABLES)} (save other tables as CSV), {', '.join(JSON)} that names an image, a .txt for each image"
    )
    found = source.first_files()
    raise refused or MinclipError(f"{source.root} has no captions: looked for {looked}, or {KARPATHY}, found {found}")


def _is_ours(source: Source, path: str, names: set[str], asked: str) -> bool:
    """Whether JSON names an image and, if it is large, repeats a word for captions: others take minutes to parse."""
    text = source.text(path, any_encoding=True).replace("\0", "")  # UTF-16, which is then refused if it names an image
    karpathy = fnmatch(basename(path), KARPATHY) and '"sentences"' in text  # perhaps only for its split
    captions = asked or len(text) < LARGE or any(text.count(f'"{word}') > 1 for word in KNOWN["caption"])
    return bool(captions) and not karpathy and names_any(text, names)

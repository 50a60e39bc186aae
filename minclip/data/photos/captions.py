"""Reads captions: Flickr's files as Kaggle delivers them, Karpathy's JSON, your own tables and text files."""

import re
from collections.abc import Collection, Iterator
from fnmatch import fnmatch
from pathlib import Path
from posixpath import basename, splitext

from ...config import MinclipError
from ...weights.config_json import parse_json
from ...weights.hub import data_folder
from .source import TABLES, Row, Source, plain
from .tables import MissingColumn, read_table

KARPATHY = "dataset_*.json"
FLICKR = {"captions.txt": ("image", "caption"), "results.csv": ("image_name", "comment")}  # file -> columns
SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "restval"), "train"),  # "restval": COCO's val images that Karpathy trains on
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def split_in(name: str) -> str:
    """The split named by a word of a file's name ("validation-00000.parquet", "Flickr_8k.devImages.txt"), or ""."""
    words = (word.lower() for word in re.findall("[A-Z]?[a-z]+|[A-Z]+", name))
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), "")


def split_of(row: Row) -> str:
    """The split that a row names: train, val or test."""
    if split := SPLIT_WORDS.get(row.split.strip().lower()):
        return split
    raise MinclipError(f"{row.place}: the split must be train, val or test, got {row.split!r}")


def read_flickr(source: Source) -> list[Row]:
    """The rows of captions.txt (adityajn105), results.csv (hsankesara), or Karpathy's JSON, in any folder."""
    for layout, columns in FLICKR.items():
        if path := next((path for path in source.files if basename(path) == layout), ""):
            return list(read_table(source, path, columns=columns))
    if rows := read_karpathy(source, source.images):
        return rows
    looked = f"looked for {' or '.join(FLICKR)} or {KARPATHY}, found {source.first_files()}"
    own = 'for other photographs set data.name to "own"'
    raise MinclipError(f"{source.root} has no known Flickr layout: {looked}; {own}")


def read_karpathy(source: Source, names: Collection[str]) -> list[Row]:
    """The rows of the `dataset_*.json` that lists most of the images `names`; empty if no file does.

    It may lie below the root, beside it, or in the data folder's `karpathy-splits`.
    """
    places = [(source, path) for path in source.files if fnmatch(basename(path), KARPATHY)]
    around = [*source.root.absolute().parent.glob(KARPATHY), *(data_folder() / "karpathy-splits").rglob(KARPATHY)]
    places += [(Source(Path(), ()), path.as_posix()) for path in around]
    wanted = {basename(name) for name in names}
    for place, path in sorted(places, key=lambda place: "flickr" not in basename(place[1])):  # COCO's is long: last
        text = place.text(path)
        # don't parse another data set's file, which takes seconds; but report one that was cut off
        if any(f'"{name}"' in text for name in sorted(wanted)[:20]) or not text.rstrip().endswith(("}", "]")):
            rows = list(rows_of_karpathy(text, path))
            if len({basename(row.image) for row in rows} & wanted) > len(wanted) / 2:
                return rows
    return []


def rows_of_karpathy(text: str, path: str) -> Iterator[Row]:
    images = parse_json(text, path)
    if not (isinstance(images, dict) and isinstance(images.get("images"), list)):
        raise MinclipError(f'{path} is not in Karpathy\'s format: it has no list "images"')
    for number, image in enumerate(images["images"]):
        try:
            name = "/".join([*filter(None, [image.get("filepath")]), image["filename"]])
            captions = [s["raw"].strip() if "raw" in s else " ".join(s["tokens"]) for s in image["sentences"]]
            yield Row(path, f"{path} images[{number}]", name, captions, image["split"].strip())
        except (KeyError, TypeError, AttributeError) as error:
            what = f"{type(error).__name__} {error}; expected filename, split and sentences[].raw"
            raise MinclipError(f"{path} images[{number}] is not in Karpathy's format: {what}") from None


def read_own(source: Source, columns: tuple[str, str]) -> list[Row]:
    """The rows of tables with an image and a caption column, else of a .txt beside each image, else of Karpathy's JSON.

    Rows of tables named train, val and test get that split, if there is one named train.
    """
    rows, refused = [], None
    paths = [p for p in source.files if p.lower().endswith(TABLES) or basename(p) == "captions.txt"]
    splits = {path: split_in(basename(path)) for path in paths}
    for path, split in splits.items():
        try:
            rows += read_table(source, path, columns=columns, split=split if "train" in splits.values() else "")
        except MissingColumn as error:  # perhaps a table of something else
            refused = refused or error
    if not rows and not (refused and any(columns)):
        texts = {splitext(path)[0]: path for path in source.files if path.lower().endswith(".txt")}
        texts = {plain(stem): path for stem, path in texts.items()} | texts
        stems = {image: splitext(image)[0] for image in source.images}
        beside = [(texts.get(stem, texts.get(plain(stem))), basename(image)) for image, stem in stems.items()]
        rows = [Row(path, path, image, source.text(path).splitlines()) for path, image in beside if path]
        rows = rows or read_karpathy(source, source.images)
    looked = f"looked for a .csv, .tsv or .parquet with image and caption columns, a .txt for each image, or {KARPATHY}"
    if not rows:
        raise refused or MinclipError(f"{source.root} has no captions: {looked}, found {source.first_files()}")
    return rows

"""Karpathy's JSON: the captions and the splits that most papers on Flickr8k, Flickr30k and COCO report."""

import json
from collections.abc import Collection, Iterator
from fnmatch import fnmatch
from pathlib import Path

from ...config import MinclipError, data_folder
from .source import Row, Source, file_name

KARPATHY = "dataset_*.json"


def read_karpathy(source: Source, names: Collection[str]) -> list[Row]:
    """The rows of the `dataset_*.json` that lists most of the images `names`; none where no file does.

    It may lie below the root, beside it, or in the data folder's `karpathy-splits`.
    """
    places = [(p, source.text) for p in source.files if fnmatch(file_name(p), KARPATHY)]
    around = [*source.root.absolute().parent.glob(KARPATHY), *(data_folder() / "karpathy-splits").rglob(KARPATHY)]
    places += [(p.as_posix(), _text) for p in around]
    wanted = {file_name(name) for name in names}
    # COCO's is long, and last
    for path, text_of in sorted(places, key=lambda place: "flickr" not in file_name(place[0])):
        text = text_of(path)
        # to parse another data set's would take seconds
        if any(f'"{name}"' in text for name in sorted(wanted)[:20]) or not text.rstrip().endswith(("}", "]")):
            rows = list(rows_of_karpathy(text, path))
            if len({file_name(row.image) for row in rows} & wanted) > len(wanted) / 2:
                return rows
    return []


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def rows_of_karpathy(text: str, path: str) -> Iterator[Row]:
    try:
        images = json.loads(text)["images"]
    except json.JSONDecodeError as error:
        raise MinclipError(f"{path} line {error.lineno} column {error.colno}: broken JSON ({error.msg})") from None
    except (KeyError, TypeError):
        raise MinclipError(f'{path} is not as Karpathy wrote it: it has no list "images"') from None
    for number, image in enumerate(images):
        try:
            name = f"{image['filepath']}/{image['filename']}" if image.get("filepath") else image["filename"]
            captions = [str(s["raw"]) if "raw" in s else " ".join(s["tokens"]) for s in image["sentences"]]
            yield Row(path, f"images[{number}]", str(name), captions, str(image["split"]))
        except (KeyError, TypeError, AttributeError) as error:
            raise MinclipError(
                f"{path} images[{number}] is not as Karpathy wrote it, with filename, split and sentences[].raw: "
                f"{type(error).__name__} {error}"
            ) from None

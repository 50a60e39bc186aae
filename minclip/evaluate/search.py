"""Search in a folder of photographs by text or by photograph: embedded once, then one matrix product a query."""

import hashlib
import os
import re
import sqlite3
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from ..config import MinclipError
from ..data.photos.images import BROKEN, IMAGES, open_image, read_image
from ..data.photos.source import Source
from ..data.stream import prefetch
from ..model import CLIP
from ..tokenizer import Tokenizer
from ..weights.hub import data_folder
from . import Loaded, decoded, embed_texts

_VERSION = 1  # of the index's table and of how an image is read; raise it and indexes are rebuilt
_TABLE = "CREATE TABLE images (path BLOB PRIMARY KEY, stamp TEXT, vector BLOB, why TEXT)"
# what SQLite's columns don't enforce; "vector" is NULL for a file that is no whole image, and "why" says what is wrong
_DAMAGED = """typeof(path) != 'blob' OR typeof(stamp) != 'text' OR typeof(why) != 'text'
    OR NOT (typeof(vector) = 'blob' AND length(vector) = ? OR vector IS NULL AND why != '')"""


class Hit(NamedTuple):
    path: str  # below the index's root
    cosine: float


@dataclass
class Index:
    """The vectors of the photographs in a folder or a zip, and what it takes to search them."""

    source: Source
    paths: list[str]  # below the root, in the order of `vectors`
    vectors: Tensor  # (N, D) float32 of length 1, on the CPU
    model: CLIP
    preprocess: Callable[[Any], Tensor]
    tokenizer: Tokenizer | None = None
    broken: list[str] = field(default_factory=list)  # "path (why)" of the files that are no whole image
    notes: list[str] = field(default_factory=list)  # what happened to the index file

    @classmethod
    def of(cls, images: str | Path, loaded: Loaded, *, batch_size: int = 128) -> "Index":
        """Opens the index of a folder (with its subfolders) or zip; embeds what is new or changed (size, time) in it.

        `loaded` is what `load` returns: model, preprocess, tokenizer (None: search by image only).  The index is a file
        in `.minclip/` beside the photographs, one for each model, or in the data folder's cache where that can't be
        written.  It is saved after each batch: after an interrupt, the next call continues there.
        """
        root, notes, (model, preprocess, tokenizer) = Path(images), [], loaded
        if not root.exists():
            raise MinclipError(f"{root} is not there: give a folder or a zip of photographs")
        if root.is_file() and not zipfile.is_zipfile(root):
            raise MinclipError(f"{root} is neither a folder nor a whole zip file")
        source = Source.open(root)
        stamps = {path: " ".join(map(str, source.stamp(path))) for path in source.images}
        if not stamps:
            raise MinclipError(f"{root} has no photographs: looked for {', '.join(IMAGES)}, in subfolders too")
        file = _open(root, _key(model, preprocess), 4 * model.config.embed_dim, notes)
        try:
            known = {os.fsdecode(path): stamp for path, stamp in file.execute("SELECT path, stamp FROM images")}
            with file:
                gone = [(os.fsencode(path),) for path in known.keys() - stamps.keys()]
                file.executemany("DELETE FROM images WHERE path = ?", gone)
            new = {path: stamp for path, stamp in stamps.items() if known.get(path) != stamp}
            _embed(file, source, new, loaded, batch_size)
            found = file.execute("SELECT path, vector, why FROM images ORDER BY path")
            rows = [(os.fsdecode(path), vector, why) for path, vector, why in found]
        except sqlite3.Error as error:
            raise MinclipError(f"the index of {root} can't be written: {error}") from None
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted: finished batches are kept; run the same again to continue") from None
        finally:
            file.close()
        broken = [f"{path} ({why})" for path, vector, why in rows if vector is None]
        paths = [path for path, vector, _ in rows if vector is not None]
        if not paths:
            raise MinclipError(f"none of the {len(stamps)} images in {root} can be read: {'; '.join(broken[:5])}")
        joined = bytearray().join(vector for _, vector, _ in rows if vector is not None)
        vectors = torch.frombuffer(joined, dtype=torch.float32).view(len(paths), -1)
        return cls(source, paths, vectors, model, preprocess, tokenizer, broken, notes)

    def search(self, query: str | Path | Image.Image | Tensor, k: int = 12) -> list[Hit]:
        """The k nearest photographs, best first: to a text, a photograph (a path or an image) or a vector (D,)."""
        if not isinstance(query, Tensor):
            query = self.embed_text(query) if isinstance(query, str) else self.embed_image(query)
        cosines, rows = self.nearest(query[None], k)
        return [Hit(self.paths[row], cosine) for row, cosine in zip(rows[0].tolist(), cosines[0].tolist())]

    def nearest(self, vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Cosines (Q, k) and rows (Q, k) of the k nearest to each of `vectors` (Q, D), best first; all are compared."""
        if k < 1:
            raise MinclipError(f"k must be at least 1, got {k}")
        return tuple((vectors.float().cpu() @ self.vectors.T).topk(min(k, len(self.paths))))

    def embed_text(self, text: str) -> Tensor:
        """(D,) vector of length 1."""
        if not text.strip():
            raise MinclipError('the query is empty: say what the picture should show, as in "two dogs in the snow"')
        if self.tokenizer is None:
            raise MinclipError("this model has no tokenizer, so it can't read a query: search with an image instead")
        return embed_texts(self.model, self.tokenizer, [text])[0]

    @torch.no_grad()
    def embed_image(self, image: str | Path | Image.Image) -> Tensor:
        """(D,) vector of length 1 of an image or of the file at a path; the same as in the index, if it is there."""
        if not isinstance(image, Image.Image):
            image = open_image(image, self.model.config.vision.image_size)
        return self.model.encode_image(self.preprocess(image)[None].to(self.model.device), normalize=True)[0]

    def picture(self, path: str, *, side: int = 480) -> Image.Image:
        """A photograph of the index, no larger than `side` × `side`; MinclipError where it can't be read any more."""
        try:
            image = read_image(self.source.read(path), side)
        except (*BROKEN, KeyError) as error:
            raise MinclipError(f"{self.source.root / path} was indexed, but can't be read now: {error}") from None
        image.thumbnail((side, side))
        return image


def _key(model: CLIP, preprocess: object) -> str:
    """A hash of all that an image's vector depends on, the same in every process."""
    about = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(preprocess))  # a plain function shows its address in memory
    key = hashlib.sha256(f"{_VERSION} {model.config} {about}".encode())
    for name, tensor in model.state_dict().items():
        key.update(name.encode())
        key.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())  # in place, without a copy
    return key.hexdigest()[:16]


def _open(root: Path, key: str, length: int, notes: list[str]) -> sqlite3.Connection:
    """The index file beside the photographs, or in the cache; `notes` gets the reason where the first can't be used."""
    folder, name = (root, "") if root.is_dir() else (root.parent, f"-{root.name}")
    place = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    beside = folder / ".minclip" / f"index-{key}{name}.sqlite"
    for path in (beside, data_folder() / "cache" / f"index-{key}-{place}.sqlite"):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return _table(path, length, notes)
        except (OSError, sqlite3.OperationalError) as error:
            notes.append(f"{path} can't be written ({error})")
    raise MinclipError(f"there is no place for the index: {'; '.join(notes)}; name another with MINCLIP_DATA")


def _table(path: Path, length: int, notes: list[str]) -> sqlite3.Connection:
    """Opens or makes the file, which SQLite keeps whole through kill -9 and two searches at once.

    A damaged file is rebuilt; damaged entries, such as vectors not of `length` bytes, are embedded again.
    """
    file = sqlite3.connect(path)
    try:
        file.execute("BEGIN IMMEDIATE")  # fails where nothing can be written
        (state,) = file.execute("PRAGMA quick_check(1)").fetchone()
        found = file.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
        if not found:
            file.execute(_TABLE)
        if state == "ok" and found in ([], [(_TABLE,)]):
            damaged = file.execute(f"DELETE FROM images WHERE {_DAMAGED}", (length,)).rowcount
            file.commit()
            if damaged:
                notes.append(f"{path} had {damaged} damaged entries: their images are embedded again")
            return file
    except sqlite3.OperationalError:
        file.close()
        raise
    except sqlite3.DatabaseError as error:
        state = str(error)
    file.close()
    path.unlink()
    notes.append(f"{path} is damaged and is rebuilt: {state if state != 'ok' else 'its tables were changed'}")
    return _table(path, length, notes)


@torch.no_grad()
def _embed(file: sqlite3.Connection, source: Source, stamps: dict[str, str], loaded: Loaded, batch_size: int) -> None:
    """Writes the vectors of the paths in `stamps` into the file, batch by batch, while threads decode the next one."""
    model, preprocess, _ = loaded
    read, size = source.read, model.config.vision.image_size

    def decode(path: str) -> tuple[str, Tensor | str]:
        try:
            return path, preprocess(read_image(read(path), size))
        except (*BROKEN, MinclipError) as error:
            return path, str(error) or type(error).__name__

    for batch in prefetch(decoded(list(stamps), decode, batch_size=batch_size, bar="embedding"), count=1):
        images = [x for _, x in batch if isinstance(x, Tensor)]
        x = torch.stack(images).to(model.device) if images else None
        vectors = iter(() if x is None else model.encode_image(x, normalize=True).cpu().numpy())
        results = [(path, None, x) if isinstance(x, str) else (path, next(vectors).tobytes(), "") for path, x in batch]
        rows = [(os.fsencode(path), stamps[path], vector, why) for path, vector, why in results]
        with file:  # one transaction: all of the batch or nothing
            file.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", rows)

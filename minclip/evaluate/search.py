"""Search in a folder of photographs by text or by photograph: embedded once, then one matrix product per query."""

import hashlib
import os
import re
import sqlite3
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ..config import MinclipError, need
from ..data.photos.images import BROKEN, endings, open_image, read_image
from ..data.photos.source import Source, counted
from ..data.stream import prefetch
from ..model import CLIP
from ..weights.hub import data_folder
from . import Loaded, decoded, embed_texts

_VERSION = 2  # of the index's table and of image reading: raising it rebuilds all indexes
# for an unreadable image "vector" is NULL, and "why" is the reason
_TABLE = "images (path BLOB PRIMARY KEY, stamp TEXT, vector BLOB, why TEXT)"

Hit = namedtuple("Hit", "path cosine")  # the path is relative to the index's root


@dataclass
class Index:
    """The vectors of the photographs in a folder or a zip, and everything needed to search them."""

    source: Source
    paths: list[str]  # relative to the root, in the order of `vectors`
    vectors: Tensor  # (N, D) float32 of length 1, on the CPU
    loaded: Loaded  # model, preprocess, tokenizer
    broken: list[str]  # "path (why)" of the files that can't be read
    notes: list[str]  # what happened to the index file, and what is below the root but can't be read

    @classmethod
    def of(cls, images: str | Path, loaded: Loaded, *, batch_size: int = 128) -> "Index":
        """Opens the index of a folder (with its subfolders) or zip; embeds its new and changed files (by size, time).

        `loaded` is what `load` returns: model, preprocess, tokenizer (None: search by image only).  The index is a file
        in `.minclip/` beside the photographs, one per model, or in the data folder's cache if that can't be written.
        It is saved after each batch, where the next call resumes.  MinclipError if nothing can be read, or written.
        """
        need(
            isinstance(loaded, tuple | list), f"loaded must be what minclip.load returns, got a {type(loaded).__name__}"
        )
        source = Source.open(root := Path(images), "")
        notes = counted(source.unread)
        stamps = {os.fsencode(path): " ".join(map(str, source.stamp(path))) for path in source.images}
        none = f"{root} has no photographs: looked for {', '.join(endings())}, in subfolders too"
        need(stamps, "; ".join([none, *notes]))
        file = _open(root, loaded, notes)
        try:
            known = dict(file.execute("SELECT path, stamp FROM images"))
            with file:
                file.executemany("DELETE FROM images WHERE path = ?", zip(known.keys() - stamps.keys()))
            new = {path: stamp for path, stamp in stamps.items() if known.get(path) != stamp}
            _embed(file, source, new, loaded, batch_size)
            rows = file.execute("SELECT path, vector, why FROM images ORDER BY path").fetchall()
        except sqlite3.Error as error:
            raise MinclipError(f"the index of {root} can't be written: {error}") from None
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted: finished batches are kept; run it again to continue") from None
        finally:
            file.close()
        broken = [f"{os.fsdecode(path)} ({why})" for path, vector, why in rows if vector is None]
        vectors = {os.fsdecode(path): vector for path, vector, _ in rows if vector is not None}
        need(vectors, f"none of the {len(stamps)} images in {root} can be read: {'; '.join(broken[:5])}")
        joined = torch.frombuffer(bytearray().join(vectors.values()), dtype=torch.float32)
        return cls(source, list(vectors), joined.view(len(vectors), -1), loaded, broken, notes)

    def search(self, query: str | Path | Image.Image | Tensor, k: int = 12) -> list[Hit]:
        """The k photographs nearest to a text, a photograph (a path or an image) or a unit vector (D,), best first."""
        need(k >= 1, f"k must be at least 1, got {k}")
        if not isinstance(query, Tensor):
            query = self.embed_text(query) if isinstance(query, str) else self.embed_image(query)
        got, wanted = tuple(query.shape), tuple(self.vectors.shape[1:])
        need(got == wanted, f"a query must be a vector of shape {wanted}, got {got}")
        cosines, rows = (self.vectors @ query.float().cpu()).topk(min(k, len(self.paths)))
        return [Hit(self.paths[row], cosine) for row, cosine in zip(rows.tolist(), cosines.tolist())]

    def embed_text(self, text: str) -> Tensor:
        """Unit vector (D,); MinclipError if the text is empty or the model has no tokenizer."""
        model, _, tokenizer = self.loaded
        need(text.strip(), 'the query is empty: describe the photograph, as in "two dogs in the snow"')
        need(tokenizer, "this model has no tokenizer, so it can't read a query: search with an image instead")
        return embed_texts(model, tokenizer, [text])[0]

    @torch.no_grad()
    def embed_image(self, image: str | Path | Image.Image) -> Tensor:
        """Unit vector (D,) of an image or of the file at a path; equal to the one in the index, if it is there."""
        model, preprocess, _ = self.loaded
        if not isinstance(image, Image.Image):
            image = open_image(image, model.config.vision.image_size)
        return model.encode_image(preprocess(image)[None].to(model.device), normalize=True)[0]

    def picture(self, path: str, *, side: int = 480) -> Image.Image:
        """A photograph of the index, at most `side` × `side` pixels; MinclipError if it can't be read any more."""
        try:
            image = read_image(self.source.read(path), side)
        except (*BROKEN, KeyError) as error:
            raise MinclipError(f"{self.source.root / path} was indexed, but can't be read now: {error}") from None
        image.thumbnail((side, side))
        return image


def _key(model: CLIP, preprocess: object) -> str:
    """A hash of everything that an image's vector depends on, the same in every process."""
    about = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(preprocess))  # the repr of a plain function has its memory address
    key = hashlib.sha256(f"{_VERSION} {model.config} {about} {[*model.state_dict()]}".encode())
    for tensor in model.state_dict().values():
        key.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())  # in place, without a copy
    return key.hexdigest()[:16]


def _open(root: Path, loaded: Loaded, notes: list[str]) -> sqlite3.Connection:
    """The index file beside the photographs, or in the cache; adds to `notes` why one isn't used or was rebuilt."""
    key, place = _key(*loaded[:2]), hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    folder, name = (root, "") if root.is_dir() else (root.parent, f"-{root.name}")
    beside = folder / ".minclip" / f"index-{key}{name}.sqlite"
    for path in (beside, data_folder() / "cache" / f"index-{key}-{place}.sqlite"):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return _table(path)
        except (OSError, sqlite3.OperationalError) as error:
            notes.append(f"{path} can't be written ({error})")
        except sqlite3.DatabaseError as error:
            notes.append(f"{path} is damaged and is rebuilt: {error}")
            path.unlink()
            return _open(root, loaded, notes)
    raise MinclipError(f"the index can't be stored: {'; '.join(notes)}; set MINCLIP_DATA to another folder")


def _table(path: Path) -> sqlite3.Connection:
    """Opens or creates the index; SQLite protects it from kill -9 and simultaneous searches.  Raises sqlite3.Error."""
    file = sqlite3.connect(path)
    try:
        file.execute(f"CREATE TABLE IF NOT EXISTS {_TABLE}")
        (state,) = file.execute("PRAGMA quick_check(1)").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        file.execute("DELETE FROM images WHERE FALSE")  # fails on a read-only disk, unlike those above
        file.commit()
    except sqlite3.Error:
        file.close()  # Windows deletes no open file
        raise
    return file


@torch.no_grad()
def _embed(file: sqlite3.Connection, source: Source, stamps: dict[bytes, str], loaded: Loaded, batch_size: int) -> None:
    """Writes the vectors of the paths in `stamps` to the index, batch by batch; threads decode the next batch."""
    model, preprocess, _ = loaded

    def decode(path: bytes) -> tuple[bytes, Tensor | None, str]:
        try:
            image = read_image(source.read(os.fsdecode(path)), model.config.vision.image_size)
            return path, preprocess(image), ""
        except (*BROKEN, MinclipError) as error:
            return path, None, str(error) or type(error).__name__

    for batch in prefetch(decoded(list(stamps), decode, batch_size=batch_size, bar="embedding"), count=1):
        images = [x for _, x, _ in batch if x is not None]
        vectors = model.encode_image(torch.stack(images).to(model.device), normalize=True) if images else torch.empty(0)
        each = iter(vectors.cpu().numpy())
        rows = [(path, stamps[path], None if why else next(each).tobytes(), why) for path, _, why in batch]
        with file:  # one transaction: all of the batch or nothing
            file.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", rows)

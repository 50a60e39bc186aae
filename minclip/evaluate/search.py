"""Search in a folder of photographs by a text or by another photograph: embedded once, then one product a query."""

import hashlib
import os
import sqlite3
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from ..config import MinclipError, data_folder
from ..data.photos.images import BROKEN, IMAGES, open_image, read_image
from ..data.photos.source import Source
from ..data.stream import prefetch
from ..model import CLIP
from ..tokenizer import Tokenizer
from ..weights.folder import fingerprint
from . import embed_texts

_VERSION = 1  # of the index's tables and of how an image is read; raise it and indexes are made anew


class Hit(NamedTuple):
    path: str  # below the index's root
    cosine: float


@dataclass
class Index:
    """The vectors of a folder's or a zip's photographs, and what is needed to ask them."""

    source: Source
    paths: list[str]  # below the root, in the order of `vectors`
    vectors: Tensor  # (N, D) float32 of length 1, on the CPU
    model: CLIP
    preprocess: Callable[[Any], Tensor]
    tokenizer: Tokenizer | None = None
    broken: list[str] = field(default_factory=list)  # "path (why)" of the files that are no whole image
    notes: list[str] = field(default_factory=list)  # what happened to the file of the index
    _faiss: Any = None

    @classmethod
    def of(
        cls,
        images: str | Path,
        model: CLIP,
        preprocess: Callable[[Any], Tensor],
        tokenizer: Tokenizer | None = None,
        block: int = 128,
    ) -> "Index":
        """Opens the index of a folder (with its subfolders) or zip, and embeds what is new or changed (size, time) since.

        The index is a file in `.minclip/` beside the photographs, one for each model; in the data folder's cache, where
        they can't be written to.  It is saved after every `block` images: whoever is stopped goes on from there.
        """
        root, notes = Path(images), []
        if not root.exists():
            raise MinclipError(f"{root} is not there: give a folder or a zip of photographs")
        if root.is_file() and not zipfile.is_zipfile(root):
            raise MinclipError(f"{root} is neither a folder nor a whole zip file")
        source = Source.open(root)
        stamps = _stamps(source)
        if not stamps:
            raise MinclipError(f"{root} holds no photographs: looked for {', '.join(IMAGES)}, in subfolders too")
        file = _open(root, _key(model, preprocess), notes)
        try:
            known = {os.fsdecode(path): stamp for path, stamp in file.execute("SELECT path, stamp FROM images")}
            with file:
                gone = [(os.fsencode(path),) for path in known.keys() - stamps.keys()]
                file.executemany("DELETE FROM images WHERE path = ?", gone)
            new = {path: stamp for path, stamp in stamps.items() if known.get(path) != stamp}
            _embed(file, source, new, model, preprocess, block)
            rows = file.execute("SELECT path, vector, why FROM images ORDER BY path").fetchall()
        except sqlite3.Error as error:
            raise MinclipError(f"the index of {root} can't be written: {error}") from None
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "interrupted; what is embedded is kept, and the same again goes on from there"
            ) from None
        finally:
            file.close()
        broken = [f"{os.fsdecode(path)} ({why})" for path, vector, why in rows if vector is None]
        rows = [(os.fsdecode(path), vector) for path, vector, _ in rows if vector is not None]
        if not rows:
            raise MinclipError(f"none of the {len(stamps)} images in {root} can be read: {'; '.join(broken[:5])}")
        vectors = np.frombuffer(bytearray().join(vector for _, vector in rows), np.float32).reshape(len(rows), -1)
        paths = [path for path, _ in rows]
        return cls(source, paths, torch.from_numpy(vectors), model, preprocess, tokenizer, broken, notes)

    def search(self, query: str | Path | Image.Image | Tensor, k: int = 12, exact: bool = True) -> list[Hit]:
        """The k nearest photographs, best first: to a text, to a photograph (a path or an image) or to a vector (D,)."""
        if isinstance(query, Tensor):
            vector = query
        elif isinstance(query, str):
            vector = self.embed_text(query)
        else:
            vector = self.embed_image(query)
        cosines, rows = self.nearest(vector[None], k, exact)
        return [Hit(self.paths[row], cosine) for row, cosine in zip(rows[0].tolist(), cosines[0].tolist()) if row >= 0]

    def nearest(self, vectors: Tensor, k: int, exact: bool = True) -> tuple[Tensor, Tensor]:
        """Cosines (Q, k) and rows (Q, k) of the k nearest to each of `vectors` (Q, D), best first.

        `exact` compares all of them.  Otherwise `faiss` looks into a sixteenth of its lists, for many millions of images.
        """
        if k < 1:
            raise MinclipError(f"a search for {k} images finds none: ask for at least 1")
        vectors, k = vectors.float().cpu(), min(k, len(self.paths))
        if exact:
            return tuple((vectors @ self.vectors.T).topk(k))
        if self._faiss is None:
            self._faiss = _lists(self.vectors.numpy())
        cosines, rows = self._faiss.search(vectors.numpy(), k)
        return torch.from_numpy(cosines), torch.from_numpy(rows)

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

    def picture(self, path: str, side: int = 480) -> Image.Image:
        """A photograph of the index, no larger than `side` × `side`."""
        image = read_image(self.source.read(path), side)
        image.thumbnail((side, side))
        return image


def _stamps(source: Source) -> dict[str, str]:
    """Each photograph's path with what changes when it changes: size and time, in a zip size and checksum."""
    if source.root.is_file():
        with zipfile.ZipFile(source.root) as archive:
            stamps = {info.filename: f"{info.file_size} {info.CRC}" for info in archive.infolist()}
        return {path: stamps[path] for path in source.images}
    stats = {path: (source.root / path).stat() for path in source.images}
    return {path: f"{stat.st_size} {stat.st_mtime_ns}" for path, stat in stats.items()}


def _key(model: CLIP, preprocess: object) -> str:
    """A hash of all that an image's vector depends on."""
    return fingerprint(f"{_VERSION} {model.config} {preprocess}", model.state_dict())[:16]


def _open(root: Path, key: str, notes: list[str]) -> sqlite3.Connection:
    """The index's file beside the photographs, or in the cache; `notes` tells where that was not the first try."""
    folder, name = (root, "") if root.is_dir() else (root.parent, f"-{root.name}")
    place = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    beside = folder / ".minclip" / f"index-{key}{name}.sqlite"
    for path in (beside, data_folder() / "cache" / f"index-{key}-{place}.sqlite"):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return _tables(path, int(key[:7], 16), notes)
        except (OSError, sqlite3.OperationalError) as error:
            notes.append(f"{path} can't be written ({error})")
    raise MinclipError(f"there is no place for the index: {'; '.join(notes)}; name another with MINCLIP_DATA")


def _tables(path: Path, version: int, notes: list[str]) -> sqlite3.Connection:
    """Opens the file or makes it; one that is cut off, damaged or of another model is made anew.

    SQLite, because it survives kill -9 and two searches at once.
    """
    file = sqlite3.connect(path)
    try:
        file.execute("BEGIN IMMEDIATE")  # fails where nothing can be written
        (found,) = file.execute("PRAGMA user_version").fetchone()
        (state,) = file.execute("PRAGMA quick_check(1)").fetchone()
        if state == "ok" and found in (0, version):
            file.execute("CREATE TABLE IF NOT EXISTS images (path BLOB PRIMARY KEY, stamp TEXT, vector BLOB, why TEXT)")
            file.execute(f"PRAGMA user_version = {version}")
            file.commit()
            return file
        reason = "it is another model's" if state == "ok" else state
    except sqlite3.OperationalError:
        file.close()
        raise
    except sqlite3.DatabaseError as error:
        reason = str(error)
    file.close()
    path.unlink()
    notes.append(f"{path} can't be used and is made anew: {reason}")
    return _tables(path, version, notes)


@torch.no_grad()
def _embed(
    file: sqlite3.Connection,
    source: Source,
    stamps: dict[str, str],
    model: CLIP,
    preprocess: Callable[[Any], Tensor],
    block: int,
) -> None:
    """Puts the vectors of the paths in `stamps` into the file, `block` at a time; threads decode the next ones meanwhile."""
    paths, read, size = list(stamps), source.read, model.config.vision.image_size

    def one(path: str) -> Tensor | str:
        try:
            return preprocess(read_image(read(path), size))
        except (*BROKEN, MinclipError) as error:
            return str(error) or type(error).__name__

    def decoded(pool: ThreadPoolExecutor) -> Iterator[tuple[list[str], list[Tensor | str]]]:
        for i in range(0, len(paths), block):
            yield paths[i : i + block], list(pool.map(one, paths[i : i + block]))

    bar = tqdm(desc="embedding", total=len(paths), unit=" images", leave=False, disable=not paths)
    with bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        for some, results in prefetch(decoded(pool), count=1):
            images = [x for x in results if isinstance(x, Tensor)]
            vectors = iter(
                model.encode_image(torch.stack(images).to(model.device), normalize=True).cpu().numpy() if images else ()
            )
            rows = [
                (os.fsencode(path), stamps[path], *((None, x) if isinstance(x, str) else (next(vectors).tobytes(), "")))
                for path, x in zip(some, results)
            ]
            with file:  # one transaction: all of the block or nothing
                file.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", rows)
            bar.update(len(some))


def _lists(vectors: np.ndarray) -> Any:
    """faiss' inverted lists: vectors sorted to the nearest of about √N means, of which a query looks into the nearest."""
    try:
        import faiss
    except ImportError:
        raise MinclipError("exact=False needs faiss: pip install faiss-cpu") from None
    count = max(1, min(round(len(vectors) ** 0.5), len(vectors) // 39))  # faiss wants 39 vectors a mean, at least
    lists = faiss.index_factory(vectors.shape[1], f"IVF{count},Flat", faiss.METRIC_INNER_PRODUCT)
    lists.train(vectors)
    lists.add(vectors)
    lists.nprobe = max(8, count // 16)
    return lists

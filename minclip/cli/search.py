"""minclip search: the hits as a table, as a contact sheet, and as a page to open in a browser."""

import base64
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from jinja2 import Environment
from PIL import Image
from rich.markup import escape
from rich.table import Table

from ..config import MinclipError
from ..data.photos.source import open_image
from ..evaluate.search import Index
from ..training.engine import pick_device
from ..weights.folder import atomic_write
from ..weights.load import load
from .printing import Json, console


@dataclass(frozen=True)
class Search:
    """Find the photographs of a folder that fit a text, or that are like another photograph."""

    run_folder: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN", help="a run's folder or name, demo, or ViT-B/32")
    ]
    images: Annotated[Path, tyro.conf.arg(help="a folder, with its subfolders, or a zip of photographs")]
    query: Annotated[str, tyro.conf.arg(help='what to look for: "two dogs in the snow"')] = ""
    image: Annotated[str, tyro.conf.arg(help="a photograph, to find others like it")] = ""
    top: Annotated[int, tyro.conf.arg(help="how many to find")] = 12
    out: Annotated[Path, tyro.conf.arg(help="where search.png and search.html are written")] = Path(".")
    json: Json = False

    def run(self) -> dict[str, Any]:
        query = self.query.strip()
        if bool(query) == bool(self.image):
            raise MinclipError('search needs one of --query "two dogs in the snow" and --image photo.jpg')
        if self.top < 1:
            raise MinclipError(f"--top {self.top} finds nothing: ask for at least 1")
        model, preprocess, tokenizer = load(self.run_folder, pick_device("auto", "fp32")[0])
        if query and tokenizer is None:
            raise MinclipError(f"{self.run_folder} has no tokenizer.json, so it can't read a query; --image works")
        asked = open_image(self.image, 480) if self.image else None
        if asked:
            asked.thumbnail((480, 480))
        index = Index.of(self.images, (model, preprocess, tokenizer))
        vector = index.embed_text(query) if query else index.embed_image(self.image)
        start = time.perf_counter()
        hits = index.search(vector, self.top)
        milliseconds = 1000 * (time.perf_counter() - start)

        # names that are no UTF-8 can be opened, but not printed
        names = [hit.path.encode(errors="replace").decode() for hit in hits]
        table = Table("", "cosine", "image", box=None)
        for rank, (name, hit) in enumerate(zip(names, hits), 1):
            table.add_row(str(rank), f"{hit.cosine:.3f}", escape(name))
        console.print(table)
        console.print(f"\n{len(index.paths):,} images compared in {milliseconds:.1f} ms")
        left_out = f"{len(index.broken)} files can't be read and were left out: {'; '.join(index.broken[:5])}"
        for note in (*index.notes, *([left_out] if index.broken else [])):
            console.print(escape(note.encode(errors="replace").decode()))
        sheet, page = self.draw(index, [(name, hit.path, hit.cosine) for name, hit in zip(names, hits)], asked)
        console.print(f"saved: [bold]{sheet}[/] and [bold]{page}[/]")
        return {
            "hits": [{"path": name, "cosine": hit.cosine} for name, hit in zip(names, hits)],
            "images": len(index.paths),
            "milliseconds": milliseconds,
            "broken": index.broken,
            "notes": index.notes,
            "files": [str(sheet), str(page)],
        }

    def draw(self, index: Index, hits: list[tuple[str, str, float]], asked: Image.Image | None) -> tuple[Path, Path]:
        """Writes search.png and search.html: "name to print, path, cosine" of each hit, with its picture."""
        from ..course import plots  # matplotlib, only now

        title = f"Like {Path(self.image).name}" if self.image else f"“{self.query.strip()}”"
        title = f"{title}: nearest of {len(index.paths):,} images"
        self.out.mkdir(parents=True, exist_ok=True)
        sheet, page = self.out / "search.png", self.out / "search.html"
        names, paths, cosines = zip(*hits)
        pictures = [index.picture(path) for path in paths]
        plots.save(plots.contact_sheet(pictures[:48], names, cosines, title), sheet)  # the page shows all
        template = Path(__file__).with_name("search_page.html").read_text(encoding="utf-8")
        entries = [
            {"path": name, "cosine": cosine, "picture": data_uri(picture)}
            for name, cosine, picture in zip(names, cosines, pictures)
        ]
        html = (
            Environment(autoescape=True)
            .from_string(template)
            .render(title=title, asked=asked and data_uri(asked), hits=entries)
        )
        atomic_write(page, html.encode())
        return sheet, page


def data_uri(picture: Image.Image) -> str:
    """The picture itself as an address, so that a page needs no other file."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

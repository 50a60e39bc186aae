"""minclip search: the hits as a table, as a contact sheet, and as a page for the browser."""

import base64
import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment
from PIL import Image

from ..config import MinclipError
from ..course.plots import contact_sheet
from ..data.photos.images import open_image
from ..evaluate.search import Index
from ..weights.folder import atomic_write
from . import shown
from .shared import RunArgument, console, open_model, print_table, save_picture


@dataclass(frozen=True)
class Search:
    """Find photographs that match a text, or that look like another photograph."""

    run_folder: RunArgument
    images: Path  # a folder with its subfolders, or a zip of photographs
    query: str = ""  # what to look for: "two dogs in the snow"
    image: str = ""  # a photograph, to find others like it
    top: int = 12  # how many to find
    out: str = "."  # the folder for search.png and search.html

    def run(self) -> dict[str, Any]:
        query = self.query.strip()
        if bool(query) == bool(self.image):
            raise MinclipError('search needs either --query "two dogs in the snow" or --image photo.jpg')
        if self.top < 1:
            raise MinclipError(f"--top must be at least 1, got {self.top}")
        loaded = open_model(self.run_folder, reads_text=bool(query))
        asked = data_uri(open_image(self.image, 480)) if self.image else None
        index = Index.of(self.images, loaded)
        vector = index.embed_text(query) if query else index.embed_image(self.image)
        start = time.perf_counter()
        hits = index.search(vector, self.top)
        milliseconds = 1000 * (time.perf_counter() - start)

        names, cosines = [shown(hit.path) for hit in hits], [hit.cosine for hit in hits]
        rows = [(str(i), f"{cosine:.3f}", name) for i, (name, cosine) in enumerate(zip(names, cosines), 1)]
        print_table(("", "cosine", "image"), rows)
        console.print(f"\n{len(index.paths):,} images compared in {milliseconds:.1f} ms")
        left_out = f"{len(index.broken)} files can't be read and were left out: {'; '.join(index.broken[:5])}"
        console.print(*index.notes, *[left_out][: len(index.broken)], sep="\n")

        title = shown(f"Like {Path(self.image).name}" if self.image else f"“{query}”")
        title += f": nearest of {len(index.paths):,} images"
        pictures = [index.picture(hit.path) for hit in hits]
        sheet = save_picture(contact_sheet(pictures[:48], names, cosines, title=title), "search.png", self.out)
        found = [{"path": name, "cosine": cosine} for name, cosine in zip(names, cosines)]
        template = Path(__file__).with_name("search_page.html").read_text(encoding="utf-8")
        shown_hits = [{**hit, "picture": data_uri(picture)} for hit, picture in zip(found, pictures)]
        html = Environment(autoescape=True).from_string(template).render(title=title, asked=asked, hits=shown_hits)
        page = Path(self.out, "search.html")
        atomic_write(page, html.encode())
        console.print(f"saved: {page}")
        result = {"hits": found, "images": len(index.paths), "milliseconds": milliseconds}
        return result | {"files": [sheet, str(page)], "broken": index.broken, "notes": index.notes}


def data_uri(picture: Image.Image) -> str:
    """The picture itself as an address, at most 480 pixels wide and high, so that a page needs no other file."""
    buffer = io.BytesIO()
    picture.thumbnail((480, 480))  # in place
    picture.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"

"""Links inside the project lead to files that exist."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[!.]*.[im]*"))
PAGES = [
    *(ROOT / name for name in ("README.md", "BENCHMARKS.md", "data/README.md")),
    *ROOT.glob("docs/*.md"),
    *NOTEBOOKS,
]
LINK = re.compile(r"""\]\(([^)\s]+)\)|(?:href|src)=["']([^"']+)["']""")


def text_of(page):
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    return re.sub(r"(?s)```.*?```|`[^`\n]*`", "", text)  # code that looks like a link is none


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_inside_the_project_leads_somewhere(page):
    links = [a or b for a, b in LINK.findall(text_of(page))]
    inside = [link.split("#")[0] for link in links if not re.match(r"https?:|data:|mailto:|attachment:", link)]
    assert [link for link in inside if link and not (page.parent / link).exists()] == []


def test_links_are_seen():
    assert sum(bool(LINK.search(text_of(page))) for page in PAGES) > 5

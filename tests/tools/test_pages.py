"""The static site: complete, readable, without requests elsewhere; glossary, map and the README's pictures."""

import functools
import http.server
import importlib.util
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
GLOSSARY, PAPER = (ROOT / "notebooks" / name for name in ("GLOSSARY.md", "PAPER.md"))
LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- the glossary and the map


def test_the_glossary_is_sorted_and_says_each_word_once():
    words = re.findall(r"^- \*\*(.+?)\*\*:", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(words) > 50 and words == sorted(set(words), key=str.casefold)


def test_each_word_of_the_glossary_leads_to_the_place_that_builds_it():
    entries = [line for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line.startswith("- ")]
    assert all(LINK.search(entry) and 1 <= len(re.findall(r"\.(?:\s|$)", entry)) <= 5 for entry in entries)


@pytest.mark.parametrize(
    "page",
    [
        GLOSSARY,
        PAPER,
        *(ROOT / name for name in ("README.md", "data/README.md", "BENCHMARKS.md")),
        *ROOT.glob("docs/*.md"),
    ],
    ids=lambda p: p.name,
)
def test_each_link_of_a_page_leads_to_a_file(page):
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if not link.startswith("#")]
    assert [link for link in links if not (page.parent / urldefrag(link).url).exists()] == []


def test_the_map_names_sections_that_its_notebooks_have():
    for row in PAPER.read_text(encoding="utf-8").splitlines():
        for name, said in re.findall(r"\]\((\d\d_\w+\.ipynb)\)(?:, sections? ([\d, and to]+))?", row):
            text = (ROOT / "notebooks" / name).read_text(encoding="utf-8")
            for number in re.findall(r"\d+", said):
                assert f"## {number} · " in text, row


SECTIONS = [
    "1", *(f"2.{i}" for i in range(1, 6)), *(f"3.1.{i}" for i in range(1, 6)), "3.2", "3.3", "4", "5", "6",
    *(f"7.{i}" for i in range(1, 4)), "8", "9", *(f"Appendix {x}" for x in ("A", "B", "C", "D")),
    *(f"Appendix E.{i}" for i in range(1, 6)), "Appendix F",
]  # fmt: skip


@pytest.mark.parametrize("section", SECTIONS)
def test_the_map_leads_from_each_section_of_the_paper_to_a_notebook_or_says_why_not(section):
    rows = re.findall(rf"^\| {re.escape(section)}[ ,:].*$", PAPER.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows and all(re.search(r"\d\d_\w+\.ipynb|not in the course: \w+", row) for row in rows), section


def test_the_map_leads_to_every_notebook():
    assert {path.name for path in NOTEBOOKS} <= set(LINK.findall(PAPER.read_text(encoding="utf-8")))


# ---- the README's pictures


def test_the_pictures_of_the_readme_are_drawn_by_the_script(tmp_path):
    tool("pictures").main(["--to", str(tmp_path)])
    shown = re.findall(r"!\[(.*?)\]\((\S+)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert {Path(path).name for _, path in shown} == {path.name for path in tmp_path.iterdir()}
    for said, path in shown:
        assert len(said) > 40 and (ROOT / path).stat().st_size < 150_000


# ---- the site's parts, without building it


def test_each_stored_picture_gets_the_beginning_of_its_description():
    picture = {"cell_type": "code", "metadata": {}, "source": "", "outputs": [{"data": {"image/png": ""}}]}
    text = {
        "cell_type": "markdown",
        "source": ["*What you see:* two stars. One is *red*, 1.5 wide.\n", "And more."],
        "metadata": {},
    }
    cells = [picture, {"cell_type": "code", "metadata": {}, "source": "", "outputs": []}, text]
    tool("pages").described(cells)
    assert picture["metadata"]["mystnb"]["image"]["alt"] == "two stars. One is red, 1.5 wide."


def test_without_npm_one_sentence_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="needs npm"):
        tool("pages").assets(tmp_path)


@pytest.mark.filterwarnings("ignore:.*is deprecated")  # Sphinx, of its extensions
def test_a_link_that_leads_nowhere_is_an_error(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sphinx_book_theme")
    pages = tool("pages")
    for name in ("README.md", "BENCHMARKS.md", "notebooks/GLOSSARY.md", "notebooks/PAPER.md", "data/README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"# {name}\n\n[there](nowhere.md)\n" if "PAPER" in name else f"# {name}\n")
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    monkeypatch.setattr(pages, "assets", lambda static: [static.mkdir(parents=True), (static / "icon.svg").touch()])
    with pytest.raises(SystemExit, match="warnings"):
        pages.build(tmp_path / "site")
    assert "nowhere.md" in capsys.readouterr().err


# ---- the built site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for module in ("sphinx", "myst_nb", "sphinx_book_theme"):
        pytest.importorskip(module)
    if shutil.which("npm") is None:
        pytest.skip("no npm, which fetches the site's scripts")
    to = tmp_path_factory.mktemp("pages") / "site"
    done = subprocess.run([sys.executable, ROOT / "tools" / "pages.py", "--to", to], capture_output=True, text=True)
    if "npm could not fetch" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    return to


class Page(HTMLParser):
    """A page's ids, links, what a browser loads for it, and its pictures' texts."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loaded, self.alts = set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids |= {found.get("id"), found.get("name")}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif tag == "link" and found.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(found["href"])
        elif "src" in found:
            self.loaded.append(found["src"])
        if tag == "img":
            self.alts.append(found.get("alt") or "")


@pytest.fixture(scope="module")
def parsed(site):
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}


def test_every_notebook_and_page_is_there(site):
    names = ["index", "README", "BENCHMARKS", "data/README", "docs/command-line", "docs/weights"]
    names += ["notebooks/GLOSSARY", "notebooks/PAPER"]
    names += [f"notebooks/{path.stem}" for path in NOTEBOOKS]
    assert [name for name in names if not (site / f"{name}.html").exists()] == []


def test_no_link_is_broken_and_no_file_is_missing(parsed):
    for path, page in parsed.items():
        for link in [*page.links, *page.loaded]:
            if urlparse(link).scheme or link == "#":
                continue
            address, fragment = urldefrag(link)
            target = (path.parent / unquote(urlparse(address).path)).resolve() if address else path
            assert target.exists(), f"{path.name}: {link}"
            if fragment and target in parsed:
                assert unquote(fragment) in parsed[target].ids, f"{path.name}: {link}"


def test_nothing_is_loaded_from_elsewhere(site, parsed):
    outside = re.compile(r"^(\w+:)?//")
    assert [link for page in parsed.values() for link in page.loaded if outside.match(link)] == []
    for sheet in site.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", text), sheet.name


def test_every_picture_has_a_text_that_is_not_a_file_name(parsed):
    alts = [alt for page in parsed.values() for alt in page.alts]
    assert len(alts) > 80 and [alt for alt in alts if len(alt) < 15 or "/" in alt.split()[0]] == []


def test_widgets_stand_there_as_they_were_stored(site):
    for path in NOTEBOOKS:
        page = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert "VBox(" not in re.sub(r"<[^>]+>", "", page.split("application/vnd.jupyter.widget-state+json")[0])
        views = path.read_text(encoding="utf-8").count('"application/vnd.jupyter.widget-view+json"')
        assert page.count("application/vnd.jupyter.widget-view+json") >= views > 0


def test_pages_in_a_browser(site):
    """At 100 % and 200 % zoom: no request elsewhere, no error, formulas and widgets drawn, no text cut off."""
    api = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium")
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home, wrong = f"http://127.0.0.1:{server.server_port}/", []
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("request", lambda r: r.url.startswith((home, "data:", "blob:")) or wrong.append(r.url))
        page.on("response", lambda r: r.status < 400 or wrong.append(f"{r.status} {r.url}"))
        page.on("console", lambda m: m.type != "error" or wrong.append(m.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        for name in [
            "README",
            "notebooks/GLOSSARY",
            "notebooks/PAPER",
            *(f"notebooks/{path.stem}" for path in NOTEBOOKS),
        ]:
            page.set_viewport_size({"width": 1280, "height": 900})
            page.goto(f"{home}{name}.html", wait_until="networkidle")
            for kind, made in (
                (".math", "mjx-container"),
                ("script[type$='widget-view+json']", ".widget-image img, img.widget-image"),
            ):
                if page.locator(kind).count():
                    page.wait_for_selector(made, state="attached", timeout=20_000)
            assert page.locator(".math").count() == page.locator("mjx-container").count(), name
            for width in (1280, 640):  # 640: what is left of it at 200 %
                page.set_viewport_size({"width": width, "height": 900})
                assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{name} at {width} pixels"
        browser.close()
    server.shutdown()
    assert wrong == []

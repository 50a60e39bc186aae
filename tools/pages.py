"""Builds the course as a static site that works offline: `python tools/pages.py --to build/site`.

The pages show the notebooks' stored outputs; nothing is executed.  Needs the extra "site", and npm for three scripts.
"""

import argparse
import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Scripts and fonts that the pages load, from npm: package, tested version, files.
ASSETS = [
    ("mathjax", "3.2.2", ["es5/tex-svg.js"]),
    ("requirejs", "2.3.8", ["require.js"]),
    ("@jupyter-widgets/html-manager", "1.0.15", ["dist/embed-amd.js", "dist/*.woff2"]),
]
CONFIG = {
    "project": "minclip",
    "html_title": "minclip",
    "root_doc": "README",
    "extensions": ["myst_nb"],
    "myst_enable_extensions": ["dollarmath"],
    "myst_heading_anchors": 3,
    "nb_execution_mode": "off",
    "nb_merge_streams": True,
    "nb_ipywidgets_js": {"require.js": {}, "embed-amd.js": {}},
    "mathjax_path": "tex-svg.js",
    "html_js_files": [("pages.js", {"defer": "defer"})],
    "html_theme": "sphinx_book_theme",
    "html_theme_options": {"home_page_in_toc": True, "use_download_button": False, "use_fullscreen_button": False},
    "html_context": {"default_mode": "auto"},  # light or dark, as the reader's system is set
    "html_favicon": "_static/icon.svg",
    "html_static_path": ["_static"],
    "html_css_files": ["pages.css"],
    "html_copy_source": False,
    "html_show_sphinx": False,
    "highlight_language": "none",  # for blocks without a language: these are commands, not Python
}
# Files written into _static.  Wide content scrolls in its own box, so that the page never does, even at 200 % zoom.
WRITTEN = {
    "pages.css": """
.bd-article img, .bd-article .jupyter-widgets { max-width: 100%; height: auto; }
.bd-article table { display: block; overflow-x: auto; }
.bd-article code { overflow-wrap: anywhere; }
.bd-article details { margin-bottom: 1rem; }
.bd-header { display: none; }
""",
    # the widgets' script calls the API of MathJax 2
    "pages.js": "if (window.MathJax) MathJax.Hub = { Queue: (call) => MathJax.typesetPromise([call[2]]) };\n",
    "icon.svg": '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 3 3"><path fill="#00224e" d="M0 0h3v3H0z"/>'
    '<path fill="#fde737" d="M0 0h1v1H0zM1 1h1v1H1zM2 2h1v1H2z"/></svg>\n',
}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
DRAWN = re.compile(r"(?<=\]\()data:image/svg\+xml;base64,([\w+/=]+)")
SEEN = re.compile(r"\*What you see[^*]*\*:?\s*(.{30,}?\.)(?:\s|$)", re.DOTALL)


def assets(static: Path) -> None:
    """Downloads the files of `ASSETS` into the folder `static`.  SystemExit if npm is missing or the download fails."""
    if shutil.which("npm") is None:
        raise SystemExit("the site needs npm to download MathJax and the widgets' scripts: install Node.js")
    static.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name, version, patterns in ASSETS:
            wanted = f"{name}@{version}"
            command = [shutil.which("npm"), "pack", wanted, "--silent", "--pack-destination", place]
            packed = subprocess.run(command, capture_output=True, text=True)
            if packed.returncode:
                raise SystemExit(f"npm could not fetch {wanted}: {packed.stderr.strip()[-300:]}")
            with tarfile.open(Path(place, packed.stdout.split()[-1])) as archive:
                for member in archive:
                    if any(fnmatch(member.name, f"package/{pattern}") for pattern in patterns):
                        (static / Path(member.name).name).write_bytes(archive.extractfile(member).read())
    for name, text in WRITTEN.items():
        (static / name).write_text(text)


def with_files(markdown: str, folder: Path) -> str:
    """Moves embedded SVG drawings into files in `folder`; links to Python files lead to pages that show their code."""

    def write(drawing: re.Match) -> str:
        name = f"{hashlib.sha256(drawing[1].encode()).hexdigest()[:12]}.svg"
        (folder / name).write_bytes(base64.b64decode(drawing[1]))
        return name

    return LINK.sub(lambda m: m[1] + ".md" if m[1].endswith(".py") else m[1], DRAWN.sub(write, markdown))


def described(cells: list[dict]) -> None:
    """Sets the alt text of each stored picture: the first sentence of the description below it."""
    text = ""
    for cell in reversed(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            found = SEEN.search(source)
            text = found[1].replace("*", "").replace("`", "") if found else text
        elif any("image/png" in output.get("data", {}) for output in cell["outputs"]):
            cell["metadata"]["mystnb"] = {"image": {"alt": " ".join(text.split())}}


def gather(source: Path) -> list[str]:
    """Copies the pages and the files that they link to into the folder `source`; returns the pages in reading order."""
    notebooks = sorted(path.relative_to(ROOT) for path in ROOT.glob("notebooks/*.ipynb"))
    names = ("notebooks/GLOSSARY.md", "notebooks/PAPER.md", "data/README.md", "BENCHMARKS.md")
    others = [*map(Path, names), *sorted(path.relative_to(ROOT) for path in ROOT.glob("docs/*.md"))]
    linked: set[Path] = set()
    for page in [Path("README.md"), *notebooks, *others]:
        (source / page).parent.mkdir(parents=True, exist_ok=True)
        text = (ROOT / page).read_text(encoding="utf-8")
        if page.suffix == ".ipynb":
            notebook = json.loads(text)
            prose = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
            links = [link for cell in prose for link in LINK.findall("".join(cell["source"]))]
            for cell in prose:
                cell["source"] = with_files("".join(cell["source"]), source / page.parent)
            described(notebook["cells"])
            text = json.dumps(notebook)
        else:
            links, text = LINK.findall(text), with_files(text, source / page.parent)
        linked |= {(ROOT / page.parent / link).resolve().relative_to(ROOT) for link in links}
        (source / page).write_text(text, encoding="utf-8")
    for file in sorted(path for path in linked if (ROOT / path).is_file() and not (source / path).exists()):
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, source / file)
        if file.suffix == ".py":
            block = f"```{{literalinclude}} {file.name}\n:language: python\n```\n"
            shown = f"---\norphan: true\n---\n# {file.as_posix()}\n\n{block}"
            (source / f"{file}.md").write_text(shown)
    return [page.with_suffix("").as_posix() for page in [*notebooks, *others]]


def build(to: Path) -> None:
    """Builds the site in the folder `to`.  SystemExit if Sphinx or npm is missing, or for any warning of Sphinx.

    A broken link is such a warning.
    """
    try:
        from sphinx.application import Sphinx
        from sphinx.util.console import nocolor
    except ImportError:
        raise SystemExit('the site needs Sphinx: pip install -e ".[site]"') from None
    nocolor()
    with tempfile.TemporaryDirectory() as place:
        source = Path(place, "source").resolve()
        assets(source / "_static")
        pages = gather(source)
        with (source / "README.md").open("a", encoding="utf-8") as home:
            home.write("\n".join(["\n```{toctree}\n:hidden:", *pages, "```\n"]))
        sphinx = Sphinx(source, None, to, Path(place, "doctrees"), "html", CONFIG, status=None, warningiserror=True)
        sphinx.build()
        if sphinx.statuscode:
            raise SystemExit("the site was not built without warnings: fix those printed above")
    shutil.copy(to / "README.html", to / "index.html")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--to", type=Path, default=ROOT / "build" / "site", help="the folder to write (default: build/site)"
    )
    to = parser.parse_args(arguments).to.resolve()
    build(to)
    print(f"{len(list(to.rglob('*.html')))} pages: {to / 'index.html'}")


if __name__ == "__main__":
    main(sys.argv[1:])

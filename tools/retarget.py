"""Writes the course's GitHub address into everything that leads there: Colab's links and every notebook's set-up cell.

    python tools/retarget.py OWNER/NAME [--ref main]    that is where the course can be fetched
    python tools/retarget.py ""                         not published: links lead to Colab's own open dialog
    python tools/retarget.py --check                    does everything agree with pyproject.toml?

`[tool.minclip]` in pyproject.toml holds the address; everything else is a copy.  The cells "title" and "setup" of a new
notebook have to begin as in notebook 00.  `.github/workflows/address.yml` runs this when the course is pushed to a new
repository.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLAB = "https://colab.research.google.com/"
NAME = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}/[A-Za-z0-9._-]{1,100}")  # GitHub's rules
BRANCH = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]*")
PLACEHOLDERS = {
    "owner",
    "user",
    "username",
    "your",
    "yourname",
    "your-name",
    "your-username",
    "example",
    "org",
    "todo",
    "me",
}

LINK = re.compile(r'<a href="[^"]*" id="colab">Open in Colab</a>(?: \(its [^)]*\))?')
# the set-up cell's first lines: a condition and its block, or the comment of a new notebook
FIRST_LINES = re.compile(r'\A(?:if "google\.colab" in .*\n(?: +.*\n)+|# On Google Colab.*\n)')
CONDITION = 'if "google.colab" in str(get_ipython()):  # on Google Colab only: fetch the course (tools/retarget.py)\n'
UNPUBLISHED = """\
    raise RuntimeError("not published: upload the folder, then put %run FOLDER/tools/colab.py here")
"""
PUBLISHED = """\
    ![ -d minclip-course ] || git clone -q --depth 1 -b {ref} https://github.com/{repo} minclip-course
    %run minclip-course/tools/colab.py
"""


def link(repo: str, ref: str, path: str, this: str = "this file") -> str:
    """The link that opens a notebook in Colab; `this` is what the reader of an unpublished copy has to upload."""
    if not repo:
        return (
            f'<a href="{COLAB}" id="colab">Open in Colab</a> (its *Open notebook* dialog, where you can upload {this})'
        )
    return f'<a href="{COLAB}github/{repo}/blob/{ref}/{path}" id="colab">Open in Colab</a>'


def replaced(pattern: re.Pattern, new: str, text: str, place: str) -> str:
    """`text` with the one match of `pattern` in it replaced; there must be one."""
    if len(pattern.findall(text)) != 1:
        sys.exit(f"{place}: expected one match of {pattern.pattern!r}; make it begin as notebook 00's does")
    return pattern.sub(lambda _: new, text)


def rendered(repo: str, ref: str) -> dict[Path, str]:
    """Every file that holds the address, and the text it should have."""
    project, readme = ROOT / "pyproject.toml", ROOT / "README.md"
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    text = project.read_text(encoding="utf-8")
    for key, value in (("repo", repo), ("ref", ref)):
        text = replaced(re.compile(rf'^{key} = ".*"$', re.MULTILINE), f'{key} = "{value}"', text, project.name)
    first = link(repo, ref, notebooks[0].relative_to(ROOT).as_posix(), "a notebook")
    texts = {project: text, readme: replaced(LINK, first, readme.read_text(encoding="utf-8"), readme.name)}
    for path in notebooks:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        new = {
            "title": (LINK, link(repo, ref, path.relative_to(ROOT).as_posix())),
            "setup": (FIRST_LINES, CONDITION + (PUBLISHED if repo else UNPUBLISHED).format(repo=repo, ref=ref)),
        }
        for name, (pattern, replacement) in new.items():
            cells = [cell for cell in notebook["cells"] if cell.get("id") == name]
            if len(cells) != 1:
                sys.exit(f"{path.name}: expected one cell with the id {name!r}, found {len(cells)}")
            source = replaced(pattern, replacement, "".join(cells[0]["source"]), f"{path.name}, cell {name!r}")
            cells[0]["source"] = source.splitlines(keepends=True)
        texts[path] = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
    return texts


def home(repo: str, ref: str) -> str:
    return f"{repo} @ {ref}" if repo else "not published"


def stated() -> tuple[str, str]:
    """Repository and branch in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tuple(re.search(rf'^{key} = "(.*)"$', text, re.MULTILINE)[1] for key in ("repo", "ref"))


def refuse_nobodys(repo: str, ref: str) -> None:
    """Ends with a sentence where `repo` can't be anybody's, or has no branch `ref` for Colab to fetch."""
    if not BRANCH.fullmatch(ref):
        sys.exit(f"{ref!r} is no name of a branch that a notebook's cell could hold")
    if not NAME.fullmatch(repo) or repo.split("/")[0].lower() in PLACEHOLDERS:
        sys.exit(f"{repo!r} is no GitHub repository: give OWNER/NAME as they stand in its address")
    url = f"https://github.com/{repo}"
    asked = ["git", "ls-remote", "--exit-code", url, f"refs/heads/{ref}"]
    env = dict(os.environ, GIT_TERMINAL_PROMPT="0")  # git asks for a password where there is no repository
    if subprocess.run(asked, cwd=ROOT, env=env, capture_output=True).returncode:
        sys.exit(f"{url} has no branch {ref!r} that can be read from here: push the course there first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", nargs="?", metavar="OWNER/NAME", help='"" where it is not published')
    parser.add_argument("--ref", help="the branch")
    parser.add_argument("--check", action="store_true", help="change nothing, say what is stale")
    options = parser.parse_args()
    repo, ref = stated()
    if options.check or options.repo is None:
        stale = [path for path, text in rendered(repo, ref).items() if path.read_text(encoding="utf-8") != text]
        if stale:
            names = ", ".join(path.relative_to(ROOT).as_posix() for path in stale)
            sys.exit(f'stale, run `python tools/retarget.py "{repo}"`: {names}')
        print(f"everything says: {home(repo, ref)}")
        return
    repo, ref = options.repo, options.ref or ref
    if repo:
        refuse_nobodys(repo, ref)
    for path, text in rendered(repo, ref).items():
        path.write_text(text, encoding="utf-8", newline="\n")
    print(f"everything says now: {home(repo, ref)}")


if __name__ == "__main__":
    main()

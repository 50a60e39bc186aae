"""Writes the course's GitHub address into the Colab links and the set-up cell of every notebook.

    python tools/retarget.py OWNER/NAME [--ref main]    set the address
    python tools/retarget.py ""                         remove it: the links then open Colab's own dialog
    python tools/retarget.py --check                    check that all files agree with pyproject.toml

The address is defined in pyproject.toml, [tool.minclip]; all others are copies of it.  In a new notebook, the cells
"title" and "setup" must begin as in notebook 00.  `.github/workflows/address.yml` runs this script whenever the course
is pushed to GitHub.
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
# the first lines of the set-up cell: the condition with its block, or the comment of a new notebook
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
    """The link that opens a notebook in Colab; `this` names what a reader has to upload if there is no address."""
    if not repo:
        return (
            f'<a href="{COLAB}" id="colab">Open in Colab</a> (its *Open notebook* dialog, where you can upload {this})'
        )
    return f'<a href="{COLAB}github/{repo}/blob/{ref}/{path}" id="colab">Open in Colab</a>'


def replaced(pattern: re.Pattern, new: str, text: str, place: str) -> str:
    """`text` with its only match of `pattern` replaced by `new`; exits if there is not exactly one."""
    if len(pattern.findall(text)) != 1:
        sys.exit(f"{place}: expected one match of {pattern.pattern!r}: write it as in notebook 00")
    return pattern.sub(lambda _: new, text)


def rendered(repo: str, ref: str) -> dict[Path, str]:
    """File -> the text it should have, for all files that contain the address."""
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
    """Repository and branch, as written in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tuple(re.search(rf'^{key} = "(.*)"$', text, re.MULTILINE)[1] for key in ("repo", "ref"))


def refuse_nobodys(repo: str, ref: str) -> None:
    """Exits if `repo` is not a GitHub repository with a branch `ref` that Colab can fetch."""
    if not BRANCH.fullmatch(ref):
        sys.exit(f"--ref {ref!r} is not a valid branch name: letters, digits and . _ / - are allowed")
    if not NAME.fullmatch(repo) or repo.split("/")[0].lower() in PLACEHOLDERS:
        sys.exit(f"{repo!r} is no GitHub repository: give OWNER/NAME, as in its address")
    url = f"https://github.com/{repo}"
    asked = ["git", "ls-remote", "--exit-code", url, f"refs/heads/{ref}"]
    env = dict(os.environ, GIT_TERMINAL_PROMPT="0")  # for a missing repository git would ask for a password
    if subprocess.run(asked, cwd=ROOT, env=env, capture_output=True).returncode:
        sys.exit(f"{url} has no branch {ref!r} that can be read from here: push the course there first")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", nargs="?", metavar="OWNER/NAME", help='"" if it is not published')
    parser.add_argument("--ref", help="the branch (default: as in pyproject.toml)")
    parser.add_argument("--check", action="store_true", help="change nothing; list the files that are out of date")
    options = parser.parse_args()
    repo, ref = stated()
    if options.check or options.repo is None:
        stale = [path for path, text in rendered(repo, ref).items() if path.read_text(encoding="utf-8") != text]
        if stale:
            names = ", ".join(path.relative_to(ROOT).as_posix() for path in stale)
            sys.exit(f'out of date, run `python tools/retarget.py "{repo}"`: {names}')
        print(f"all files agree: {home(repo, ref)}")
        return
    repo, ref = options.repo, options.ref or ref
    if repo:
        refuse_nobodys(repo, ref)
    for path, text in rendered(repo, ref).items():
        path.write_text(text, encoding="utf-8", newline="\n")
    print(f"written: {home(repo, ref)}")


if __name__ == "__main__":
    main()

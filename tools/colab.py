"""Installs minclip from a clone of the course in Google Colab; there, the set-up cell of every notebook runs this.

Colab's own packages (torch, torchvision, matplotlib, ipywidgets and others) keep their versions: minclip is installed
with `--no-deps`, and a dependency only if it is missing.  Needs Python 3.11 or newer; Colab has 3.13.
"""

import argparse
import importlib
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tomllib


def missing(requirements: list[str]) -> list[str]:
    """The requirements that are not installed in any version."""
    result = []
    for requirement in requirements:
        try:
            version(re.match(r"[\w.-]+", requirement)[0])
        except PackageNotFoundError:
            result.append(requirement)
    return result


def install(course: Path) -> None:
    """Installs minclip from the folder `course` and makes it importable in the running Python."""
    project = tomllib.loads((course / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    if absent := missing(project["dependencies"]):
        subprocess.run([*pip, *absent], check=True)
    subprocess.run([*pip, "--no-deps", "-e", course], check=True)
    sys.path.insert(0, str(course))  # a running Python doesn't read the new .pth file
    importlib.invalidate_caches()


if __name__ == "__main__":
    plain = argparse.RawDescriptionHelpFormatter
    argparse.ArgumentParser(description=__doc__, formatter_class=plain).parse_args()  # --help must not install anything
    install(Path(__file__).resolve().parent.parent)

"""Makes a clone of the course usable in Google Colab; every notebook's set-up cell runs this there.

Colab's own torch, torchvision, matplotlib, ipywidgets and the rest stay as they are: minclip is installed with
`--no-deps`, and of its dependencies only what is missing.  Needs Python 3.11; Colab has 3.13.
"""

import importlib
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tomllib


def missing(requirements: list[str]) -> list[str]:
    """Those requirements of which no version at all is installed."""
    result = []
    for requirement in requirements:
        try:
            version(re.match(r"[\w.-]+", requirement)[0])
        except PackageNotFoundError:
            result.append(requirement)
    return result


def install(course: Path) -> None:
    project = tomllib.loads((course / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    if absent := missing(project["dependencies"]):
        subprocess.run([*pip, *absent], check=True)
    subprocess.run([*pip, "--no-deps", "-e", course], check=True)
    sys.path.insert(0, str(course))  # a Python that is running doesn't look again at what is installed
    importlib.invalidate_caches()


if __name__ == "__main__":
    install(Path(__file__).resolve().parent.parent)

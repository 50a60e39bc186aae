"""A plain `pip install .`, without extras: the command line does its main job with the declared dependencies alone."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import TINY
from PIL import Image

ROOT = Path(__file__).parent.parent

# The large libraries are those of this environment, but every other distribution is hidden: modules can be imported if they
# belong to Python, to the wheel, or to what its metadata require without an extra, and what that requires in turn.
SITE = """
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, PathFinder
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def closure(name, extras, found):
    if (canonicalize_name(name), extras) in found:
        return
    found.add((canonicalize_name(name), extras))
    try:
        requires = distribution(name).requires or []
    except PackageNotFoundError:  # for another system
        return
    for requirement in map(Requirement, requires):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ["", *extras]):
            closure(requirement.name, tuple(requirement.extras), found)


found = set()
closure("minclip", (), found)
names = {name for name, _ in found}
owners = packages_distributions()
allowed = {module for module, by in owners.items() if names & {canonicalize_name(name) for name in by}}


class Declared(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in allowed or top in sys.stdlib_module_names or top not in owners:
            return PathFinder.find_spec(name, path, target)
        return None


for name in [name for name in sys.modules if name.partition(".")[0] == "packaging" and "packaging" not in allowed]:
    del sys.modules[name]
sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Declared]
"""


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A folder with the wheel's contents and nothing of the repository; a function that runs a command on it."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("no setuptools: pip could build the wheel only with a network")
    source, site, work = (tmp_path_factory.mktemp(name) for name in ("source", "site", "work"))
    shutil.copytree(ROOT / "minclip", source / "minclip", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):  # a copy: building leaves folders behind
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--target", site, source], check=True)
    (site / "sitecustomize.py").write_text(SITE)
    environment = {**os.environ, "PYTHONPATH": str(site), "MINCLIP_DATA": str(work / "data"), "COLUMNS": "200"}

    def run(*command):
        done = subprocess.run([*command], cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        return done.stdout

    run.work, run.minclip = work, next((site / "bin").glob("minclip*"))
    return run


@pytest.mark.slow
def test_the_environment_is_plain(plain):
    code = """
import importlib.util, json, minclip
print(json.dumps([minclip.__file__, *(importlib.util.find_spec(name) is None for name in %r)]))
"""
    extras = [
        "ipywidgets",
        "jupyterlab",
        "IPython",
        "kaggle",
        "webdataset",
        "tensorboard",
        "timm",
        "transformers",
        "pyarrow",
    ]
    # an error is what a warning at each import would be for everybody
    file, *missing = json.loads(plain(sys.executable, "-W", "error::UserWarning", "-c", code % extras))
    assert not Path(file).is_relative_to(ROOT) and all(missing)


@pytest.mark.slow
def test_the_main_job_is_done_whole(plain):
    Image.new("RGB", (40, 30), "red").save(plain.work / "red.png")
    plain(sys.executable, plain.minclip, "train", "shapes", *TINY)
    assert (plain.work / "runs" / "shapes" / "curves.png").stat().st_size > 5000
    # one process for what is left: each start costs seconds
    code = """
import sys
from minclip.cli import main
print(json_lines := [main(command) for command in (
    ["eval", "shapes"], ["classify", "shapes", "red.png", "--labels", "a red star, a blue ring"],
    ["search", "shapes", "--images", ".", "--query", "a red star"], ["info"])])
"""
    assert plain(sys.executable, "-c", code).strip().endswith("[0, 0, 0, 0]")
    assert (plain.work / "classify.png").exists() and (plain.work / "search.html").exists()

"""One address in every link to the course: tools/retarget.py and the workflow that runs it; GitHub is a folder here."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = "someone/minclip-fork"
FILES = ["README.md", "pyproject.toml", "tools", "notebooks", ".github"]
pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder, *arguments):
    who = ["-c", "user.name=a test", "-c", "user.email=test@localhost"]
    return subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout


def retarget(folder, *arguments):
    command = [sys.executable, folder / "tools" / "retarget.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A clone of what holds the address, whose origin is `NAME` on a GitHub that is a folder."""
    hub, clone = tmp_path / "github", tmp_path / "clone"
    (hub / NAME).parent.mkdir(parents=True)
    settings = {f"url.{hub.as_uri()}/.insteadOf": "https://github.com/", "init.defaultBranch": "main"}
    monkeypatch.setenv("GIT_CONFIG_COUNT", str(len(settings)))
    for i, (key, value) in enumerate(settings.items()):
        monkeypatch.setenv(f"GIT_CONFIG_KEY_{i}", key)
        monkeypatch.setenv(f"GIT_CONFIG_VALUE_{i}", value)
    clone.mkdir()
    for name in FILES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, clone / name)
    git(clone, "init", "--quiet")
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "-m", "the course")
    git(clone, "clone", "--quiet", "--bare", str(clone), str(hub / f"{NAME}.git"))
    git(clone, "remote", "add", "origin", f"https://github.com/{NAME}.git")
    return clone


def cell(path, name):
    (found,) = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["id"] == name]
    return "".join(found["source"])


def test_everything_here_agrees():
    checked = retarget(ROOT, "--check")
    assert checked.returncode == 0, checked.stderr


def test_there_and_back_changes_no_byte(course):
    assert retarget(course, NAME).returncode == 0
    notebooks = sorted((course / "notebooks").glob("*.ipynb"))
    changed = {"README.md", "pyproject.toml", *(f"notebooks/{path.name}" for path in notebooks)}
    assert set(git(course, "diff", "--name-only").split()) == changed
    assert retarget(course, "--check").returncode == 0
    assert retarget(course, "").returncode == 0
    assert git(course, "diff") == ""


def test_every_notebook_opens_itself_in_colab_and_fetches_the_course_there(course):
    retarget(course, NAME, "--ref", "main")
    for path in (course / "notebooks").glob("*.ipynb"):
        address = f"https://colab.research.google.com/github/{NAME}/blob/main/notebooks/{path.name}"
        assert f'<a href="{address}" id="colab">Open in Colab</a> ·' in cell(path, "title")
        lines = cell(path, "setup").splitlines()
        assert lines[0].startswith('if "google.colab" in str(get_ipython()):')
        assert f"git clone -q --depth 1 -b main https://github.com/{NAME} minclip-course" in lines[1]
        assert len([line for line in lines if line]) <= 8, path.name  # one short set-up cell
        nbformat = pytest.importorskip("nbformat")
        nbformat.validate(nbformat.read(path, 4))
    assert f"{NAME}/blob/main/notebooks/00_start_here.ipynb" in (course / "README.md").read_text(encoding="utf-8")


def test_nothing_is_fetched_from_anywhere_before_there_is_an_address(course):
    retarget(course, "")
    for path in (course / "notebooks").glob("*.ipynb"):
        assert "git clone" not in cell(path, "setup") and "github/" not in cell(path, "title")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minclip", "no GitHub repository: give OWNER/NAME"),
        ("owner/minclip", "no GitHub repository"),
        ("Your-Username/minclip", "no GitHub repository"),
        ("https://github.com/someone/minclip", "no GitHub repository"),
        ('someone/mini"clip', "no GitHub repository"),
        ("some--one/minclip", "no GitHub repository"),
        (
            "someone/never-pushed",
            "never-pushed has no branch 'main' that can be read from here: push the course there first",
        ),
    ],
)
def test_an_address_that_is_nobodys_is_refused(course, name, message):
    refused = retarget(course, name)
    assert refused.returncode == 1 and message in refused.stderr
    assert git(course, "diff") == ""


@pytest.mark.parametrize("branch", ["elsewhere", "main; rm -r ~"])
def test_so_is_a_branch_that_is_not_there(course, branch):
    refused = retarget(course, NAME, "--ref", branch)
    assert refused.returncode == 1 and branch in refused.stderr
    assert git(course, "diff") == ""


def test_a_stale_copy_is_named(course):
    path = course / "notebooks" / "01_tokenizer.ipynb"
    path.write_text(
        path.read_text(encoding="utf-8").replace("Open in Colab</a> (its", "Open in Colab</a> (it's"), encoding="utf-8"
    )
    checked = retarget(course, "--check")
    assert checked.returncode == 1 and checked.stderr.rstrip().endswith('retarget.py ""`: notebooks/01_tokenizer.ipynb')


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"id": "setup"', '"id": "set-up"', "01_tokenizer.ipynb: expected one cell with the id 'setup', found 0"),
        ("on Google Colab only", "on Google Colab", None),  # what only looks different is written again
        ('if \\"google.colab\\" in', "if colab in", "01_tokenizer.ipynb, cell 'setup': expected one match"),
        ('id=\\"colab\\"', "", "01_tokenizer.ipynb, cell 'title': expected one match"),
    ],
)
def test_a_notebook_without_the_cells_is_named_and_nothing_is_written(course, old, new, message):
    path = course / "notebooks" / "01_tokenizer.ipynb"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    done = retarget(course, NAME)
    if message is None:
        assert done.returncode == 0 and "on Google Colab only" in cell(path, "setup")
    else:
        assert done.returncode == 1 and message in done.stderr
        assert git(course, "diff", "--name-only").split() == ["notebooks/01_tokenizer.ipynb"]


def test_a_notebook_that_is_new_here_begins_with_a_comment(course):
    path = course / "notebooks" / "01_tokenizer.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    (setup,) = [c for c in notebook["cells"] if c["id"] == "setup"]
    setup["source"] = ["# On Google Colab: upload or clone the course first.\n", "import minclip"]
    path.write_text(json.dumps(notebook), encoding="utf-8")
    assert retarget(course, NAME).returncode == 0
    assert re.fullmatch(r"if .*\n    !.*\n    %run .*\nimport minclip", cell(path, "setup"))


def test_the_workflow_pushes_the_address_of_a_new_home_once(course, tmp_path):
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "address.yml").read_text(encoding="utf-8"))
    job = workflow["jobs"]["write"]
    assert workflow["permissions"] == {"contents": "write"} and "default_branch" in job["if"]
    (step,) = [step for step in job["steps"] if "run" in step]
    env = dict(os.environ, GITHUB_REPOSITORY=NAME, GITHUB_REF_NAME="main")
    for _ in range(2):  # the second time there is nothing to write
        shutil.rmtree(course)
        git(tmp_path, "clone", "--quiet", f"https://github.com/{NAME}.git", str(course))
        subprocess.run(["bash", "-euo", "pipefail", "-c", step["run"]], cwd=course, env=env, check=True)
        log = git(tmp_path / "github" / f"{NAME}.git", "log", "--format=%s")
        assert log.splitlines() == [f"Colab's links and set-up cells lead to {NAME}", "the course"]
    assert f'repo = "{NAME}"' in (course / "pyproject.toml").read_text() and retarget(course, "--check").returncode == 0

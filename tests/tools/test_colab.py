"""The set-up cell as it runs in Colab: with Colab's shell, its old ipywidgets, and a folder in place of GitHub."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

pytest.importorskip("IPython")
pytest.importorskip("tomllib", reason="Colab's Python is 3.13; tools/colab.py needs 3.11")
ROOT = Path(__file__).parents[2]
NAME = "someone/minclip-fork"

# `get_ipython()` in Colab is google.colab._shell.Shell: that is how the set-up cell knows where it is
SHELL = """
from IPython.core.interactiveshell import InteractiveShell

class Shell(InteractiveShell):
    pass
"""
RUN = """
import json, sys
from google.colab._shell import Shell
shell = Shell.instance()
for source in json.load(sys.stdin):
    shell.run_cell(source).raise_error()
"""
# every playground on the ipywidgets that is there: each control is changed once, and the picture with it
WIDGETS = """
import ipywidgets
from pathlib import Path
from minclip.course import drawings
from minclip.evaluate import search
assert ipywidgets.__version__ == "7.7.1", ipywidgets.__file__
assert Path("minclip-course").resolve() in Path(minclip.__file__).parents, minclip.__file__

def changed(control):
    if isinstance(control, ipywidgets.Text):
        return control.value + "x"
    if isinstance(control, ipywidgets.Checkbox):
        return not control.value
    if hasattr(control, "options"):
        return next(value for _, value in control._options_full if value != control.value)
    if not hasattr(control, "max"):  # a number typed in
        return control.value + 1
    return control.value - control.step if control.value == control.max else control.value + control.step

model, preprocess, tokenizer = minclip.load("demo")
scenes = minclip.load_pairs("shapes", "val", size=8)
image, text = F.normalize(torch.randn(2, 16, 8), dim=-1)
scores, kinds = {"one": {8: torch.zeros(2, 3), 16: torch.eye(3)[:2]}}, np.arange(1.0, 65)
few = torch.randn(8, 3), torch.arange(8) % 2
shown = {"images": scenes.images, "names": ["star", "ring"], "zero_shot": 0.9}
for name, scene in enumerate(scenes.images[:3]):
    Path("pictures").mkdir(exist_ok=True)
    Image.fromarray(scene.transpose(1, 2, 0)).save(f"pictures/{name}.png")
index = search.Index.of("pictures", (model, preprocess, tokenizer))
heads = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, -1.0]])
x = torch.tensor([[-1.0], [0.25], [0.75], [2.0]])
NUMBERS, pages = ["one", "two", "three", "four"], drawings.pages("test", 2, others=8)
playgrounds = [
    widgets.label_playground(model, tokenizer, scenes.images, labels="a red star, a blue circle"),
    widgets.token_playground(tokenizer, "a red star"),
    widgets.caption_playground(model, tokenizer, "a red star", others=["a blue star"]),
    widgets.attention_viewer(model.vision, scenes.images),
    widgets.loss_playground(image, text),
    widgets.temperature_playground(image[:4] @ text[:4].T, scenes.images[:4], scale=10.0),
    widgets.training_scrubber([torch.eye(4), torch.ones(4, 4)], [1, 2], losses=[2.0, 1.0], batch=4),
    widgets.search_box(index, "a red star", top=2),
    widgets.prompt_playground(model, tokenizer, scenes.images, labels="star, ring", templates="a {} | a large {}"),
    widgets.answers_playground(scenes.images[:2], [0, 1], scores, names=["star", "ring", "heart"]),
    widgets.cap_playground(lambda cap, exponent: (kinds**-exponent, np.minimum(cap / 1000, kinds**-exponent))),
    widgets.threshold_slider([0.7, 0.8, 0.9], [False, True, True], (scenes.images[:3], scenes.images[3:6]), threshold=0.8),
    widgets.few_labels({name: {"train": few, "test": few, **shown} for name in ("shape", "color")}, ks=(1, 2)),
    widgets.glyph_game(widgets.new_game(), np.zeros((3, 12), dtype=int)),
    widgets.mixture_slider(heads, {"narrow": (x, x[:, 0] > 1), "ordinary": (x, x[:, 0] > 0)}, alpha=0.0),
    widgets.counts_playground(scenes.images, [NUMBERS] * 8, {"a": torch.rand(8, 4)}, counts=[1, 2, 3, 4] * 2),
    widgets.portrait_playground(lambda images, texts: torch.zeros(len(images), len(texts))),
    widgets.drawing_search(pages, {"pixels": torch.rand(24, 8), "others": torch.rand(24, 8)}, query=3),
    widgets.days_slider({"RN50x64": 2e22, "ViT-L/14": 6e21}),
    widgets.memory_playground(),
    widgets.sign_playground((model, preprocess, tokenizer), Image.open("pictures/0.png"), ["red", "blue"], word="red", letters="printed"),
]
made = [f for f in vars(widgets).values() if getattr(f, "__annotations__", {}).get("return") is ipywidgets.VBox]
assert len(playgrounds) == len(made) - 1  # all but `redrawn`, which they are made by
for box in playgrounds:
    *controls, picture = box.children
    for control in (c for c in controls if hasattr(c, "value")):  # the game's other buttons are in a row of their own
        before, control.value = picture.value, changed(control)
        assert picture.value != before, control
print("redrawn:", len(playgrounds))
"""


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """A Python with Colab's shell, ipywidgets 7.7.1 before this one's, and no minclip: its folder and its program."""
    folder = tmp_path_factory.mktemp("colab")
    builder = venv.EnvBuilder(symlinks=os.name != "nt")
    builder.create(folder / "python")
    paths = {"base": str(folder / "python"), "platbase": str(folder / "python")}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    python = Path(sysconfig.get_path("scripts", "venv", paths)) / ("python.exe" if os.name == "nt" else "python")
    # paths in .pth files count, .pth files in those paths don't: an editable minclip of this Python stays unseen there
    (packages / "this.pth").write_text(sysconfig.get_path("purelib"))
    (packages / "google" / "colab").mkdir(parents=True)
    (packages / "google" / "colab" / "__init__.py").touch()
    (packages / "google" / "colab" / "_shell.py").write_text(SHELL)
    old = ["ipywidgets==7.7.1", "ipython_genutils"]
    pip = [python, "-m", "pip", "install", "-q", "--retries", "0", "--timeout", "10", "--no-deps"]
    if subprocess.run([*pip, *old], capture_output=True).returncode:
        pytest.skip("ipywidgets 7.7.1 could not be installed: no package index within reach")
    return folder, python


def play(python, folder, sources, **env):
    env = {**os.environ, **env}
    env.pop("VIRTUAL_ENV", None)  # IPython would look for packages in there first
    return subprocess.run(
        [python, "-c", RUN],
        cwd=folder,
        input=json.dumps(sources),
        env=env,
        capture_output=True,
        text=True,
    )


def setup_cell(course, name):
    (path,) = (course / "notebooks").glob(f"{name}_*.ipynb")
    (cell,) = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["id"] == "setup"]
    return "".join(cell["source"])


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """The course in a repository called `NAME`, and the settings under which git takes its folder for GitHub."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path_factory.mktemp("published")
    hub, course = folder / "github", folder / "github" / NAME
    for name in ("minclip", "notebooks", "tools", "data/demo"):
        shutil.copytree(ROOT / name, course / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    for name in ("README.md", "LICENSE", "pyproject.toml", "data/README.md", "data/.minclip-data"):
        shutil.copy(ROOT / name, course / name)
    settings = {
        f"url.{hub.as_uri()}/.insteadOf": "https://github.com/",
        "user.name": "a test",
        "user.email": "t@localhost",
    }
    env = {"GIT_CONFIG_COUNT": str(len(settings))}
    for i, (key, value) in enumerate(settings.items()):
        env |= {f"GIT_CONFIG_KEY_{i}": key, f"GIT_CONFIG_VALUE_{i}": value}
    git = {"cwd": course, "env": dict(os.environ, **env), "check": True, "capture_output": True}
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "the course"]):
        subprocess.run(["git", *command], **git)
    subprocess.run([sys.executable, "tools/retarget.py", NAME], **git)
    return course, env


def test_before_there_is_an_address_the_cell_says_what_to_do(tmp_path):
    stand_in = tmp_path / "google" / "colab" / "_shell.py"
    stand_in.parent.mkdir(parents=True)
    stand_in.write_text(SHELL)
    played = play(sys.executable, tmp_path, [setup_cell(ROOT, "00")], PYTHONPATH=str(tmp_path))
    assert played.returncode and "not published: upload the folder" in played.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["google"]


def test_the_cell_fetches_the_course_and_its_widgets_work_on_colabs_ipywidgets(colab, published):
    """All as in Colab: `NAME` is cloned and installed without what it depends on; every control redraws its picture."""
    (folder, python), (course, env) = colab, published
    content = folder / "content"
    content.mkdir()
    elsewhere = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import minclip'], cwd='/', check=True)"
    imports = "import numpy as np, torch.nn.functional as F\nfrom PIL import Image\n"
    sources = [setup_cell(course, "00"), imports + WIDGETS, elsewhere]
    env = {"MPLBACKEND": "agg", "PYTHONPATH": "", "MINCLIP_DATA": "", **env}
    played = play(python, content, sources, **env)
    assert played.returncode == 0, played.stdout + played.stderr
    assert "redrawn: 21" in played.stdout


def test_only_what_is_missing_is_installed():
    spec = importlib.util.spec_from_file_location("colab", ROOT / "tools" / "colab.py")
    colab = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(colab)
    assert colab.missing(["torch>=99", "no-such-package-here>=1; python_version >= '3'"]) == [
        "no-such-package-here>=1; python_version >= '3'"
    ]

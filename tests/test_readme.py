"""Every fenced block of README.md and data/README.md runs, word for word; what can't run offline is fenced as text."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import TINY
from pictures import put_photographs, zipped

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [
    (page, language, text)
    for page in ("README.md", "data/README.md")
    for language, text in FENCE.findall((ROOT / page).read_text(encoding="utf-8"))
]
SETUP = re.compile(r"pip install -r requirements\.txt && [^#]*[^# ]")

# What a block's words call.  `minclip train` becomes tiny by options that are appended; a benchmark only has to be there
# and to take its options (--help), as tests/bench is not a test.
SHIMS = {
    "minclip": f"""
words = sys.argv[1:] + ({TINY!r} if sys.argv[1] == "train" and "shapes" in sys.argv else [])
words += ["--data.image-size", "16", "--data.first-size", "16", "--train.batch-size", "4", "--train.steps", "2"] if "flickr8k" in sys.argv else []
run([sys.executable, "-m", "minclip", *words])
""",
    "python": f"""
words = sys.argv[1:]
if words[0].startswith(("tests/bench/", "tools/")):
    words = [{str(ROOT)!r} + "/" + words[0], *words[1:], "--help"]
run([sys.executable, *words])
""",
}


def id_of(block):
    page, language, text = block
    return f"{page}-{language or 'none'}-{text.split(chr(10))[0][:40]}"


@pytest.fixture
def place(here):
    """An empty folder that stands for the repository's: a copy of the demo, a few photographs, and the commands."""
    shutil.copytree(ROOT / "data" / "demo", here / "data" / "demo")
    names = [f"{i}.jpg" for i in range(60)]
    put_photographs(here / "flickr8k" / "Images", names)
    captions = [f"{name},a dog number {i} of {k}" for i, name in enumerate(names) for k in range(5)]
    (here / "flickr8k" / "captions.txt").write_text("\n".join(["image,caption", *captions]) + "\n")
    zipped(here / "flickr8k")
    (here / "bin").mkdir()
    for name, code in SHIMS.items():
        path = here / "bin" / name
        head = (
            f"#!{sys.executable}\nimport subprocess, sys\ndef run(words): sys.exit(subprocess.run(words).returncode)\n"
        )
        path.write_text(head + code)
        path.chmod(0o755)
    return here


def test_all_blocks_are_known():
    assert {language for _, language, _ in BLOCKS} <= {"python", "bash", "text"}, "a block that no test would run"
    assert {language for _, language, _ in BLOCKS} >= {"python", "bash"}
    setup = [line for _, language, text in BLOCKS for line in text.splitlines() if line.startswith("pip install -r")]
    assert len(setup) == 2 and all(SETUP.fullmatch(line) for line in setup)  # .ci/run runs these
    for page, language, text in BLOCKS:
        if language == "bash":
            first = {line.split()[0] for line in text.splitlines() if line.strip()}
            assert first <= {"minclip", "python", "pip", "for"}, f"{page}: a command that no test would run: {first}"


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in BLOCKS if b[1] == "python"], ids=id_of)
def test_a_block_of_python_runs(place, block):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", block[2]], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="bash")
@pytest.mark.parametrize("block", [b for b in BLOCKS if b[1] == "bash"], ids=id_of)
def test_a_block_of_bash_runs(place, block):
    lines = [line for line in block[2].splitlines(keepends=True) if not SETUP.match(line)]  # those two are .ci/run's
    paths = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": paths, "MINCLIP_DATA": str(place / "data")}
    bash = ["bash", "-euo", "pipefail", "-c", "".join(lines)]
    done = subprocess.run(bash, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr


def test_readme_is_two_screens():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) < 900

"""pytest for the whole project: `pytest` runs tests/ and, through nbval, the stored outputs of notebooks/."""

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
SLOW = ("browser", "notebooks", "faults", "tools")  # folders, the longest first
# Two threads on every machine: sums in another order would change printed digits.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # a thread that waits leaves its core to the other worker
os.environ.setdefault("MPLBACKEND", "agg") if "JPY_PARENT_PID" not in os.environ else None
# Stored outputs come from the shapes world, whatever photographs are here.
os.environ.setdefault("MINCLIP_COURSE_SHAPES", "1")
# A test must not find the caches or runs of the person who runs it.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# A shell's background job ignores Ctrl-C, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--screenshots", type=Path, help="a folder for pictures of every notebook in the browser")


def pytest_configure(config):
    """nbval's settings, here and not in `addopts`: paths stay right from every folder, and pytest works without nbval."""
    if not config.pluginmanager.hasplugin("nbval"):
        return
    if not config.option.nbval_lax:
        config.option.nbval = True
    config.option.nbval_current_env = True
    config.option.nbval_sanitize_with = str(ROOT / "tests" / "nbval_sanitize.cfg")
    config.option.nbval_cell_timeout = 300


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads its options
def pytest_cmdline_main(config):
    """Two workers for a folder or for everything, each with whole files; a file alone, or `-n 0`, stays in one process."""
    option = config.option
    if hasattr(config, "workerinput") or getattr(option, "numprocesses", 0) is not None:
        return  # a worker itself, `-n` was given, or pytest-xdist isn't there
    if option.dist == "no" and not option.usepdb and any(Path(name).is_dir() for name in config.args):
        option.numprocesses, option.dist, option.loadscopereorder = 2, "loadfile", False


@pytest.hookimpl(tryfirst=True)  # before `-m "not slow"` chooses
def pytest_collection_modifyitems(config, items):
    """Marks as slow what starts kernels, browsers and processes: the notebooks and a few rooms of tests/."""
    for item in items:
        if kind(item) < len(SLOW):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        items.sort(key=kind)  # the longest first, so that no worker waits for the other one's last file


def kind(item):
    """The index in `SLOW` of the folder that an item lies in, or the length of `SLOW`."""
    rooms = item.path.relative_to(ROOT).parts
    return next((i for i, room in enumerate(SLOW) if room in rooms), len(SLOW))


@pytest.fixture(scope="session")
def flickr8k_zip():
    """The real photographs, where `MINCLIP_FLICKR8K` names their zip."""
    path = os.environ.get("MINCLIP_FLICKR8K", "")
    if not path:
        pytest.skip("MINCLIP_FLICKR8K does not name a zip of Flickr8k")
    return Path(path)

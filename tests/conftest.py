"""Fixtures for the tests of the package."""

from contextlib import suppress
from types import SimpleNamespace

import pytest
from hypothesis import settings

# no deadline for a single example: on a busy machine a slow one is no failure
settings.register_profile("minclip", deadline=None)
settings.load_profile("minclip")

pytest.register_assert_rewrite("course_answers")  # so that its failures show the values


@pytest.fixture
def data_home(tmp_path, monkeypatch):
    """An empty data folder: what a test downloads or caches lands here and not in the person's own."""
    home = tmp_path / "minclip-data"
    monkeypatch.setenv("MINCLIP_DATA", str(home))
    return home


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def small_world():
    """A shapes world with a few scenes to validate on, where a test is not about their number."""
    from small_world import few_scenes

    with few_scenes():
        yield


@pytest.fixture(autouse=True, scope="session")
def tyro_as_it_is_used():
    """Under pytest, tyro checks its cache at random, and fails where a `config.Default` equals a plain number."""
    with suppress(ImportError):  # of a private module, which another version may lack
        from tyro import _unsafe_cache

        _unsafe_cache.sys = SimpleNamespace(modules={})


@pytest.fixture(autouse=True)
def no_peak(request, monkeypatch):
    """The machine's peak is not measured in tests, which takes time and warms a laptop: a round number stands for it."""
    if not request.node.get_closest_marker("measures_peak"):
        monkeypatch.setattr("minclip.training.watch.peak_flops", lambda device, *, autocast: 1e12)

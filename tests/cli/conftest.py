"""Fixtures for the tests of the command line."""

import pytest
from small_world import few_scenes
from test_cli import TINY

import minclip
from minclip.cli import main


@pytest.fixture(autouse=True)
def scenes(small_world):
    """No test here is about their number."""


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A tiny run, made once; tests that change it take a copy."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch, few_scenes():
        patch.chdir(folder)
        assert main(["train", "shapes", *TINY]) == 0
    return minclip.Run.load(folder / "runs" / "shapes")

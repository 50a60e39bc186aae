"""Fixtures for the tests of other people's weights."""

import http.server
import threading

import huggingface_hub.constants as constants
import pytest
import torch
from local_hub import CONTENT, Hub, go_to


@pytest.fixture
def hub(tmp_path, monkeypatch):
    handler = type("ThisHub", (Hub,), {"files": {"weights.bin": CONTENT}})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    go_to(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def own_home(here, data_home, monkeypatch):
    """A home folder that is empty and the test's own, and the same random weights in each test."""
    torch.manual_seed(0)
    monkeypatch.setenv("HOME", str(here / "home"))
    monkeypatch.setenv("USERPROFILE", str(here / "home"))

"""A real JupyterLab and a real Chromium, started once for a module, without a person's own settings."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMES = ("chromium", "chromium-browser", "google-chrome")
FOLDERS = "JUPYTER_CONFIG_DIR JUPYTER_DATA_DIR JUPYTER_RUNTIME_DIR IPYTHONDIR".split()
FOLDERS += "JUPYTERLAB_SETTINGS_DIR JUPYTERLAB_WORKSPACES_DIR".split()
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension:tracker": {
        "windowingMode": "none"
    },  # cells out of sight stay in the page, to be found
}


class Lab:
    """JupyterLab over the course in a folder, started as README says; settings, kernels and log live in another one."""

    def __init__(self, course: Path, home: Path):
        self.course, self.token = course / "notebooks", secrets.token_hex(16)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.log, self.runtime = home / "log.txt", home / "JUPYTER_RUNTIME_DIR"
        (home / "settings").mkdir(parents=True)
        (home / "settings" / "overrides.json").write_text(json.dumps(SETTINGS))
        command = re.search(r"`jupyter lab (notebooks/\S+\.ipynb)`", (ROOT / "README.md").read_text(encoding="utf-8"))
        options = [
            "--no-browser",
            "--allow-root",
            "--ServerApp.ip=127.0.0.1",
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--LabApp.app_settings_dir={home / 'settings'}",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.expose_app_in_browser=True",  # so that single cells can be run by their number
        ]
        env = dict(os.environ, PYTHONPATH=str(ROOT), **{name: str(home / name) for name in FOLDERS})
        env.pop("MPLBACKEND", None)  # conftest.py's, for tests; a learner's notebook draws inline
        self.server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", command[1], *options],
            cwd=course,
            env=env,
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )

    def api(self, path: str, method: str = "GET") -> bytes:
        request = urllib.request.Request(
            f"{self.address}/api/{path}", method=method, headers={"Authorization": f"token {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()

    def wait(self, seconds: float = 180) -> None:
        end = time.monotonic() + seconds
        while True:
            try:
                self.api("status")
                return
            except OSError:
                if self.server.poll() is not None or time.monotonic() > end:
                    pytest.fail("JupyterLab did not start:\n" + self.log.read_text()[-2000:])
                time.sleep(0.2)

    def forget(self, name: str, numbers: list[int]) -> None:
        """Takes the stored outputs of some cells out of the copy of a notebook."""
        path = self.course / name
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for number in numbers:
            notebook["cells"][number].update(outputs=[], execution_count=None)
        path.write_text(json.dumps(notebook), encoding="utf-8")

    def stop_kernels(self) -> None:
        for session in json.loads(self.api("sessions")):
            self.api(f"sessions/{session['id']}", "DELETE")

    def stop(self) -> None:
        self.stop_kernels()
        self.server.terminate()
        self.server.wait(60)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab over a copy of the notebooks, so that their stored outputs stay as they are."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    home = tmp_path_factory.mktemp("jupyterlab")
    (home / "notebooks").mkdir()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, home / "notebooks")
    lab = Lab(home, home / "own")
    lab.wait()
    yield lab
    lab.stop()


@pytest.fixture(scope="module")
def chromium():
    """A headless browser, whose pages share what was fetched.  For a module, not the session: its event loop would be in the way of nbval's."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed (on Debian: apt-get install chromium)")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu", "--disable-quic"])
        yield browser.new_context(viewport={"width": 1280, "height": 1400})
        browser.close()

"""A stand-in for huggingface.co on loopback, for the hub's real client."""

import hashlib
import http.server
from typing import ClassVar

import huggingface_hub.constants as constants

CONTENT = b"weights " * 1000
COMMIT = "c" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """`/REPO/resolve/main/FILE` as huggingface.co answers it; `repo`, `files` and `status` are the test's to set."""

    files: ClassVar[dict[str, bytes]] = {}
    repo = "owner/name"
    status = 200
    announced: str | None = None  # another hash than the content's

    def do_HEAD(self):
        name = self.path.rsplit("/", 1)[-1]
        missing = {} if f"/{self.repo}/" in self.path else {"X-Error-Code": "RepoNotFound"}
        if self.status != 200 or missing or name not in self.files:
            code = self.status if self.status != 200 else 404
            headers = missing or ({"X-Error-Code": "EntryNotFound"} if code == 404 else {})
            return self.answer(code, headers, b"")
        data = self.files[name]
        digest = self.announced or hashlib.sha256(data).hexdigest()
        headers = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        self.answer(200, headers, data)

    do_GET = do_HEAD

    def answer(self, code, headers, data):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args):
        pass


def go_to(address, monkeypatch):
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", address)

"""A stand-in for api.kaggle.com on 127.0.0.1: what a download through Kaggle's client touches, and what can go wrong there.

with Kaggle({"owner/name": zip_bytes}) as kaggle:
    kaggle.signing_in, kaggle.questions, kaggle.blobs   the faults of the next requests: with a token, for a zip, of its bytes
    kaggle.env                                          for a subprocess
    kaggle.log                                          (method, path, Range header, status) of each request
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Kaggle(ThreadingHTTPServer):
    """A fault is a status, "silent", "page", "cut" (half of it comes), "stall" (and then nothing more), "slow", or headers to send with a 429; None is none."""

    daemon_threads = True

    def __init__(self, zips, tokens=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.zips, self.tokens = zips, tokens
        self.signing_in, self.questions, self.blobs, self.log = [], [], [], []
        self.closing = threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.closing.set()
        self.shutdown()
        self.server_close()

    @property
    def env(self):
        """The client can be sent to http://localhost without a port: there it comes through a proxy, which is us."""
        proxy = dict.fromkeys(("HTTP_PROXY", "http_proxy"), self.address)
        return {"KAGGLE_API_ENVIRONMENT": "LOCALHOST", "NO_PROXY": "", "no_proxy": "", **proxy}

    def handle_error(self, request, address):
        pass  # who hung up is no news


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", kind="application/json", send=None, **headers):
        self.server.log.append((self.command, urlsplit(self.path).path, self.headers.get("Range"), status))
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body if send is None else send)

    def fail(self, fault):
        """Whether the fault is one that leaves nothing more to say."""
        if isinstance(fault, int):
            self.answer(fault, json.dumps({"code": fault, "message": f"the stand-in says {fault}"}).encode())
        elif isinstance(fault, dict):
            self.answer(429, b'{"code": 429, "message": "too many requests"}', **fault)
        elif fault == "silent":
            self.server.log.append((self.command, urlsplit(self.path).path, self.headers.get("Range"), "silent"))
            self.server.closing.wait(60)
            self.close_connection = True
        elif fault == "page":
            self.answer(200, b"<html>sign in</html>", "text/html; charset=utf-8")
        else:
            return False
        return True

    def do_POST(self):
        path = urlsplit(self.path).path  # a proxy is asked for the whole address
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        if path.endswith("/security.OAuthService/IntrospectToken"):
            if self.fail(self.server.signing_in.pop(0) if self.server.signing_in else None):
                return None
            known = body["token"] in self.server.tokens
            return self.answer(200, b'{"active": true, "username": "stub"}') if known else self.fail(403)
        name = f"{body.get('ownerSlug')}/{body.get('datasetSlug')}"
        if self.fail(self.server.questions.pop(0) if self.server.questions else None):
            return None
        if not path.endswith("/datasets.DatasetApiService/DownloadDataset") or name not in self.server.zips:
            return self.fail(404)
        self.server.signed = self.headers.get("Authorization", "")
        return self.answer(302, Location=f"http://localhost:{self.server.server_port}/blob/{name}?signature=x")

    def do_GET(self):
        fault = self.server.blobs.pop(0) if self.server.blobs else None
        if self.fail(fault):
            return
        self.server.blob_signed = self.headers.get("Authorization")
        data = self.server.zips[urlsplit(self.path).path.removeprefix("/blob/")]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{len(data)}-{data[-9:].hex()}"', "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        rest = data[start:]
        if fault == "slow":
            self.answer(206 if start else 200, rest, "application/zip", b"", **headers)
            for i in range(0, len(rest), 1 << 19):
                self.wfile.write(rest[i : i + (1 << 19)])
                time.sleep(0.1)
        else:
            part = rest[: len(rest) // 2] if fault in ("cut", "stall") else rest
            self.answer(206 if start else 200, rest, "application/zip", part, **headers)
            self.server.closing.wait(60 if fault == "stall" else 0)
        self.close_connection = fault in ("cut", "stall")

"""Downloads data sets with Kaggle's own client: complete or not at all, resumed after a stop, and never twice."""

import contextlib
import errno
import io
import json
import os
import re
import shutil
import sys
import zipfile
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PureWindowsPath
from typing import Any
from unittest import mock

from filelock import FileLock, Timeout

from ..config import MinclipError, nearest, need
from ..training.bars import tqdm
from ..weights.config_json import parse_json
from ..weights.hub import data_folder, sha256

SOURCES = {name: f"adityajn105/{name}" for name in ("flickr8k", "flickr30k")}
SOURCES |= {"karpathy-splits": "shtvkumar/karpathy-splits"}
MARK = ".fetched.json"  # marks a complete folder; records its source and checksum
TIMEOUT = 60  # seconds to wait for a silent server
PAGE = "https://www.kaggle.com/datasets/"
TOKENS = "https://www.kaggle.com/settings/api"
AGAIN = "run the same command again"
NO_CREDENTIALS = f"""Kaggle requires a free account, but no valid credentials were found. Three steps:
  1. create an account at https://www.kaggle.com/account/login
  2. at {TOKENS} click "Generate New Token" and copy it
  3. save it in the file ~/.kaggle/access_token, or in the environment variable KAGGLE_API_TOKEN
Then {AGAIN}. KAGGLE_USERNAME with KAGGLE_KEY, and kaggle.json, work too."""
REFUSALS = {
    401: f"Kaggle does not accept these credentials (401): replace them with a new token from {TOKENS}",
    403: f"Kaggle refuses {{source}} (403): open {PAGE}{{source}}, sign in, accept the data set's rules, and {AGAIN}",
    404: f"Kaggle has no data set {{source}} (404): look for it at {PAGE} and set source to its OWNER/NAME",
}


def fetched(name: str) -> str:
    """The folder of the data set `name` in the data folder, "" if `fetch` has not downloaded it there."""
    folder = data_folder() / name
    return str(folder) if (folder / MARK).exists() else ""


def fetch(name: str, *, to: str | Path | None = None, source: str | None = None) -> dict[str, Any]:
    """Downloads a Kaggle data set to the folder `to`, by default `name` in the data folder, and describes it.

    `name` is a key of SOURCES; `source`, "owner/name", is downloaded instead of its data set.  Returns `folder`, `new`
    (False if it was already there), and its zip's `source`, `bytes`, `sha256` and `date`.  Everything is prepared in a
    hidden folder beside `to` and then moved.  Raises MinclipError if that fails; the next call resumes the download.
    """
    need(name in SOURCES, f"no data set is named {name!r}{nearest(name, SOURCES)}: choose from {', '.join(SOURCES)}")
    need(not source or source.count("/") == 1, f"source {source!r} is not a Kaggle data set: give OWNER/NAME")
    folder = Path(to or data_folder() / name).absolute()
    if (folder / MARK).exists():
        return _describe(folder, source)
    source = source or SOURCES[name]
    _check_client()
    work = folder.with_name(f".{folder.name}.fetch")
    archive = work / f"{source.replace('/', '_')}.zip"
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / "lock")  # the system releases it when the process ends, even after kill -9
    try:
        lock.acquire(timeout=0)
        if not (folder / MARK).exists():  # otherwise another process was faster
            if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
                raise MinclipError(f"{folder} exists, but is not from minclip fetch: move it away, or set to=FOLDER")
            if not archive.exists() or Path(f"{archive}.kaggle-partial").exists():  # as long as a part is missing
                _download(source, archive)
            _unpack(source, archive, folder)
    except Timeout:
        raise MinclipError(f"another process is fetching {folder}: wait until it is finished") from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise MinclipError(f"no space left for {folder}: free some, and {AGAIN}; the download is kept") from None
    finally:
        if lock.is_locked:
            lock.release()
            if (folder / MARK).exists() or not archive.exists():
                shutil.rmtree(work, ignore_errors=True)
    return _describe(folder, source) | {"new": True}


def _describe(folder: Path, source: str | None) -> dict[str, Any]:
    mark = parse_json((folder / MARK).read_bytes(), str(folder / MARK))
    there = mark.get("source") if isinstance(mark, dict) else None
    need(isinstance(there, str), f"{folder / MARK} names no source: it is damaged; delete {folder} and fetch it again")
    need(source in (None, "", there), f"{folder} already holds {there}: set to=FOLDER for {source}")
    return {"folder": str(folder), "new": False, **mark}


def _check_client() -> None:
    with contextlib.suppress(PackageNotFoundError):
        # older clients hold the whole zip in memory and can't resume
        if [int(part) for part in re.findall(r"\d+", version("kaggle"))[:2]] >= [2, 2]:
            return
    raise MinclipError("fetch needs Kaggle's client 2.2 (on Python 3.11) or newer: pip install 'kaggle>=2.2'")


def _download(source: str, archive: Path) -> None:
    """Downloads the zip or its missing rest; Kaggle's client retries, and knows whether a part is of the same zip."""
    import requests
    from requests.adapters import HTTPAdapter

    def send(adapter: HTTPAdapter, request: Any, stream: bool = False, timeout: Any = None, **options: Any) -> Any:
        return original(adapter, request, stream, timeout or TIMEOUT, **options)

    original = HTTPAdapter.send
    try:
        # the client sets no timeout for its first requests, and has no option for it
        with mock.patch.object(HTTPAdapter, "send", send):
            _request(source, archive)
    except SystemExit:
        raise MinclipError(NO_CREDENTIALS) from None
    except requests.RequestException as error:
        response, status = error.response, getattr(error.response, "status_code", 0)
        # other URLs are those of the file store, where a 403 means that the signed URL has expired
        if status in REFUSALS and "Service/" in response.url:
            raise MinclipError(REFUSALS[status].format(source=source)) from None
        why = f"no answer for {TIMEOUT} s" if "timed out" in str(error) else type(error).__name__
        reason = f"Kaggle answers {status}" if status else f"the connection to Kaggle failed ({why})"
        raise MinclipError(f"{reason}: {AGAIN} later; what was downloaded so far is kept") from None


def _request(source: str, archive: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):  # hides the client's help page
        import kaggle  # signs in, ignoring errors: authenticate raises them
        from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

        kaggle.api.authenticate()
    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = source.split("/")
    with kaggle.api.build_kaggle_client() as client, contextlib.redirect_stdout(sys.stderr):
        response = client.datasets.dataset_api_client.download_dataset(request)
        if "html" in response.headers.get("Content-Type", ""):
            login = f"if this network needs a login, open {PAGE}{source} in a browser, and {AGAIN}"
            raise MinclipError(f"received a web page instead of the zip of {source}: {login}")
        size, free = int(response.headers.get("Content-Length", 0)), shutil.disk_usage(archive.parent).free
        present = archive.stat().st_size if archive.exists() else 0
        missing = 2 * size - min(present, size)  # a zip barely compresses photographs: unpacked, they double it
        room = f"need {missing / 1e6:,.1f} MB in {archive.parent.parent}, and {free / 1e6:,.1f} MB are free"
        need(missing <= free, f"the zip of {source} and its files {room}: free some, or set to=FOLDER on another disk")
        try:
            options = {"quiet": False, "resume": True, "timeout": TIMEOUT}
            kaggle.api.download_file(response, str(archive), client.http_client(), **options)
        except ValueError:  # not the announced size: the client took an error page for the rest of the file
            archive.unlink()
            raise MinclipError(f"the rest of the zip of {source} can't be downloaded: {AGAIN} later") from None


def _unpack(source: str, archive: Path, folder: Path) -> None:
    unpacked = archive.parent / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)  # left by a killed process
    from .photos.images import BROKEN  # imports Pillow, which `import minclip` should not

    try:
        with zipfile.ZipFile(archive) as zipped:
            names = zipped.namelist()
            need(names, "it is empty")
            for path in map(PureWindowsPath, names):  # splits at \ and /, finds C:
                inside = not (path.drive or path.root or ".." in path.parts)
                need(inside, f"the name {str(path)!r} points outside its folder")
            for name in tqdm(names, "unpacking", unit=" files", leave=False):
                zipped.extract(name, unpacked)  # checks its CRC
        mark = {"source": source, "bytes": archive.stat().st_size, "sha256": sha256(archive), "date": str(date.today())}
        (unpacked / MARK).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()  # an empty folder, which Windows can't replace
        os.replace(unpacked, folder)
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno:
            raise  # a disk error, not a damaged zip
        archive.unlink()
        todo = f"{AGAIN}, and if that fails too, tell the data set's owner at {PAGE}{source}"
        raise MinclipError(f"the zip of {source} is damaged ({error}) and was deleted: {todo}") from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)

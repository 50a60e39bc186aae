"""Data sets from Kaggle through its own client: complete or not at all, resumed after a stop, never fetched twice."""

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
from tqdm.auto import tqdm

from ..config import MinclipError, nearest, need
from ..weights.config_json import parse_json
from ..weights.hub import data_folder, sha256

SOURCES = {name: f"adityajn105/{name}" for name in ("flickr8k", "flickr30k")}
SOURCES |= {"karpathy-splits": "shtvkumar/karpathy-splits"}
MARK = ".fetched.json"  # in a complete folder: what it was made of
TIMEOUT = 60  # seconds until a silent server is given up
PAGE = "https://www.kaggle.com/datasets/"
TOKENS = "https://www.kaggle.com/settings/api"
AGAIN = "run the same command again"
NO_CREDENTIALS = f"""Kaggle gives its data sets to people with an account; no valid credentials were found. Three steps:
  1. make an account at https://www.kaggle.com/account/login (it is free)
  2. at {TOKENS} click "Generate New Token" and copy it
  3. put it into the file ~/.kaggle/access_token, or into the environment variable KAGGLE_API_TOKEN
Then {AGAIN}. KAGGLE_USERNAME with KAGGLE_KEY, and kaggle.json, are read too."""
REFUSALS = {
    401: f"Kaggle does not accept these credentials (401): replace them by a new token of {TOKENS}",
    403: f"Kaggle refuses {{source}} (403): open {PAGE}{{source}} signed in, accept the data set's rules, and {AGAIN}",
    404: f"Kaggle has no data set {{source}} (404): look for it at {PAGE} and set source to its OWNER/NAME",
}


def fetched(name: str) -> str:
    """The folder of the data set that `fetch` brought to the data folder under `name`; "" where there is none."""
    folder = data_folder() / name
    return str(folder) if (folder / MARK).exists() else ""


def fetch(name: str, *, to: str | Path | None = None, source: str | None = None) -> dict[str, Any]:
    """Brings a data set of Kaggle to the folder `to`, by default the data folder's `name`, and describes it.

    `name` is a key of SOURCES; `source`, "owner/name", another data set in its place.  Returns `folder`, `new` (False
    where it was there already), and of its zip `source`, `bytes`, `sha256`, and `date`.  Everything is made in a hidden
    folder beside `to` and then moved.  Where that fails with MinclipError, the next call continues the download.
    """
    need(name in SOURCES, f"no data set is named {name!r}{nearest(name, SOURCES)}: choose from {', '.join(SOURCES)}")
    need(not source or source.count("/") == 1, f"the source {source!r} is no data set of Kaggle's: give OWNER/NAME")
    folder = Path(to or data_folder() / name).absolute()
    if (folder / MARK).exists():
        return _there(folder, source)
    source = source or SOURCES[name]
    _check_client()
    work = folder.with_name(f".{folder.name}.fetch")
    archive = work / f"{source.replace('/', '_')}.zip"
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / "lock")  # goes with its process, also after kill -9
    try:
        lock.acquire(timeout=0)
        if not (folder / MARK).exists():  # otherwise another process was faster
            if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
                raise MinclipError(f"{folder} is there, but not from minclip fetch: move it away, or set to=FOLDER")
            if not archive.exists() or Path(f"{archive}.kaggle-partial").exists():  # the client's mark
                _download(source, archive)
            _unpack(source, archive, folder)
    except Timeout:
        raise MinclipError(f"another process is fetching {folder}: wait until it is finished") from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise MinclipError(f"no space left for {folder}: free some, and {AGAIN}; downloads are kept") from None
    finally:
        if lock.is_locked:
            lock.release()
            if (folder / MARK).exists() or not archive.exists():
                shutil.rmtree(work, ignore_errors=True)
    return _there(folder, source) | {"new": True}


def _there(folder: Path, source: str | None) -> dict[str, Any]:
    mark = parse_json((folder / MARK).read_bytes(), str(folder / MARK))
    if not (isinstance(mark, dict) and isinstance(mark.get("source"), str)):
        raise MinclipError(f"{folder / MARK} names no source: it is damaged; delete {folder} and fetch it again")
    if source and source != mark["source"]:
        raise MinclipError(f"{folder} holds {mark['source']} already: set to=FOLDER for {source}")
    return {"folder": str(folder), "new": False, **mark}


def _check_client() -> None:
    with contextlib.suppress(PackageNotFoundError):
        # older ones keep the whole zip in memory and don't resume
        if [int(part) for part in re.findall(r"\d+", version("kaggle"))[:2]] >= [2, 2]:
            return
    raise MinclipError("fetching needs Kaggle's client, 2.2 or newer, and Python 3.11: pip install 'kaggle>=2.2'")


def _download(source: str, archive: Path) -> None:
    """Completes the zip.  Kaggle's client repeats what breaks off and knows whether a part is of the same zip."""
    import requests
    from requests.adapters import HTTPAdapter

    def send(adapter: HTTPAdapter, request: Any, stream: bool = False, timeout: Any = None, **options: Any) -> Any:
        return without(adapter, request, stream, timeout or TIMEOUT, **options)

    without = HTTPAdapter.send
    try:
        # the client sets no timeout for its first requests, and has no option for it
        with mock.patch.object(HTTPAdapter, "send", send):
            _ask(source, archive)
    except SystemExit:
        raise MinclipError(NO_CREDENTIALS) from None
    except requests.RequestException as error:
        answer, status = error.response, getattr(error.response, "status_code", 0)
        # anybody but Kaggle's service is the store, whose signed address may have expired
        if status in REFUSALS and "Service/" in answer.url:
            raise MinclipError(REFUSALS[status].format(source=source)) from None
        why = f"no answer for {TIMEOUT} s" if "timed out" in str(error) else type(error).__name__
        reason = f"Kaggle answers {status}" if status else f"the connection to Kaggle failed ({why})"
        raise MinclipError(f"{reason}: {AGAIN} later; what was downloaded so far is kept") from None


def _ask(source: str, archive: Path) -> None:
    with contextlib.redirect_stdout(io.StringIO()):  # its help page
        import kaggle  # signs in, and hides what goes wrong
        from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

        kaggle.api.authenticate()
    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = source.split("/")
    with kaggle.api.build_kaggle_client() as client, contextlib.redirect_stdout(sys.stderr):
        response = client.datasets.dataset_api_client.download_dataset(request)
        if "html" in response.headers.get("Content-Type", ""):
            login = f"does this network need a login?  Open {PAGE}{source} in a browser, and {AGAIN}"
            raise MinclipError(f"a web page came instead of the zip of {source}: {login}")
        size, free = int(response.headers.get("Content-Length", 0)), shutil.disk_usage(archive.parent).free
        had = archive.stat().st_size if archive.exists() else 0
        missing = 2 * size - min(had, size)  # photographs take as much room in their zip as outside
        room = f"needs {missing / 1e6:,.1f} MB in {archive.parent.parent}, and {free / 1e6:,.1f} MB are free"
        need(missing <= free, f"the zip of {source}, unpacked, {room}: free some, or set to=FOLDER on another disk")
        try:
            options = {"quiet": False, "resume": True, "timeout": TIMEOUT}
            kaggle.api.download_file(response, str(archive), client.http_client(), **options)
        except ValueError:  # another size than announced: an error page was taken for the rest of the file
            archive.unlink()
            raise MinclipError(f"the rest of the zip of {source} could not be had: {AGAIN} later") from None


def _unpack(source: str, archive: Path, folder: Path) -> None:
    unpacked, name = archive.parent / "unpacked", ""
    shutil.rmtree(unpacked, ignore_errors=True)  # of a run that was killed
    from .photos.images import BROKEN  # Pillow, which `import minclip` waits with

    try:
        with zipfile.ZipFile(archive) as zipped:
            files = zipped.infolist()
            if not files:
                raise zipfile.BadZipFile("it is empty")
            for path in (PureWindowsPath(file.filename) for file in files):  # knows every system's dangers: C:, \ and /
                if path.drive or path.root or ".." in path.parts:
                    raise zipfile.BadZipFile(f"the name {str(path)!r} leads out of its folder")
            for file in tqdm(files, "unpacking", unit=" files", leave=False):
                name = f"{file.filename!r}: "
                zipped.extract(file, unpacked)  # checks its CRC
        mark = {"source": source, "bytes": archive.stat().st_size, "sha256": sha256(archive), "date": str(date.today())}
        (unpacked / MARK).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()  # empty: Windows moves nothing onto it
        os.replace(unpacked, folder)
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk's fault
        archive.unlink()
        todo = f"{AGAIN}, and tell the data set's owner at {PAGE}{source} if that ends the same way"
        raise MinclipError(f"the zip of {source} is damaged ({name}{error}) and was deleted: {todo}") from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)

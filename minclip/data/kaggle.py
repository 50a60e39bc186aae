"""Data sets from Kaggle, through its own client: whole or not at all, resumed after whatever stopped them, never fetched twice."""

import contextlib
import errno
import io
import json
import os
import re
import shutil
import sys
import time
import zipfile
import zlib
from collections.abc import Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PureWindowsPath
from typing import Any

from tqdm.auto import tqdm

from ..config import MinclipError, data_folder, nearest
from ..weights.hub import sha256

SOURCES = {
    "flickr8k": "adityajn105/flickr8k",
    "flickr30k": "adityajn105/flickr30k",
    "karpathy-splits": "shtvkumar/karpathy-splits",
}
MARK = ".fetched.json"  # in a folder that is whole: what it was made of
TIMEOUT, PAUSES = 60, (1, 2, 4, 8, 16)  # seconds until a silent server is given up, and before it is asked again
LONGEST = 300  # seconds that a server may ask to be left alone without being given up
PAGE = "https://www.kaggle.com/datasets/"
NO_CREDENTIALS = """Kaggle gives its data sets to who has an account, and no valid credentials were found. Three steps:
  1. make an account at https://www.kaggle.com/account/login (it costs nothing)
  2. at https://www.kaggle.com/settings/api click "Generate New Token" and copy it
  3. put it into the file ~/.kaggle/access_token, or into the environment variable KAGGLE_API_TOKEN
Then run the same command again. KAGGLE_USERNAME with KAGGLE_KEY, and kaggle.json, are read, too."""


def fetched(name: str) -> str:
    """Where the data set lies that `fetch` brought to the data folder under `name`; "" where there is none."""
    folder = data_folder() / name
    return str(folder) if (folder / MARK).exists() else ""


def fetch(name: str, to: str | Path = "", source: str = "") -> dict[str, Any]:
    """Brings a data set of Kaggle to the folder `to`, by default the data folder's `name`, and tells what it is.

    `name` is a key of SOURCES; `source` another data set in its place, "owner/name".  Returns `folder`, `new` (False where
    it was there already, and nothing was asked for), and of its zip `source`, `bytes`, `sha256`, and `date`.  Everything is
    made in a hidden folder beside `to` and then moved: what is there is whole.  MinclipError where it can't be had; what
    came until then is kept, and the next call goes on from there.
    """
    if name not in SOURCES:
        raise MinclipError(f"no data set is named {name!r}{nearest(name, SOURCES)}: choose from {', '.join(SOURCES)}")
    if source and source.count("/") != 1:
        raise MinclipError(f"the source {source!r} is no data set of Kaggle's: give OWNER/NAME")
    folder = Path(to or data_folder() / name).absolute()
    if (folder / MARK).exists():
        return _there(folder, source)
    source = source or SOURCES[name]
    _check_client()
    from filelock import FileLock, Timeout

    work = folder.with_name(f".{folder.name}.fetch")
    archive = work / f"{source.replace('/', '_')}.zip"
    work.mkdir(parents=True, exist_ok=True)
    lock = FileLock(work / "lock")  # goes with its process, also after kill -9
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MinclipError(f"another process is fetching {folder}: wait until it is through") from None
    try:
        if not (folder / MARK).exists():  # else another process was faster
            _make_room(folder)
            _download(source, archive)
            _unpack(source, archive, folder)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise MinclipError(
            f"no space left on the disk of {folder}: free some, and run the same command again; what was downloaded is kept"
        ) from None
    finally:
        lock.release()
        if (folder / MARK).exists() or not archive.exists():
            shutil.rmtree(work, ignore_errors=True)
    return _there(folder, source) | {"new": True}


def _there(folder: Path, source: str) -> dict[str, Any]:
    mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    if source and source != mark["source"]:
        raise MinclipError(f"{folder} holds {mark['source']} already: give another folder for {source} with --to")
    return {"folder": str(folder), "new": False, **mark}


def _make_room(folder: Path) -> None:
    try:
        folder.rmdir()  # an empty one is as good as none
    except FileNotFoundError:
        pass
    except OSError:
        raise MinclipError(
            f"{folder} is there, and did not come from minclip fetch: move it away, or give another folder with --to"
        ) from None


def _check_client() -> None:
    try:
        there = version("kaggle")
    except PackageNotFoundError:
        there = "0.0"
    if tuple(map(int, re.findall(r"\d+", there)[:2])) < (
        2,
        2,
    ):  # older ones keep the whole zip in memory and don't resume
        raise MinclipError(
            "minclip fetch needs Kaggle's client, 2.2 or newer (on Python 3.11 or newer): pip install 'kaggle>=2.2'"
        )


# ---- downloading


def _download(source: str, archive: Path) -> None:
    """The zip, asked for as often as is sensible; it is whole when the client's mark of an unfinished one is gone."""
    import requests

    unfinished, failures = Path(f"{archive}.kaggle-partial"), 0
    while unfinished.exists() or not archive.exists():
        before = archive.stat().st_size if archive.exists() else 0
        try:
            with _timeouts():
                _ask(source, archive)
        except requests.RequestException as error:
            status = 0 if error.response is None else error.response.status_code
            if status and status != 429 and status < 500:
                raise MinclipError(_refusal(source, status)) from None
            if archive.exists() and archive.stat().st_size > before:
                failures = 0  # a bad line, but one that gets on
            busy = " (too many requests)" if status == 429 else ""
            reason = f"Kaggle answers {status}{busy}" if status else f"the connection to Kaggle failed ({_why(error)})"
            told = error.response.headers.get("Retry-After", "") if status else ""
            pause = int(told) if told.isdigit() else PAUSES[min(failures, len(PAUSES) - 1)]
            if failures == len(PAUSES) or pause > LONGEST:
                when = f"in {pause} s, as it asks" if pause > LONGEST else "later"
                raise MinclipError(
                    f"{reason}: run the same command again {when}; what was downloaded so far is kept"
                ) from None
            failures += 1
            print(f"minclip: {reason}; trying again in {pause} s", file=sys.stderr)
            time.sleep(pause)


def _ask(source: str, archive: Path) -> None:
    """One attempt: signs in, asks for the zip, and goes on where the last attempt stopped, if it is the same zip."""
    import requests

    try:
        with contextlib.redirect_stdout(io.StringIO()):  # its help page
            import kaggle  # signs in, and hides what goes wrong
            from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

            kaggle.api.authenticate()
    except SystemExit:
        raise MinclipError(NO_CREDENTIALS) from None
    request = ApiDownloadDatasetRequest()
    request.owner_slug, request.dataset_slug = source.split("/")
    with kaggle.api.build_kaggle_client() as client, contextlib.redirect_stdout(io.StringIO()):
        response = client.datasets.dataset_api_client.download_dataset(request)
        if "html" in response.headers.get("Content-Type", ""):
            raise MinclipError(
                f"a web page came instead of the zip of {source}: does this network want a login first?  Open {PAGE}{source} "
                "in a browser, and run the same command again"
            )
        size = int(response.headers.get("Content-Length", 0))
        have = archive.stat().st_size if archive.exists() else 0
        _need_space(archive.parent, 2 * size - min(have, size), f"the zip of {source} and what is in it")
        try:
            # no retries of its own: each would ask the same address again, which is signed for a while only
            kaggle.api.download_file(
                response, str(archive), client.http_client(), quiet=False, resume=True, max_retries=0, timeout=TIMEOUT
            )
        except ValueError:  # another size than announced: an error page was taken for the rest of the file
            archive.unlink()
            raise requests.ConnectionError("the rest of the file could not be had") from None


@contextlib.contextmanager
def _timeouts() -> Iterator[None]:
    """Lets no request wait for longer than TIMEOUT: the client gives its first ones no timeout, and has no setting for it."""
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send

    def patient(self: HTTPAdapter, request: Any, stream: bool = False, timeout: Any = None, **options: Any) -> Any:
        return send(self, request, stream, timeout or TIMEOUT, **options)

    HTTPAdapter.send = patient
    try:
        yield
    finally:
        HTTPAdapter.send = send


def _why(error: Exception) -> str:
    if "timed out" in str(error):
        return f"no answer for {TIMEOUT} s"
    return "it broke off" if "IncompleteRead" in str(error) or "abort" in str(error) else type(error).__name__


def _refusal(source: str, status: int) -> str:
    if status == 401:
        return (
            "Kaggle does not accept these credentials (401): make a new token at https://www.kaggle.com/settings/api and put "
            "it in the place of the old one (KAGGLE_API_TOKEN, ~/.kaggle/access_token, KAGGLE_KEY or kaggle.json)"
        )
    if status == 403:
        return (
            f"Kaggle does not give {source} to this account (403): open {PAGE}{source} in a browser, signed in, accept the "
            "data set's rules if it asks for it, and run the same command again"
        )
    if status == 404:
        return f"Kaggle has no data set {source} (404): look for it at https://www.kaggle.com/datasets and give --source OWNER/NAME"
    return f"Kaggle refuses {source} with the answer {status}"


# ---- unpacking


def _unpack(source: str, archive: Path, folder: Path) -> None:
    unpacked = archive.parent / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)  # of a run that was killed
    try:
        with zipfile.ZipFile(archive) as zipped:
            files = zipped.infolist()
            if not files:
                raise zipfile.BadZipFile("it is empty")
            for file in files:
                path = PureWindowsPath(file.filename)  # knows the dangers of all systems: C:, \ and /
                if path.drive or path.root or ".." in path.parts:
                    raise zipfile.BadZipFile(f"the name {file.filename!r} in it leads out of its folder")
            # a file fills its last block of the disk
            _need_space(archive.parent, sum(f.file_size + 4096 for f in files), f"what is in the zip of {source}")
            for file in tqdm(files, "unpacking", unit=" files", leave=False):
                zipped.extract(file, unpacked)  # checks its CRC
        mark = {"source": source, "bytes": archive.stat().st_size, "sha256": sha256(archive)}
        mark["date"] = date.today().isoformat()
        (unpacked / MARK).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
        os.replace(unpacked, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        archive.unlink()
        raise MinclipError(
            f"what Kaggle sent as {source} is no good zip ({error}) and was deleted: run the same command again, and tell "
            f"the data set's owner at {PAGE}{source} if that ends alike"
        ) from None
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _need_space(place: Path, need: int, what: str) -> None:
    free = shutil.disk_usage(place).free
    if need > free:
        raise MinclipError(
            f"{_size(need)} are needed in {place.parent} for {what}, and {_size(free)} are free: free some and run the same "
            "command again, or give a folder on another disk with --to"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"

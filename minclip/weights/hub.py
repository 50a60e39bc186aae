"""The folder for downloads, and files from the Hugging Face Hub, downloaded once and checked against their hash."""

import contextlib
import hashlib
import inspect
import os
import tempfile
from pathlib import Path

from ..config import MinclipError, need
from ..training.bars import in_notebook, tqdm


def data_folder() -> Path:
    """Absolute path of downloads, caches and the demo: `$MINCLIP_DATA`, a clone's `data/`, or `~/.cache/minclip`."""
    if os.environ.get("MINCLIP_DATA"):
        return Path(os.environ["MINCLIP_DATA"]).absolute()
    # beside the package in a clone; beside the notebooks if the package was installed elsewhere
    for place in (Path(__file__).parents[2] / "data", Path("data"), Path("../data")):
        if (place / ".minclip-data").exists():  # only minclip's own data/ has this file
            return place.resolve()
    return user_cache("minclip")


def user_cache(name: str) -> Path:
    try:
        return Path.home() / ".cache" / name
    except RuntimeError:  # a container's user may have no home
        return Path(tempfile.gettempdir()) / name


def hub_file(repo: str, name: str, *, by_hand: str | None = None, missing_ok: bool = False) -> Path | None:
    """Downloads the file `name` of a repository "owner/name" into the cache of `huggingface_hub`; returns its path.

    That library resumes downloads and reads `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE`.  None if the repository
    lacks the file and `missing_ok`.  MinclipError: no network (with `by_hand` as advice), no such file, a wrong hash.
    """
    from huggingface_hub import constants, errors, hf_hub_download  # takes 0.25 s, which `import minclip` shouldn't

    # without a home directory, as in some containers, the library would make a folder named "~"
    cache = data_folder() / "huggingface" if constants.HF_HUB_CACHE[0] == "~" else constants.HF_HUB_CACHE
    copy = f"run `hf download {repo}`, and copy that machine's ~/.cache/huggingface/hub to {cache}"
    by_hand = by_hand or f"On a machine with a network, {copy}"
    ours = in_notebook and "tqdm_class" in inspect.signature(hf_hub_download).parameters  # no widget
    try:
        path = Path(hf_hub_download(repo, name, cache_dir=cache, **{"tqdm_class": tqdm} if ours else {}))
    except errors.LocalEntryNotFoundError:
        there = Path(cache, f"models--{repo.replace('/', '--')}", "snapshots").glob("**/*")
        if missing_ok and any(file.suffix in (".safetensors", ".bin") for file in there):
            return None  # a repository that was downloaded whole, as advised below: what it lacks, the hub lacks
        where = f"the cache {cache}, and the hub can't be reached (no network?)"
        raise MinclipError(f"{repo}/{name} is not in {where}.  {by_hand}") from None
    except errors.RepositoryNotFoundError:
        raise MinclipError(f"the hub has no repository {repo!r}, or it is private or gated: set HF_TOKEN") from None
    except errors.EntryNotFoundError:
        need(missing_ok, f"the hub's repository {repo} has no file {name}")
        return None
    except (OSError, ValueError) as error:  # a full disk, a server error, an invalid name
        raise MinclipError(f"{repo}/{name} can't be downloaded: {str(error).strip()}  {by_hand}") from None
    check_hub_hash(path)
    return path


def check_hub_hash(path: Path) -> None:
    """Refuses a file in the hub's cache that doesn't match its hash, which is its name there."""
    blob = path.resolve()
    same = True  # in a cache without symbolic links (Windows), names are not hashes
    if len(blob.name) == 64:
        same = has_sha256(blob, blob.name)
    elif len(blob.name) == 40:  # small files have git's SHA-1
        same = hashlib.sha1(b"blob %d\0" % blob.stat().st_size + blob.read_bytes()).hexdigest() == blob.name
    need(same, f"{path} was changed or cut off: it doesn't match its hash; delete {blob} and try again")


def has_sha256(path: Path, wanted: str) -> bool:
    """Whether the file has this SHA-256; a marker, valid until its size or times change, saves hashing it again."""
    state = path.stat()  # no program can set ctime
    key = f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {wanted}"
    marker = data_folder() / "hashes" / hashlib.sha256(os.fsencode(key)).hexdigest()
    same = marker.exists() or sha256(path) == wanted  # reading 1.7 GB takes seconds
    if same:
        with contextlib.suppress(OSError):  # if the data folder is read-only, the file is hashed again next time
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
    return same


def sha256(path: Path) -> str:
    """A file's SHA-256 in hex, read in chunks: weights may be larger than memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()

"""Files from Hugging Face's hub: fetched once, checked against their hash, or a MinclipError that says what to do by hand."""

import hashlib
from pathlib import Path

from ..config import MinclipError


class NoSuchFile(MinclipError):
    """The hub's repository is there, but has no file of that name."""


def hub_file(repo: str, name: str, by_hand: str = "") -> Path:
    """The file `name` of the hub's repository `repo` ("owner/name"), in the user's cache of `huggingface_hub`.

    That library resumes downloads and reads `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE`.  MinclipError where there is
    no such file, no network, or another content than the hub announced; `by_hand` says what to do without a network.
    """
    from huggingface_hub import hf_hub_download  # a quarter of a second that `import minclip` should not cost
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RepositoryNotFoundError

    by_hand = by_hand or (
        f"Where there is a network, download the config and the weights from https://huggingface.co/{repo}/tree/main "
        "into one folder, and name that folder"
    )
    try:
        path = Path(hf_hub_download(repo, name))
    except LocalEntryNotFoundError:
        raise MinclipError(
            f"{repo}/{name} is not in the cache, and the hub can't be reached (no network?).  {by_hand}"
        ) from None
    except RepositoryNotFoundError:
        raise MinclipError(
            f"the hub has no repository {repo!r}, or it is private or gated (then set HF_TOKEN)"
        ) from None
    except EntryNotFoundError:
        raise NoSuchFile(f"the hub's repository {repo} has no file {name}") from None
    except (OSError, ValueError) as error:  # a full disk, an error of the server, a name that can't be one
        raise MinclipError(f"{repo}/{name} can't be fetched: {str(error).strip()}  {by_hand}") from None
    check_hub_hash(path)
    return path


def check_hub_hash(path: Path) -> None:
    """Refuses a file of the hub's cache whose content is not what its name there says.

    The cache keeps each file under the hub's hash of it: SHA-256 for large files, git's SHA-1 for small ones.
    """
    blob = path.resolve()
    if len(blob.name) == 64:
        found = sha256(blob)
    elif len(blob.name) == 40:
        data = blob.read_bytes()
        found = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    else:
        return  # a cache without links (Windows): there the names tell nothing
    if found != blob.name:
        raise MinclipError(
            f"{path} was changed or cut off: its hash is {found[:12]}…, not {blob.name[:12]}….  Delete {blob} and try again"
        )


def sha256(path: Path) -> str:
    """A file's SHA-256 in hex, read in pieces: weights may be larger than memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()

"""OpenAI's list of merges, which all its published weights were trained with: found, fetched and checked."""

import gzip
import hashlib
import importlib.util
import zlib
from pathlib import Path

from ..config import MinclipError
from .hub import data_folder, hub_file

FILE = "bpe_simple_vocab_16e6.txt.gz"
COUNT = 49152 - 256 - 2  # the file holds more; OpenAI's vocabulary stops here
SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"  # of those lines


def openai_merges(path: str | Path | None = None) -> list[tuple[str, str]]:
    """The 48,894 pairs of OpenAI's vocabulary, in their order.

    `path` is OpenAI's `bpe_simple_vocab_16e6.txt.gz` or Hugging Face's `merges.txt`; without one, the file comes from
    an installed open_clip_torch, from minclip's data folder, or from the hub.  MinclipError: missing or other content.
    """
    path = Path(path) if path else _find()
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise MinclipError(f"{path} is missing, cut off or damaged: {error}") from None
    lines = text.split("\n")[1 : 1 + COUNT]  # the first line is the version
    if hashlib.sha256("\n".join(lines).encode()).hexdigest() != SHA256:
        raise MinclipError(f"{path} does not hold OpenAI's {COUNT:,} merges: its hash is a different one")
    return [tuple(line.split(" ")) for line in lines]


def _find() -> Path:
    peer = importlib.util.find_spec("open_clip")  # found, not imported: that takes seconds
    places = [*([Path(peer.origin).with_name(FILE)] if peer and peer.origin else []), data_folder() / FILE]
    address = f"https://github.com/openai/CLIP/raw/main/clip/{FILE}"
    by_hand = f"pip install open_clip_torch, or put {address} into {data_folder()}"
    found = next((place for place in places if place.exists()), None)
    return found or hub_file("openai/clip-vit-base-patch32", "merges.txt", by_hand=by_hand)

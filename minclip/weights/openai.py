"""OpenAI's nine models and its vocabulary: finds or downloads them, and checks their hashes."""

import gzip
import hashlib
import importlib.util
from pathlib import Path

from ..config import need
from .files import errors_naming
from .hub import data_folder, has_sha256, hub_file, user_cache

# Each model's name, the SHA-256 of OpenAI's file, and X if the hub has the same weights as timm/X.openai
_MODELS = """
RN50            afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762  resnet50_clip
RN101           8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599  resnet101_clip
RN50x4          7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd  resnet50x4_clip
RN50x16         52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa  resnet50x16_clip
RN50x64         be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c  resnet50x64_clip
ViT-B/32        40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af  vit_base_patch32_clip_224
ViT-B/16        5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f  vit_base_patch16_clip_224
ViT-L/14        b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836  vit_large_patch14_clip_224
ViT-L/14@336px  3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02  vit_large_patch14_clip_336
"""
OPENAI = {name: (digest, repo) for name, digest, repo in map(str.split, _MODELS.strip().splitlines())}
MERGES_FILE = "bpe_simple_vocab_16e6.txt.gz"
MERGES = 49152 - 256 - 2  # OpenAI's vocabulary uses only the first ones in the file
MERGES_SHA256 = "f61f2adf497e6f5357c347aeb4646fabe82f341e946de5bdec5d2858e41bef4a"  # of those lines


def openai_paths(name: str) -> list[Path]:
    """Where OpenAI's file of a model may be: in minclip's data folder, or in the cache of OpenAI's package."""
    file = name.replace("/", "-").replace("@", "-") + ".pt"
    return [data_folder() / file, user_cache("clip") / file]


def find_openai(name: str) -> Path:
    """The path of OpenAI's own file of a model, or else of the hub's copy, which is downloaded."""
    (digest, repo), paths = OPENAI[name], openai_paths(name)
    url = f"https://openaipublic.azureedge.net/clip/models/{digest}/{paths[0].name}"
    by_hand = f"On a machine with a network, download {url} and put it into {' or '.join(str(p.parent) for p in paths)}"
    found = next((path for path in paths if path.exists()), None)
    return found or hub_file(f"timm/{repo}.openai", "open_clip_model.safetensors", by_hand=by_hand)


def check_openai(path: Path) -> None:
    """Refuses a file at one of `openai_paths` whose content is not OpenAI's."""
    for name, (wanted, _) in OPENAI.items():
        if path.resolve() in [place.resolve() for place in openai_paths(name)]:
            advice = "delete it or, if it is your own, move it elsewhere"
            need(has_sha256(path, wanted), f"{path} is not OpenAI's {name} (SHA-256 {wanted[:12]}…): {advice}")


def openai_merges(path: str | Path | None = None) -> list[tuple[str, str]]:
    """The 48,894 merges of OpenAI's vocabulary, pairs of tokens in the order in which they were learned.

    `path` is OpenAI's `bpe_simple_vocab_16e6.txt.gz` or Hugging Face's `merges.txt`; without one, the file comes from
    an installed open_clip_torch, minclip's data folder, or the hub.  MinclipError: the file is missing or differs.
    """
    path = Path(path) if path else _find_merges()
    with errors_naming(path):
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
        lines = text.split("\n")[1 : 1 + MERGES]  # the first line is the version
        same = hashlib.sha256("\n".join(lines).encode()).hexdigest() == MERGES_SHA256
        need(same, f"it does not hold OpenAI's {MERGES:,} merges (its hash differs): download it again")
        return [tuple(line.split(" ")) for line in lines]


def _find_merges() -> Path:
    peer = importlib.util.find_spec("open_clip")  # located, not imported, which takes seconds
    places = [Path(peer.origin).with_name(MERGES_FILE)] if peer and peer.origin else []
    places.append(data_folder() / MERGES_FILE)
    address = f"https://github.com/openai/CLIP/raw/main/clip/{MERGES_FILE}"
    by_hand = f"pip install open_clip_torch, or put {address} into {data_folder()}"
    found = next((place for place in places if place.exists()), None)
    return found or hub_file("openai/clip-vit-base-patch32", "merges.txt", by_hand=by_hand)

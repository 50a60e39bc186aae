"""Shards as img2dataset writes them, of small pictures that tell their number; some samples broken."""

import io
import json
import tarfile

import numpy as np
from PIL import Image


def painted(number, kind="PNG"):
    """A picture whose colour tells its number, brighter to the right."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = number % 250, number // 250, np.arange(8) * 10
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


def cut_off():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()[: file.tell() // 2]


def sample(number, image=None, caption=None, kind="jpg"):
    """The files of one sample by extension, as img2dataset writes them."""
    caption = f"sample {number}" if caption is None else caption
    about = json.dumps({"caption": caption, "key": f"{number:09d}", "status": "success", "width": 8, "height": 8})
    return {kind: painted(number) if image is None else image, "json": about.encode(), "txt": caption.encode()}


def write(path, samples):
    """`samples`: key -> files by extension."""
    with tarfile.open(path, "w") as tar:
        for key, files in samples.items():
            for kind, content in files.items():
                member = tarfile.TarInfo(f"{key}.{kind}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    path.with_name(path.stem + "_stats.json").write_text("{}")
    path.with_suffix(".parquet").write_bytes(b"PAR1")
    return str(path)


def key(number):
    return f"{number // 1000:05d}{number % 1000:04d}"


def folder(tmp_path, shards=6, each=5, change=()):
    """`shards` shards of `each` samples; `change` puts other files in the place of some, by number."""
    change = dict(change)
    return [
        write(tmp_path / f"{s:05d}.tar", {key(n): change.get(n, sample(n)) for n in range(s * each, (s + 1) * each)})
        for s in range(shards)
    ]


BROKEN = {
    3: sample(3, image=b"<html>404</html>"),
    4: sample(4, image=cut_off()),
    11: {"jpg": painted(11)},
    12: sample(12, caption="  "),
    17: {"txt": b"sample 17"},
    22: sample(22, image=b"nonsense"),
    23: sample(23, image=b""),
}
GOOD = set(range(30)) - set(BROKEN)

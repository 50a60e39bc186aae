"""Packed photographs against a DataLoader.

    python tests/bench/packer.py [--photographs ZIP] [--count 2000] [--size 224 64] [--json PATH]

Decoding to uint8, short side resized and center cropped: `pack`, which also writes the file, against a `DataLoader`
with Pillow and torchvision's v2 transforms (no workers), and one with `torchvision.io` (two workers). Delivering
augmented batches (random resized crop, flip, normalization) to the training device: from the pack, against the first
of these loaders. The photographs are synthetic (500×375, about 50 KB) unless a zip is given. Results are checked
before timing.
"""

import argparse
import io
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"

import numpy as np
import torch
from common import interleaved, keep_memory, report, write
from PIL import Image, ImageDraw
from torch.utils.data import DataLoader, Dataset
from torchvision.io import ImageReadMode, decode_jpeg, read_file
from torchvision.transforms import v2

from minclip.batches import Batch, assemble, raw_batches, tokenize
from minclip.config import DataConfig, VisionConfig
from minclip.data import Pairs
from minclip.data.photos.pack import pack
from minclip.tokenizer import Tokenizer

BATCH = 64
MIN_CROP = 0.5


def photograph(seed: int) -> bytes:
    """A synthetic JPEG of 500×375: smooth gradients at four scales, a dozen shapes with sharp edges, noise."""
    rng = np.random.default_rng(seed)
    pixels = np.full((375, 500, 3), 128, np.float32)
    for cells, contrast in ((4, 60), (12, 35), (40, 18), (120, 10)):
        coarse = Image.fromarray(rng.integers(0, 256, (cells * 3 // 4, cells, 3), dtype=np.uint8))
        pixels += (np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), np.float32) - 128) * contrast / 64
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        (x, y), (width, height) = rng.integers(0, (500, 375)).tolist(), rng.integers(10, 150, 2).tolist()
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x, y, x + width, y + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
    pixels = np.asarray(image) + rng.normal(0, 3, (375, 500, 1))
    file = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()


def write_photographs(folder: Path, count: int, archive: Path | None) -> list[str]:
    """Writes `count` JPEGs, synthetic or from the archive (which may hold fewer), and returns their paths."""
    files = (photograph(i) for i in range(count))
    if archive:
        source = zipfile.ZipFile(archive)
        files = (source.read(name) for name in [n for n in source.namelist() if n.lower().endswith(".jpg")][:count])
    paths = []
    for number, file in enumerate(files):
        paths.append(str(folder / f"{number:05d}.jpg"))
        Path(paths[-1]).write_bytes(file)
    return paths


class Photographs(Dataset):
    def __init__(self, paths: list[str], transform: v2.Transform, by_pillow: bool) -> None:
        self.paths, self.transform, self.by_pillow = paths, transform, by_pillow

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        path = self.paths[index]
        if self.by_pillow:
            with Image.open(path) as image:
                return self.transform(image.convert("RGB"))
        return self.transform(decode_jpeg(read_file(path), mode=ImageReadMode.RGB))


def loaded(dataset: Dataset, workers: int, device: torch.device) -> int:
    return sum(len(batch.to(device)) for batch in DataLoader(dataset, BATCH, num_workers=workers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, metavar="ZIP")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--size", type=int, nargs="+", default=[224, 64])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10, help="epochs of packed batches that are timed together")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["MINCLIP_DATA"] = str(folder / "data")
        paths = write_photographs(folder, args.count, args.photographs)
        kilobytes = sum(Path(path).stat().st_size for path in paths) / len(paths) / 1000
        print(f"{len(paths)} photographs of {kilobytes:.0f} KB on average")
        for size in args.size:
            results[str(size)] = one_size(paths, size, device, args.rounds, args.epochs)
            shutil.rmtree(folder / "data")
    write(args.json, results)


def one_size(paths: list[str], size: int, device: torch.device, rounds: int, epochs: int) -> dict[str, object]:
    whole = v2.Compose([v2.Resize(size, v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(size)])
    pillow = Photographs(paths, v2.Compose([v2.ToImage(), whole]), True)
    vision, packs = VisionConfig(image_size=size), []
    cache = Path(os.environ["MINCLIP_DATA"]) / "cache"

    def packed() -> np.memmap:
        packs.append(len(packs))
        if cache.exists():
            shutil.rmtree(cache)
        return pack(paths, lambda path: Path(path).read_bytes(), size, place=f"round {len(packs)}")[0]

    difference = np.mean([abs(a.astype(int) - pillow[i].numpy()).mean() for i, a in enumerate(packed()[:50])])
    print(
        f"\n{size} px: mean difference from Pillow and v2 {difference:.2f} of 255 (crops differ by up to half a pixel)"
    )
    decoding = interleaved(
        {
            "pack": packed,
            "DataLoader, Pillow, no worker": lambda: loaded(pillow, 0, torch.device("cpu")),
            "DataLoader, torchvision.io, 2 workers": lambda: loaded(
                Photographs(paths, whole, False), 2, torch.device("cpu")
            ),
        },
        rounds,
    )

    pairs = Pairs(packed(), [["a photograph"]] * len(paths), paths)
    captions = tokenize(pairs, Tokenizer([]), 16)
    data = DataConfig(image_size=size, min_crop=MIN_CROP, flip=True)
    crop = v2.RandomResizedCrop(size, (MIN_CROP, 1), antialias=True)
    floats = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(vision.mean, vision.std)])
    augmented = Photographs(paths, v2.Compose([v2.ToImage(), crop, v2.RandomHorizontalFlip(), floats]), True)

    def assembled(epoch: int, device: torch.device | str) -> Iterator[Batch]:
        for raw in raw_batches(pairs, captions, batch_size=min(BATCH, len(pairs)), epoch=epoch, seed=0):
            yield assemble(raw, data, vision, device=device)

    def delivered() -> int:
        return sum(len(batch.images) for epoch in range(epochs) for batch in assembled(epoch, device))

    ours = torch.cat([batch.images for batch in assembled(0, "cpu")])
    theirs = torch.stack([augmented[i] for i in range(min(BATCH, len(pairs)))])
    assert ours.shape[1:] == theirs.shape[1:] and ours.dtype == theirs.dtype
    assert abs(ours.std() / theirs.std() - 1) < 0.2, (ours.std(), theirs.std())
    delivering = interleaved(
        {"batches": delivered, "DataLoader, Pillow, no worker": lambda: loaded(augmented, 0, device)}, rounds
    )
    # an epoch drops its incomplete last batch
    share = len(paths) / (epochs * (len(pairs) // min(BATCH, len(pairs))) * min(BATCH, len(pairs)))
    delivering["batches"] = [seconds * share for seconds in delivering["batches"]]
    return {
        "decoding": report(f"{size} px: decoding", decoding, len(paths), "images"),
        "delivering": report(
            f"{size} px: crops delivered to the training step ({device})", delivering, len(paths), "images"
        ),
    }


if __name__ == "__main__":
    main()

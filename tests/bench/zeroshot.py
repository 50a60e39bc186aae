"""Zero-shot classification against the bare image tower.

    python tests/bench/zeroshot.py [--images 100000] [--classes 1000] [--json PATH]

Compares images per second of a whole evaluation (building the classifier, normalizing uint8 pixels, embedding,
comparing with every class, top-1 and top-5 accuracy) with those of the tower alone on normalized batches. Both use one
batch of random images again and again. The tower is small enough for a laptop; ViT-B/16 is about
`--width 768 --layers 12 --image-size 224`.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from common import interleaved, keep_memory, peak_memory, report, write

from minclip import CLIP, Tokenizer, zero_shot_classifier
from minclip.batches import normalize
from minclip.config import CLIPConfig, TextConfig, VisionConfig
from minclip.data import Pairs
from minclip.evaluate import embed_images
from minclip.evaluate.metrics import accuracy

TEMPLATES = ("a photo of a {}", "a drawing of a {}", "one {} among others")


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--embed-dim", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    names = [f"thing {i} of its kind" for i in range(args.classes)]
    tokenizer = Tokenizer.train([template.replace("{}", name) for name in names for template in TEMPLATES], 600)
    vision = VisionConfig(
        image_size=args.image_size, patch_size=16, width=args.width, layers=args.layers, heads=args.width // 64
    )
    text = TextConfig(context_length=40, vocab_size=tokenizer.vocab_size, width=128, layers=2, heads=2)
    model = CLIP(CLIPConfig(args.embed_dim, vision, text)).eval().to(device)

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (args.batch_size, 3, args.image_size, args.image_size), np.uint8)
    ready = normalize(torch.from_numpy(pixels).to(device), vision)
    labels = rng.integers(0, args.classes, args.images)
    images = np.broadcast_to(pixels[0], (args.images, *pixels.shape[1:]))  # a batch of it is copied, as if from disk
    pairs = Pairs(images, [["a caption"]] * args.images, [""] * args.images)

    def sizes() -> Iterator[int]:
        for i in range(0, args.images, args.batch_size):
            yield min(args.batch_size, args.images - i)

    def bare() -> None:
        for size in sizes():
            model.encode_image(ready[:size])

    def zero_shot() -> None:
        classifier = zero_shot_classifier(model, tokenizer, names, templates=TEMPLATES)
        scores = (embed_images(model, pairs, batch_size=args.batch_size) @ classifier).cpu()
        assert accuracy(scores, labels) <= accuracy(scores, labels, k=5)

    zero_shot()
    seconds = interleaved({"bare tower": bare, "zero-shot": zero_shot}, args.rounds)
    title = f"{args.images:,} images × {args.classes:,} classes"
    results: dict[str, object] = {"speed": report(title, seconds, args.images, "images")}
    speed = 1 / results["speed"]["zero-shot"]["ratio"]
    print(f"\nzero-shot runs at {speed:.3f} of the bare tower's images per second")
    results["peak bytes"] = peak_memory(zero_shot)
    held = 4 * args.images * args.classes
    print(f"peak memory {results['peak bytes'] / 1e6:,.0f} MB, of which the scores are {held / 1e6:,.0f} MB")
    write(args.json, results)


if __name__ == "__main__":
    main()

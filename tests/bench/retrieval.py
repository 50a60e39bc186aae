"""Retrieval and search at realistic sizes.

    python tests/bench/retrieval.py [--images 31783] [--peer-images 1000] [--json PATH]

First, recall on random features of Flickr30k's size, with five captions per image: seconds, and peak memory above the
features. Second, the same against clip_benchmark's evaluator, at a size at which its one-hot matrices fit into memory;
the recalls are checked for equality before anything is timed. Last, single queries over 100,000 vectors.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k
from common import interleaved, peak_memory, report, write

from minclip import retrieval
from minclip.evaluate.search import Index


def features(images: int, dim: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random image vectors, and five caption vectors near each of them, so that many captions are retrieved."""
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(images, dim, generator=generator)
    owner = torch.arange(images).repeat_interleave(5)
    text = image[owner] + 3 * torch.randn(5 * images, dim, generator=generator)
    return F.normalize(image, dim=1), F.normalize(text, dim=1), owner


def peer(image: torch.Tensor, text: torch.Tensor, owner: torch.Tensor) -> dict[str, float]:
    """The steps of `zeroshot_retrieval.evaluate` after the features are computed, in batches of 64."""
    scores = text @ image.t()
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(scores)), owner] = True
    out = {}
    for way, x, y in (("text_to_image", scores, positive), ("image_to_text", scores.T, positive.T)):
        for k in (1, 5, 10):
            out[f"{way}_r@{k}"] = (batchify(recall_at_k, x, y, 64, "cpu", k=k) > 0).float().mean().item()
    return out


def latency(count: int, dim: int, rounds: int) -> list[float]:
    """Seconds of single queries over `count` vectors."""
    vectors = F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(0)), dim=1)
    paths, seconds = [f"{i:06}.jpg" for i in range(count)], []
    index = Index(None, paths, vectors, loaded=(None, None, None), broken=[], notes=[])
    for i in range(rounds):
        start = time.perf_counter()
        hits = index.search(vectors[i])
        seconds.append(time.perf_counter() - start)
        assert hits[0].path == index.paths[i]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=31_783)
    parser.add_argument("--peer-images", type=int, default=1000)
    parser.add_argument("--search-images", type=int, default=100_000)
    parser.add_argument("--embed-dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    results: dict[str, object] = {}

    image, text, owner = features(args.images, args.embed_dim)
    seconds = interleaved({"minclip": lambda: retrieval(image, text, owner)}, args.rounds, warm_up=False)
    title = f"{args.images:,} images × {len(text):,} captions, {args.embed_dim} numbers each"
    results["whole"] = report(title, seconds, len(image) * len(text), "scores")
    results["peak bytes"] = peak_memory(lambda: retrieval(image, text, owner))
    held = image.nbytes + text.nbytes
    print(f"\npeak memory above the features' {held / 1e6:,.0f} MB: {results['peak bytes'] / 1e6:,.0f} MB", flush=True)

    image, text, owner = features(args.peer_images, args.embed_dim)
    ours, theirs = retrieval(image, text, owner), peer(image, text, owner)
    assert all(abs(ours[name] - value) < 1e-6 for name, value in theirs.items()), (ours, theirs)
    runs = {"minclip": lambda: retrieval(image, text, owner), "clip_benchmark": lambda: peer(image, text, owner)}
    title = f"{args.peer_images:,} images × {len(text):,} captions, equal recalls"
    results["beside"] = report(title, interleaved(runs, args.rounds), len(image) * len(text), "scores")

    seconds = latency(args.search_images, args.embed_dim, 200)
    results["search"] = report(f"one query over {args.search_images:,} images", {"minclip": seconds}, 1, "queries")
    slowest = float(np.quantile(seconds, 0.95))
    print(f"median {1000 * statistics.median(seconds):.2f} ms, 95 % below {1000 * slowest:.2f} ms")
    write(args.json, results)


if __name__ == "__main__":
    main()

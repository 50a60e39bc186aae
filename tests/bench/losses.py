"""The chunked loss against open_clip's.

    python tests/bench/losses.py [--batch-size 16384] [--chunk-size 256] [--json PATH]

Measures forward and backward passes on given features: seconds, and peak memory above the features (of the process; on
CUDA, of the allocator). Values and gradients are checked for equality before anything is timed.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from common import interleaved, keep_memory, peak_memory, report, write

from minclip import clip_loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=16_384)
    parser.add_argument("--embed-dim", type=int, default=512)
    parser.add_argument("--chunk-size", type=int, nargs="+", default=[256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    keep_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    image, text = (F.normalize(torch.randn(args.batch_size, args.embed_dim, device=device), dim=-1) for _ in range(2))
    leaves = [image.requires_grad_(), text.requires_grad_(), torch.tensor(100.0, device=device, requires_grad=True)]
    peer = open_clip.ClipLoss()

    def both(loss: Callable) -> list[torch.Tensor]:
        value = loss(*leaves)
        return [value.detach(), *torch.autograd.grad(value, leaves)]

    runs = {
        f"minclip, chunks of {size}": lambda size=size: both(lambda i, t, s: clip_loss(i, t, s, chunk_size=size))
        for size in args.chunk_size
    }
    runs |= {"minclip, whole matrix": lambda: both(clip_loss), "open_clip": lambda: both(peer)}
    wanted = runs["open_clip"]()
    for run in runs.values():
        for a, b in zip(run(), wanted):
            assert (a - b).abs().max() <= 1e-5 * max(1, b.abs().max())
    del wanted
    memory = {name: peak_memory(run) for name, run in runs.items()}
    print("\n| run | extra memory, MB |\n|---|---|")
    for name, amount in memory.items():
        print(f"| {name} | {amount / 2**20:,.0f} |")
    title = f"loss forward and backward, B = {args.batch_size:,}, D = {args.embed_dim}"
    times = report(title, interleaved(runs, args.rounds, warm_up=False), args.batch_size, "pairs")
    write(args.json, {"seconds": times, "extra bytes": memory})


if __name__ == "__main__":
    main()

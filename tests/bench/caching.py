"""Peak memory of gradient caching.

    python tests/bench/caching.py [--batch-size 1024 32768] [--micro-batch 256] [--json PATH]

The model is size S of tests/bench/training.py. A batch is one pair expanded without copying, so that the data take no
memory. Each batch size is measured in its own process.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from common import peak_memory, write
from training import SIZES, captions

from minclip import CLIP
from minclip.batches import Batch
from minclip.config import CLIPConfig, LoopConfig, TextConfig, VisionConfig
from minclip.training.engine import gradients, pick_device


def measure(batch_size: int, micro_batch: int) -> None:
    """Prints peak memory in bytes, above what was in use before, and seconds of one step's gradients, as JSON."""
    device, autocast = pick_device("auto", "auto")
    embed_dim, vision, text, _ = SIZES["S"]
    vision = VisionConfig(image_size=64, patch_size=8, width=192, layers=vision["layers"], heads=3)
    model = CLIP(CLIPConfig(embed_dim, vision, TextConfig(**text))).to(device).train()
    images = torch.randn(1, 3, 64, 64, device=device).expand(batch_size, -1, -1, -1)
    ids = captions("S")[:1].to(device).expand(batch_size, -1)
    batch = Batch(images, ids)
    few = Batch(images[:micro_batch], ids[:micro_batch])
    gradients(model, few, LoopConfig(), autocast=autocast, seed=0)  # one-time set-up
    loop, start = LoopConfig(batch_size=batch_size, micro_batch=micro_batch), time.perf_counter()
    used = peak_memory(lambda: gradients(model, batch, loop, autocast=autocast, seed=0))
    print(json.dumps({"bytes": used, "seconds": time.perf_counter() - start}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1024, 32_768])
    parser.add_argument("--micro-batch", type=int, default=256)
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.measure:
        return measure(args.measure, args.micro_batch)
    results = {}
    print("| batch | peak memory, MB | seconds |\n|---|---|---|")
    for size in args.batch_size:
        command = [sys.executable, __file__, "--measure", str(size), "--micro-batch", str(args.micro_batch)]
        out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"| {size:,} | {out['bytes'] / 2**20:,.0f} | {out['seconds']:.0f} |", flush=True)
        results[str(size)] = out
    write(args.json, results)


if __name__ == "__main__":
    main()

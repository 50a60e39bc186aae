"""Training ViT-B/32 at 224 px on a CUDA GPU, minclip against open_clip.

    python tests/bench/gpu.py [--rounds 7] [--json PATH]

Both are compiled and run in bf16 autocast, with the largest power of two as batch size that fits for both. Prints
images per second, the ratio, and model FLOPs utilization relative to the measured peak of a matrix product. Without a
GPU nothing is measured; `--smoke` runs one uncompiled step of 4 pairs on the CPU, to check that the script works.
"""

import argparse
import functools
import logging
import statistics
from pathlib import Path

import open_clip
import torch
from common import interleaved, report, write
from training import both_models, captions, step

from minclip import clip_loss
from minclip.batches import Batch
from minclip.text import trim
from minclip.training import watch
from minclip.training.optim import parameter_groups
from minclip.training.parallel import check_compiler


def both_steps(batch: int, device: torch.device, compiled: bool) -> tuple[dict[str, functools.partial], float]:
    """One training step of each library on the same pairs, and the FLOPs per pair, counted on minclip's model."""
    torch.manual_seed(0)
    theirs, ours = (model.to(device) for model in both_models("L"))
    images = torch.randn(batch, 3, 224, 224, device=device)
    ids = captions("L")[torch.arange(batch) % 8].to(device)
    short = trim(ids, 49407)
    flops = watch.flops_per_pair(ours, Batch(images, short), autocast=torch.bfloat16)
    if compiled:
        check_compiler(device)
        ours.vision.compile(), ours.text.compile(), theirs.compile()
    optimizers = [
        torch.optim.AdamW(parameter_groups(ours, 0.2), lr=1e-5, fused=True),
        torch.optim.AdamW(theirs.parameters(), lr=1e-5, weight_decay=0.2),
    ]
    runs = {
        "minclip": functools.partial(step, ours, clip_loss, optimizers[0], (images, short), True),
        "open_clip": functools.partial(step, theirs, open_clip.ClipLoss(), optimizers[1], (images, ids), True),
    }
    return runs, flops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.disable()
    if not torch.cuda.is_available() and not args.smoke:
        print("no CUDA device found: nothing was measured (--smoke runs one step on the CPU)")
        return
    device, batch = torch.device("cpu" if args.smoke else "cuda"), 4 if args.smoke else 256
    runs, flops = both_steps(batch, device, compiled=not args.smoke)
    while not args.smoke:
        try:
            for run in runs.values():
                run()
            batch, best = 2 * batch, batch
            del runs, run
            torch.cuda.empty_cache()
            runs, flops = both_steps(batch, device, compiled=True)
        except torch.OutOfMemoryError:
            batch = best
            runs = run = None
            torch.cuda.empty_cache()
            runs, flops = both_steps(batch, device, compiled=True)
            break
    peak = watch.peak_flops(device, autocast=torch.bfloat16)
    seconds = interleaved(runs, args.rounds)
    results = {"steps": report(f"ViT-B/32, bf16, {batch} pairs", seconds, batch, "images"), "peak": peak}
    for name, values in seconds.items():
        used = flops * batch / statistics.median(values) / peak  # FLOPs counted on minclip's model, for both
        print(f"{name}: {used:.0%} of {peak / 1e12:.2f} TFLOP/s")
    write(args.json, results)


if __name__ == "__main__":
    main()

"""How many operations a training step asks of the device: on a GPU, each is a launch that the host has to make.

    python tests/bench/launches.py [--preset flickr8k] [--json PATH]

Counts what PyTorch dispatches in one step of a preset, views left out, on random batches of the preset's shape; a CPU
counts the same. Without a GPU it counts, and measures nothing.
"""

import argparse
import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from common import write
from torch.utils._python_dispatch import TorchDispatchMode

from minclip.batches import Batch
from minclip.model import CLIP
from minclip.presets import PRESETS
from minclip.training import engine
from minclip.training.optim import EMA, make_optimizer

VIEWS = {"view", "_unsafe_view", "t", "transpose", "permute", "expand", "select", "slice", "split", "unbind", "alias"}
VIEWS |= {"detach", "unsqueeze", "squeeze", "as_strided", "split_with_sizes", "_reshape_alias", "lift_fresh", "chunk"}


class Count(TorchDispatchMode):
    """Counts operations by the part of the step that is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.part = Counter(), ""

    @contextlib.contextmanager
    def inside(self, part: str) -> Iterator[None]:
        self.part = part
        yield

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ not in VIEWS:
            self.parts[self.part] += 1
        return function(*args, **(kwargs or {}))


def count(preset: str, pairs: int = 8) -> Counter:
    """Part of the step -> operations, in the second step, when the optimizer has its state."""
    config = PRESETS[preset]
    size, loop = config.data.image_size, replace(config.train, batch_size=pairs)
    torch.manual_seed(0)
    clip = CLIP(config.model).train()
    optimizer, ema = make_optimizer(clip, loop), EMA(clip, 0.9) if loop.ema else None
    skips = engine.Skips(clip, fp16=False, saved={"step": 0, "skipped": 0, "since": 0, "loss_scale": 0.0})
    ids = torch.randint(1, 500, (pairs, config.model.text.context_length))
    ids[:, -1] = config.model.text.vocab_size - 1
    for _ in range(2):
        batch = Batch(torch.randn(pairs, 3, size, size), ids)
        optimizer.zero_grad()
        with Count() as counter:
            with counter.inside("forward and backward"):
                loss, _ = engine.gradients(clip, batch, loop, autocast=None, seed=0)
            with counter.inside("clipping"):
                norm = engine.clip_gradients(list(clip.parameters()), loop.grad_clip)
                finite = (loss + norm).isfinite()
                optimizer.found_inf = (~finite).float()
            with counter.inside("optimizer"):
                optimizer.step()
            with counter.inside("average and counts"):
                if ema:
                    ema.update(skips.step, finite)
                skips.count(finite)
    return counter.parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="flickr8k", choices=[*PRESETS])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    parts = count(args.preset)
    for part, operations in parts.items():
        print(f"{part:22} {operations:5}")
    print(f"{'a step':22} {sum(parts.values()):5}")
    write(args.json, dict(parts))


if __name__ == "__main__":
    main()

"""A whole training step against open_clip's.

    python tests/bench/training.py [--size S M L] [--rounds 7] [--json PATH]

Forward pass, loss, backward pass and AdamW, with the same weights, images and captions of 9 to 20 tokens. open_clip
runs in fp32, its default, and in bf16 autocast; its captions are padded to the context length, as its tokenizer does,
and its optimizer is set up as in its training script. Loss and gradients are compared in fp32 before anything is
timed. `--size S --rounds 1 --batch-size 8` only checks that the script works.
"""

import argparse
import functools
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
from common import interleaved, keep_memory, report, write

from minclip import CLIP, clip_loss, load
from minclip.text import trim
from minclip.training.optim import parameter_groups

# size: (embed_dim, vision, text, batch)
SIZES = {
    "S": (128, {"image_size": 64, "patch_size": 8, "width": 192, "layers": 6, "head_width": 64},
          {"context_length": 32, "vocab_size": 2048, "width": 192, "layers": 4, "heads": 3}, 128),
    "M": (256, {"image_size": 112, "patch_size": 16, "width": 384, "layers": 8, "head_width": 64},
          {"context_length": 32, "vocab_size": 8192, "width": 256, "layers": 6, "heads": 4}, 64),
    "L": (512, {"image_size": 224, "patch_size": 32, "width": 768, "layers": 12, "head_width": 64},
          {"context_length": 77, "vocab_size": 49408, "width": 512, "layers": 12, "heads": 8}, 8),
}  # fmt: skip


def both_models(size: str) -> tuple[torch.nn.Module, CLIP]:
    embed_dim, vision, text, _ = SIZES[size]
    torch.manual_seed(0)
    theirs = open_clip.CLIP(embed_dim, vision, text)
    with tempfile.TemporaryDirectory() as folder:
        torch.save(theirs.state_dict(), Path(folder) / "weights.pt")
        ours = load(Path(folder) / "weights.pt", activation="gelu")[0]
    return theirs.train(), ours.train()


def captions(size: str, batch: int | None = None) -> torch.Tensor:
    """(B, context) random ids of 9 to 20 tokens, SOT and EOT included, padded with 0."""
    *_, text, default = SIZES[size]
    batch = batch or default
    ids = torch.zeros(batch, text["context_length"], dtype=torch.long)
    for row, length in enumerate(torch.randint(9, 21, (batch,)).tolist()):
        ids[row, :length] = torch.randint(1, text["vocab_size"] - 2, (length,))
        ids[row, 0], ids[row, length - 1] = text["vocab_size"] - 2, text["vocab_size"] - 1
    return ids


def step(model: torch.nn.Module, loss: Callable, optimizer: torch.optim.Optimizer, inputs: tuple, bf16: bool) -> float:
    with torch.autocast(inputs[0].device.type, torch.bfloat16, enabled=bf16):
        features = model(*inputs)
    value = loss(*features)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-size", type=int, help="instead of the sizes' own: S 128, M 64, L 8")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    logging.disable()
    keep_memory()
    results = {}
    for size in args.size:
        runs, values, grads = {}, {}, {}
        image_size, eot = SIZES[size][1]["image_size"], SIZES[size][2]["vocab_size"] - 1
        batch = args.batch_size or SIZES[size][3]
        torch.manual_seed(1)
        images, ids = torch.randn(batch, 3, image_size, image_size), captions(size, batch)
        for precision in ("bf16", "fp32"):
            theirs, ours = both_models(size)
            groups = [
                {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
                {"params": [p for p in theirs.parameters() if p.ndim >= 2], "weight_decay": 0.2},
            ]
            sides = {
                "minclip": (ours, clip_loss, torch.optim.AdamW(parameter_groups(ours, 0.2), lr=1e-5, fused=True),
                            (images, trim(ids, eot))),
                "open_clip": (theirs, open_clip.ClipLoss(), torch.optim.AdamW(groups, lr=1e-5), (images, ids)),
            }  # fmt: skip
            for name, (model, loss, optimizer, inputs) in sides.items():
                run = functools.partial(step, model, loss, optimizer, inputs, precision == "bf16")
                runs[f"{name}, {precision}"] = run
                values[f"{name}, {precision}"] = run()
                grads[name] = [p.grad.norm() for p in model.parameters()]
        assert abs(values["minclip, fp32"] - values["open_clip, fp32"]) < 1e-4, values
        ours_norm, their_norm = (torch.stack(grads[name]).norm() for name in ("minclip", "open_clip"))
        assert abs(ours_norm / their_norm - 1) < 1e-3, (ours_norm, their_norm)
        seconds = interleaved(runs, args.rounds)
        results[size] = report(f"{size}: a training step of {batch} pairs", seconds, batch, "pairs")
    write(args.json, results)


if __name__ == "__main__":
    main()

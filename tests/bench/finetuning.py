"""What fine-tuning gains and forgets, and what a blend of the weights before and after keeps (WiSE-FT).

    python tests/bench/finetuning.py [--steps 100] [--lr 2e-4] [--split test] [--json PATH]

The demo, which has only seen painted scenes, is fine-tuned on sketches of scenes (dark outlines on white paper), which are
written as PNG files with a captions.csv, as a user would bring them. Then the demo, the fine-tuned model and blends of both
are evaluated on scenes and on sketches. Steps and learning rate were chosen with `--split val`.
"""

import argparse
import csv
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from common import write
from PIL import Image

import minclip
from minclip.batches import Pairs
from minclip.data.shapes import captions_of, paint, scenes, tasks_of
from minclip.evaluate import evaluate
from minclip.presets import preset
from minclip.weights.start import blended, fine_tuning

FIGURES = {"text_to_image_r@5": "recall@5, text to image", "zero_shot/shape": "zero-shot shape"}
DEMO = str(Path(__file__).parents[2] / "data" / "demo")
ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)


def drawn(split: str, count: int, *, sketch: bool) -> Pairs:
    """Scenes of a split, painted or sketched, with captions and tasks."""
    s = scenes(split, count)
    return Pairs(paint(s, 64, sketch=sketch), captions_of(s), [f"{i:05d}.png" for i in s.index], tasks=tasks_of(s))


def put(folder: Path, count: int) -> None:
    """Training sketches as somebody's own photographs: PNG files and captions.csv."""
    pairs = drawn("train", count, sketch=True)
    folder.mkdir(parents=True)
    for name, image in zip(pairs.names, pairs.images):
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / name)
    rows = [(name, caption) for name, captions in zip(pairs.names, pairs.captions) for caption in captions]
    with (folder / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("image", "caption"), *rows])


def measure(place: Path, *, split: str, count: int, sketches: int, **loop: float) -> dict:
    """Alpha -> {"scenes": figures, "sketches": figures}, of the demo (0), the fine-tuned model (1), and blends."""
    put(place / "sketches", sketches)
    config = fine_tuning(preset("shapes"), DEMO)
    data = replace(config.data, name="own", root=str(place / "sketches"))
    config = replace(config, data=data, train=replace(config.train, eval_every=None, device="cpu", **loop))
    run, (demo, _, tokenizer) = minclip.train(config, place / "run"), minclip.load(DEMO)
    kinds = {"scenes": drawn(split, count, sketch=False), "sketches": drawn(split, count, sketch=True)}
    tasks = {kind: replace(pairs, tasks={"shape": pairs.tasks["shape"]}) for kind, pairs in kinds.items()}
    return {
        alpha: {kind: evaluate(blended(demo, run.model, alpha), tokenizer, pairs) for kind, pairs in tasks.items()}
        for alpha in ALPHAS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument(
        "--sketches", type=int, default=2000, help="to train on, and to split as one's own photographs are"
    )
    parser.add_argument("--count", type=int, default=1000, help="scenes, and sketches, to evaluate on")
    parser.add_argument("--split", default="test", choices=["val", "test"])
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.manual_seed(0)
    start = time.perf_counter()
    loop = {"steps": args.steps, "lr": args.lr, "batch_size": 128}
    with tempfile.TemporaryDirectory() as place:
        found = measure(Path(place), split=args.split, count=args.count, sketches=args.sketches, **loop)
    heads = [f"{what}, {kind}" for kind in ("scenes", "sketches") for what in FIGURES.values()]
    print(f"\n| alpha | {' | '.join(heads)} |\n|{'---|' * (len(heads) + 1)}")
    for alpha, kinds in found.items():
        cells = [f"{100 * kinds[kind][key]:.1f}" for kind in ("scenes", "sketches") for key in FIGURES]
        print(f"| {alpha} | {' | '.join(cells)} |")
    print(f"\n{time.perf_counter() - start:.0f} s")
    write(args.json, {str(alpha): kinds for alpha, kinds in found.items()})


if __name__ == "__main__":
    main()

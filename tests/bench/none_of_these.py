"""How often "none of these" is right.

    python tests/bench/none_of_these.py [RUN] [--photographs ZIP] [--json PATH]

For each task of the shapes world, half of its classes (at most six) serve as labels, drawn at random several times.
Counts the one-object scenes whose class is among the labels and that get this label, and the "none of these" answers
for the other scenes, for noise and for photographs, where this is the right answer.
"""

import argparse
import io
import json
import zipfile
from pathlib import Path

import numpy as np
import torch
from common import machine
from PIL import Image

import minclip
from minclip.cli.images import wrong_pairs_cosine
from minclip.evaluate import embed_images, zero_shot_classifier

TASKS = ("colour", "shape", "fill", "size", "colour+shape")


def measure(model, tokenizer, pairs, others, below, draws=20):
    """Task -> fractions: right labels if the class is one of them; "none" if it is not; "none" for each of `others`."""
    image, rng, out = embed_images(model, pairs), np.random.default_rng(0), {}
    for name in TASKS:
        task, rows = pairs.tasks[name], []
        scores_of = zero_shot_classifier(model, tokenizer, task.class_names, templates=("a picture of {}",))
        for _ in range(draws):
            labels = rng.choice(len(task.class_names), min(6, len(task.class_names) // 2), replace=False)

            def answers(vectors, labels=labels, scores_of=scores_of):
                best = (vectors @ scores_of[:, labels]).max(dim=1)
                return np.where(best.values.numpy() < below, -1, labels[best.indices.numpy()])

            said, there = answers(image[torch.from_numpy(task.indices)]), np.isin(task.labels, labels)
            none = {what: np.mean(answers(vectors) == -1) for what, vectors in others.items()}
            right, absent = np.mean((said == task.labels)[there]), np.mean(said[~there] == -1)
            rows.append(
                {"there: right": right, "not there: none": absent, **{f"{w}: none": s for w, s in none.items()}}
            )
        out[name] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return {**out, "mean": {key: float(np.mean([of_task[key] for of_task in out.values()])) for key in out["size"]}}


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", default="demo")
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    model, preprocess, tokenizer = minclip.load(args.run)
    size = model.config.vision.image_size
    noise = np.random.default_rng(0).integers(0, 256, (args.images, size, size, 3), dtype=np.uint8)
    pictures = {"noise": [Image.fromarray(x) for x in noise]}
    if args.photographs:
        with zipfile.ZipFile(args.photographs) as archive:
            names = [name for name in archive.namelist() if name.endswith(".jpg")][: args.images]
            pictures["photographs"] = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]
    others = {
        what: model.encode_image(torch.stack([preprocess(x) for x in images]), normalize=True)
        for what, images in pictures.items()
    }
    pairs = {split: minclip.load_pairs("shapes", split, image_size=size) for split in ("val", "test")}
    results = []
    for share in args.shares:
        below = wrong_pairs_cosine(model, tokenizer, pairs["val"], quantile=share)
        for split in pairs:
            for task, figures in measure(model, tokenizer, pairs[split], others, below).items():
                results.append({"share": share, "below": below, "split": split, "task": task, **figures})
    keys = list(results[0])
    print(f"| {' | '.join(keys)} |\n|{'---|' * len(keys)}")
    for row in results:
        print(f"| {' | '.join(f'{v:.2f}' if isinstance(v, float) else v for v in row.values())} |")
    if args.json:
        args.json.write_text(json.dumps({"results": results, "machine": machine()}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The preset flickr8k against open_clip's default recipe in equal time.

    python tests/bench/recipe.py --photographs ZIP [--minutes 30]

Both train on the same photographs and the same machine: minclip with its preset, open_clip with `open_clip_train.main`
and that script's defaults (ViT, crops of 0.9 to 1, weight decay 0.2, learning rate 5e-4), except for batch, image and
model size, which match the preset, and the warm-up, which is shortened because its 10,000 steps would exceed the run.
The time of one epoch determines open_clip's number of epochs. minclip's `retrieval` computes recall for both, over the
development images with all their captions. open_clip's training script needs pandas.
"""

import argparse
import functools
import json
import math
import sys
import tempfile
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image

from minclip import retrieval, train
from minclip.data import Pairs, load_pairs
from minclip.presets import preset

SIZE = 64
MODEL = {
    "embed_dim": 256,
    "vision_cfg": {"image_size": SIZE, "patch_size": 8, "width": 256, "layers": 6, "head_width": 64},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 256, "heads": 4, "layers": 4},
}


def write_table(pairs: Pairs, folder: Path) -> Path:
    """Writes the images and a table for open_clip's CSV loader: tab-separated, one row per image and caption."""
    rows = ["filepath\ttitle"]
    for i, captions in enumerate(pairs.captions):
        Image.fromarray(pairs.images[i].transpose(1, 2, 0)).save(folder / f"{i}.png")
        rows += [f"{folder / f'{i}.png'}\t{' '.join(caption.replace(chr(34), '').split())}" for caption in captions]
    (folder / "train.csv").write_text("\n".join(rows), encoding="utf-8")
    return folder / "train.csv"


def train_theirs(table: Path, captions: int, minutes: float, batch: int, folder: Path) -> tuple[Path, int]:
    """Returns the last checkpoint and the number of epochs; every epoch uses all captions."""
    from open_clip_train.main import main

    (folder / "few_photographs_vit.json").write_text(json.dumps(MODEL))
    open_clip.add_model_config(folder)

    def run(name: str, epochs: int) -> float:
        steps = epochs * (captions // batch)
        options = {
            "train-data": table, "dataset-type": "csv", "model": "few_photographs_vit",
            "batch-size": batch, "workers": 1, "precision": "amp_bf16", "device": "cpu", "warmup": steps // 20,
            "epochs": epochs, "wd": 0.2, "lr": 5e-4, "logs": folder, "name": name, "save-frequency": epochs,
        }  # fmt: skip
        start = time.perf_counter()
        main([part for name, value in options.items() for part in (f"--{name}", str(value))])
        return time.perf_counter() - start

    epochs = max(1, math.ceil(60 * minutes / run("one", 1)))  # rounded up, in open_clip's favor
    run("all", epochs)
    return folder / "all" / "checkpoints" / f"epoch_{epochs}.pt", epochs


@torch.no_grad()
def recall_of_theirs(checkpoint: Path, pairs: Pairs) -> dict[str, float]:
    model, _, preprocess = open_clip.create_model_and_transforms("few_photographs_vit")
    weights = torch.load(checkpoint, weights_only=False)["state_dict"]  # safe: written by this script a moment ago
    model.load_state_dict({name.removeprefix("module."): x for name, x in weights.items()})
    model.eval()
    images = torch.stack([preprocess(Image.fromarray(x.transpose(1, 2, 0))) for x in pairs.images])
    ids = open_clip.get_tokenizer("few_photographs_vit")(pairs.texts)
    image = torch.cat([F.normalize(model.encode_image(x), dim=-1) for x in images.split(250)])
    text = torch.cat([F.normalize(model.encode_text(x), dim=-1) for x in ids.split(500)])
    return retrieval(image, text, pairs.text_to_image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", required=True, help="Flickr8k as Kaggle delivers it: a folder or a zip")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=["ours", "theirs"], help="train only one of the two")
    options = parser.parse_args()
    if options.only != "ours" and find_spec("pandas") is None:  # before half an hour of training
        sys.exit("open_clip's training script needs pandas: pip install pandas, or give --only ours")
    load = functools.partial(load_pairs, "flickr8k", image_size=SIZE, root=options.photographs)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "theirs":
            config = preset("flickr8k")
            loop = replace(config.train, minutes=options.minutes, seed=options.seed, device="cpu")
            config = replace(config, data=replace(config.data, root=options.photographs), train=loop)
            run = train(config, Path(folder) / "ours")
            rows["minclip"] = [line["val"] for line in run.metrics if "val" in line][-1]
        if options.only != "ours":
            pairs = load(split="train")
            table = write_table(pairs, Path(folder))
            checkpoint, epochs = train_theirs(
                table, len(pairs.texts), options.minutes, preset("flickr8k").train.batch_size, Path(folder)
            )
            rows[f"open_clip, {epochs} epochs"] = recall_of_theirs(checkpoint, load(split="val"))
    for name, figures in rows.items():
        recall = [
            f"{way.replace('_to_', '→')} {figures[f'{way}_r@10']:.1%}" for way in ("text_to_image", "image_to_text")
        ]
        print(f"{name}: recall@10 {', '.join(recall)} after {options.minutes:g} minutes")


if __name__ == "__main__":
    main()

"""Redraws the README's picture with the demo checkpoint: `python tools/pictures.py`."""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import minclip
from minclip.course import plots
from minclip.data import load_pairs
from minclip.evaluate import embed_images, embed_texts

DEMO = Path(__file__).resolve().parent.parent / "data" / "demo"
PAIRS = ("blue star", "red heart", "pink triangle", "yellow cross", "striped ring")


def found(run: minclip.Run, columns: int = 7) -> Figure:
    """For five held-out pairs, the nearest pictures among all test and held-out scenes, nearest first."""
    held, test = (load_pairs("shapes", split, image_size=run.config.data.image_size) for split in ("heldout", "test"))
    task, images = held.tasks["held-out pairs"], np.concatenate([held.images, test.images])
    truth = np.full(len(images), "", dtype=object)  # "" is never right: no test scene shows such a pair
    truth[np.asarray(task.indices)] = [task.class_names[label] for label in task.labels.tolist()]
    features = torch.cat([embed_images(run.model, pairs) for pairs in (held, test)])
    cosines = embed_texts(run.model, run.tokenizer, [f"a picture of a {pair}" for pair in PAIRS]) @ features.T
    best = cosines.topk(columns, dim=1).indices.numpy()
    right = sum(int((truth[places] == pair).sum()) for pair, places in zip(PAIRS, best))
    figure = plots.new_figure(7.6, 4.7)
    for pair, places, (left, *axes) in zip(
        PAIRS, best, plots.base.axes_grid(figure, len(PAIRS), columns + 1, width_ratios=[2, *[1] * columns])
    ):
        left.set_axis_off()
        left.text(1, 0.5, f"“a {pair}”", ha="right", va="center", fontsize=13)
        for place, axis in zip(places, axes):
            plots.show_image(axis, images[place])
    title = f"The nearest of {len(images):,} pictures; {right} of {best.size} are right. "
    title += "No object in training had these pairs."
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=DEMO, help="the folder to write to (default: data/demo)")
    to = parser.parse_args(arguments).to
    run = minclip.Run.load(DEMO)
    plots.save(found(run), to / "search.png")
    print(to / "search.png")


if __name__ == "__main__":
    main()

"""The README's pictures, drawn again from the shipped demo: `python tools/pictures.py`."""

import argparse
from pathlib import Path

from matplotlib.figure import Figure

import minclip
from minclip.course import plots
from minclip.data import load_pairs
from minclip.evaluate import embed_images, embed_texts

DEMO = Path(__file__).resolve().parent.parent / "data" / "demo"


def zero_shot(run: minclip.Run) -> Figure:
    """The first scene of each held-out pair against a sentence for each."""
    pairs = load_pairs("shapes", "heldout", image_size=run.config.data.image_size, size=100)
    task = pairs.tasks["held-out pairs"]
    scenes = [task.indices[task.labels.tolist().index(label)] for label in range(len(task.class_names))]
    sentences = [f"a picture of {'an' if name[0] in 'aeiou' else 'a'} {name}" for name in task.class_names]
    texts = embed_texts(run.model, run.tokenizer, sentences)
    cosines = texts @ embed_images(run.model, pairs)[scenes].T
    found = sum(column == nearest for column, nearest in enumerate(cosines.argmax(dim=0).tolist()))
    title = f"Zero-shot: eight pairs that no object in training had; {found} of 8 pictures find their sentence"
    return plots.similarity_matrix(cosines, pairs.images[scenes], sentences, title=title)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=DEMO, help="the folder of the pictures")
    to = parser.parse_args(arguments).to
    run = minclip.Run.load(DEMO)
    for name, figure in {"zero-shot.png": zero_shot(run), "curves.png": plots.curves(run)}.items():
        plots.save(figure, to / name)
        print(to / name)


if __name__ == "__main__":
    main()

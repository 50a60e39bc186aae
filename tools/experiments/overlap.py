"""Notebook 10, sections on overlap: a detector of copies, and how much copies of test images raise the accuracy."""

from typing import Any

import common
import torch
import torch.nn.functional as F

import minclip
from minclip.batches import normalize

notebook = common.from_notebook("10_where_pairs_come_from")
SHARES, EPOCHS = (0.01, 0.03, 0.1, 0.3), (4, 8, 16, 32)


def raw(images: torch.Tensor) -> torch.Tensor:
    """The pixels (N, 3, S, S) as unit vectors (N, 3·S·S), the mean of each image subtracted."""
    x = images.float().flatten(1)
    return F.normalize(x - x.mean(dim=1, keepdim=True), dim=1)


def detector(seed: int) -> dict[str, Any]:
    """Recall and precision on test pairs of three embeddings; each one's threshold is chosen on validation pairs."""
    model = minclip.load("demo")[0]

    def of_demo(images: torch.Tensor) -> torch.Tensor:
        x = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)  # the demo model takes 64 x 64 pixels
        return model.encode_image(normalize(x, model.config.vision), normalize=True)

    trained = notebook.train_detector(notebook.pixels_of(notebook.single_scenes("train", 2000, 100 + seed)), seed=seed)
    base, out = notebook.pixels_of(notebook.single_scenes("train", 1000, seed)), {}
    for name, encode in {"pixels": raw, "demo": of_demo, "detector": trained}.items():
        threshold = notebook.choose_threshold(*notebook.known_pairs(encode, "val", base, seed=seed))
        copies, strangers = notebook.known_pairs(encode, "test", base, seed=seed)
        precision, recall = notebook.precision_recall(copies, strangers, threshold)
        out[name] = {"threshold": threshold, "precision": precision, "recall": recall}
    return out


def accuracies(
    share: float, *, seed: int, epochs: tuple[int, ...], copies: int = 1, found: Any = None
) -> dict[str, Any]:
    """Epochs -> accuracy on planted test images, the others and all; `found(train, test)` is the detector's guess."""
    images, captions, test, labels, known = notebook.with_plants(share, seed=seed, copies=copies)
    splits = {"overlap": known, "clean": ~known}
    out = {}
    if found is not None:
        seen = found(images, test)
        splits |= {"found": seen, "not found": ~seen}
        hits = (seen & known).sum().item()
        out = {"share found": seen.float().mean().item(), "recall": hits / max(1, known.sum().item())}
        out["precision"] = hits / max(1, seen.sum().item())
    for epoch, model in notebook.fit_pairs(images, captions, at=epochs, seed=seed):
        vectors = notebook.vectors_of(model.encode_image, test)
        right = (notebook.answers_of(model, vectors, notebook.PAIR_NAMES) == labels).float()
        of = {name: right[rows].mean().item() if rows.any() else 0.0 for name, rows in splits.items()}
        gain = right.mean().item() - of["clean"]
        by_found = right.mean().item() - of["not found"] if found else 0.0
        out[str(epoch)] = of | {"all": right.mean().item(), "gain": gain, "gain by detector": by_found}
    return out


def flattery(seed: int) -> dict[str, Any]:
    """Share of planted test images -> accuracies, split by the ground truth and by the detector."""
    trained = notebook.train_detector(notebook.pixels_of(notebook.single_scenes("train", 2000, 100 + seed)), seed=seed)
    base = notebook.pixels_of(notebook.single_scenes("train", 1000, seed))
    threshold = notebook.choose_threshold(*notebook.known_pairs(trained, "val", base, seed=seed))

    @torch.no_grad()
    def found(train: torch.Tensor, test: torch.Tensor) -> torch.Tensor:
        return notebook.nearest(*(notebook.vectors_of(trained, x) for x in (test, train))) >= threshold

    return {str(share): accuracies(share, seed=seed, epochs=EPOCHS, found=found) for share in SHARES}


def copies(seed: int) -> dict[str, Any]:
    """Number of copies of each planted image -> accuracies; 3 % of the test images are planted."""
    return {str(n): accuracies(0.03, seed=seed, epochs=(32,), copies=n) for n in (4, 10)}


def spot_check() -> dict[tuple, float]:
    found = accuracies(0.1, seed=0, epochs=(4,))["4"]
    return {("flattery", "0.1", "4", name, None): found[name] for name in ("all", "clean")}


PARTS = {"detector": detector, "flattery": flattery, "copies": copies}
TOLERANCE = 0.02  # another CPU rounds differently

if __name__ == "__main__":
    common.main(__file__, PARTS)

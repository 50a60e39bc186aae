"""Notebook 10: a web of captioned shapes with Zipf's frequencies, searched query by query with a cap.

Every run has the same number of steps, and the same number of pairs if the search finds that many.  Accuracies are
zero-shot, on new images, equally many of each of the 64 pairs of a color and a shape.  All runs have the same learning
rate, chosen on validation images (part "rates": the best mean over both training sets).
"""

from typing import Any

import common
import numpy as np

notebook = common.from_notebook("10_where_pairs_come_from")
WEB, PAIRS, STEPS, RATE = 60_000, 6_000, 800, 3e-3
EXPONENT = 1.1
CAPS = {"10": 10, "30": 30, "100": 100, "300": 300, "1000": 1000, "none": None}
CAP_OR_NONE = {"100": 100, "none": None}
TEST, VALIDATION = 1, 2  # seeds of the evaluation images


def found(
    cap: int | None, seed: int, *, exponent: float = EXPONENT, pairs: int = PAIRS, size: int = WEB
) -> tuple[np.ndarray, Any]:
    """The kinds by rank, and a random sample of `pairs` of the scenes that a search with `cap` finds."""
    by_rank, web = notebook.shapes_web(size, exponent, seed)
    rows = np.arange(size)
    if cap is not None:
        rows = np.unique(np.concatenate([*notebook.search(notebook.captions_for(web), cap).values()]))
    return by_rank, web.take(np.random.default_rng(seed).permutation(rows)[:pairs])


def accuracies(by_rank: np.ndarray, scenes: Any, seed: int, *, on: int = TEST, **how: Any) -> dict[str, float]:
    model, _ = notebook.train_tiny(scenes, **{"steps": STEPS, "seed": seed, "rate": RATE, **how})
    return notebook.by_group(notebook.accuracy_by_rank(model, by_rank, seed=on))


def caps(seed: int) -> dict[str, Any]:
    """Cap -> number of pairs, repeats of each in training, shares of head, middle and tail, accuracies."""
    results = {}
    for name, cap in CAPS.items():
        by_rank, scenes = found(cap, seed)
        counts = notebook.counted(scenes, by_rank, np.arange(len(scenes.index)))
        shares = {group: counts[rows].sum() / counts.sum() for group, rows in notebook.GROUPS.items()}
        about = {"pairs": counts.sum(), "repeats": 64 * STEPS / counts.sum(), "share": shares}
        results[name] = {**about, "accuracy": accuracies(by_rank, scenes, seed)}
    return results


def alike(seed: int) -> dict[str, Any]:
    """Equal captions in a batch count as positives of each other."""
    return {name: accuracies(*found(cap, seed), seed, alike=True) for name, cap in CAP_OR_NONE.items()}


def more(seed: int) -> dict[str, Any]:
    """No cap, and three times the pairs."""
    return {"none": accuracies(*found(None, seed, pairs=3 * PAIRS), seed)}


def longer(seed: int) -> dict[str, Any]:
    """Twice the steps."""
    return {name: accuracies(*found(cap, seed), seed, steps=2 * STEPS) for name, cap in CAP_OR_NONE.items()}


def exponents(seed: int) -> dict[str, Any]:
    """A less uneven web: the most frequent kind is ten times as frequent as the rarest."""
    return {"0.55": {name: accuracies(*found(cap, seed, exponent=0.55), seed) for name, cap in CAP_OR_NONE.items()}}


def rates(seed: int) -> dict[str, Any]:
    """Accuracy over all kinds on the validation images."""
    sets = {name: found(cap, seed) for name, cap in CAP_OR_NONE.items()}
    return {
        f"{rate:g}": {name: accuracies(*of, seed, on=VALIDATION, rate=rate)["all"] for name, of in sets.items()}
        for rate in (1.5e-3, 3e-3, 6e-3)
    }


def short(seed: int) -> dict[str, Any]:
    """The counts of the kinds that the search finds in a small web, and the losses of the first 15 steps."""
    by_rank, scenes = found(30, seed, size=10_000)
    _, losses = notebook.train_tiny(scenes.take(slice(0, 1000)), steps=15, seed=seed, rate=RATE)
    counts = notebook.counted(scenes, by_rank, np.arange(len(scenes.index)))
    return {"counts": counts, "losses": losses}


PARTS = {
    "rates": rates,
    "caps": caps,
    "alike": alike,
    "longer": longer,
    "more": more,
    "exponents": exponents,
    "short": short,
}
TOLERANCE = 2e-3


def spot_check() -> dict[tuple, float]:
    again = short(0)
    return {
        ("short", "counts", 0): again["counts"][0],
        ("short", "counts", 63): again["counts"][63],
        ("short", "losses", 0): again["losses"][0],
        ("short", "losses", 9): again["losses"][9],
    }


if __name__ == "__main__":
    common.main(__file__, PARTS)

"""Why contrastive? (notebook 09; paper, section 2.3, figure 2): zero-shot accuracy of objectives over images processed.

The parts, in the order in which they depend on each other; all numbers are fractions of 1 except seconds:

    learning_rates   objective -> rate -> accuracy on the validation images after 8,192 images; RATES holds the choices
    curves           objective -> accuracy at MARKS, "seconds" of CPU per 1,000 images
    wording          how captions are worded -> objective -> accuracy at MARKS (contrast to 16,384, others to 32,768)
"""

from functools import lru_cache
from typing import Any

import common

notebook = common.from_notebook("09_why_contrastive")
MARKS = [2048, 4096, 8192, 16384, 32768, 65536, 131072]
LENGTH = {"bag of words, one-vs-all": 6, "caption, image as first token": 7}  # of the curves; the others stop at 32,768
GRID = (3.75e-4, 7.5e-4, 1.5e-3, 3e-3, 6e-3, 1.2e-2)
RATES = {  # the best in the part "learning_rates"
    "contrast, bag of words": 3e-3,
    "bag of words, softmax": 1.5e-3,
    "caption, image in every output": 6e-3,
    "contrast, Transformer": 7.5e-4,
    "bag of words, one-vs-all": 6e-3,
    "caption, image as first token": 3e-3,
}
WORDINGS = {
    "one phrasing": {},
    "48 phrasings": {"phrasings": 12},
    "48 phrasings, 4 names each": {"phrasings": 12, "names": 4},
    "48 phrasings, 4 names each, an aside": {"phrasings": 12, "names": 4, "asides": 1},
}
RIVALS = ("contrast, bag of words", "bag of words, softmax", "caption, image in every output")


@lru_cache(maxsize=1)  # the part "wording" goes through its worlds one after the other
def world(wording: str = "", test: str = "test") -> Any:
    captions = {"captions": notebook.wording(**WORDINGS[wording])} if wording else {}
    return notebook.World(test=test, **captions)


def run(name: str, marks: list[int], *, seed: int, rate: float = 0.0, **of_world: str) -> Any:
    rate = rate or RATES[name]
    return notebook.train(notebook.OBJECTIVES[name], world(**of_world), rate=rate, marks=marks, seed=seed)


def marks_of(name: str) -> list[int]:
    return MARKS[: LENGTH.get(name, 5)]


def wording_marks(name: str) -> list[int]:  # contrast needs fewer images
    return MARKS[:4] if name.startswith("contrast") else MARKS[:5]


def learning_rates(seed: int) -> dict[str, Any]:
    def search(name: str) -> dict[str, float]:
        return {f"{rate:g}": run(name, [8192], seed=seed, rate=rate, test="val").accuracy[0] for rate in GRID}

    return {name: search(name) for name in notebook.OBJECTIVES}


def curves(seed: int) -> dict[str, Any]:
    results = {}
    for name in notebook.OBJECTIVES:
        marks = marks_of(name)
        found = run(name, marks, seed=seed)
        results[name] = {"accuracy": found.accuracy, "seconds": 1000 * found.seconds / marks[-1]}
    return results


def wording(seed: int) -> dict[str, Any]:
    return {
        words: {name: run(name, wording_marks(name), seed=seed, wording=words).accuracy for name in RIVALS}
        for words in WORDINGS
    }


PARTS = {"learning_rates": learning_rates, "curves": curves, "wording": wording}
TOLERANCE = 0.03  # another CPU rounds differently


def spot_check() -> dict[tuple, float]:
    """The first point of two curves."""
    names = ("contrast, bag of words", "bag of words, softmax")
    return {("curves", name, "accuracy", 0): run(name, MARKS[:1], seed=0).accuracy[0] for name in names}


if __name__ == "__main__":
    common.main(__file__, PARTS)

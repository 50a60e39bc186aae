"""A shapes world with a few scenes to validate on: a run of a few steps takes longer to evaluate than to train.

As a program, the command line in that world.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from minclip.data.shapes import SPLITS


@contextmanager
def few_scenes(count: int = 16) -> Iterator[None]:
    """All splits but "train" have `count` scenes, in this process."""
    saved = dict(SPLITS)
    SPLITS.update({split: count for split in saved if split != "train"})
    try:
        yield
    finally:
        SPLITS.update(saved)


if __name__ == "__main__":
    from minclip.cli import main

    with few_scenes():
        sys.exit(main())

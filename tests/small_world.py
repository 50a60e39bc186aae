"""A shapes world with a few scenes to validate on: a run of a few steps takes longer to evaluate than to train."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from minclip.data import shapes


@contextmanager
def few_scenes(count: int = 16) -> Iterator[None]:
    """All splits but "train" have `count` scenes, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for split in ("val", "test", "heldout"):
            patch.setitem(shapes.SPLITS, split, count)
        yield

"""Labelled images: what a zero-shot classifier is asked about, and what a linear probe learns from."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...config import MinclipError
from ...data.photos.images import open_image
from ...data.photos.source import Source

WHOLE = 1 << 20  # a side that no photograph has: a JPEG is decoded at its full size


@dataclass(frozen=True)
class Labelled:
    """N images of C classes.

    `images[i]` is a PIL image or a (3, H, W) uint8 array; `labels` is (N,) int64, or (N, C) bool where an image may show
    several classes; `class_names` are the C names as they stand in a prompt; `notes` tells what was decided for you.
    """

    images: Sequence[Any]
    labels: np.ndarray
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels) or len(self.labels) == 0:
            raise MinclipError(f"{len(self.images)} images and {len(self.labels)} labels: each image needs one")
        columns = self.labels.shape[1] if self.labels.ndim == 2 else len(self.class_names)
        last = columns - 1 if self.labels.ndim == 2 else int(self.labels.max())
        if columns != len(self.class_names) or last >= columns or (self.labels.ndim == 1 and self.labels.min() < 0):
            raise MinclipError(f"labels up to {last} don't fit {len(self.class_names)} class names")

    def __len__(self) -> int:
        return len(self.labels)


class Files(Sequence[Any]):
    """Image files, each read when it is asked for; a MinclipError names one that isn't there or is no image."""

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self.paths = [Path(path) for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: Any) -> Any:
        return open_image(self.paths[i], WHOLE)


def class_folders(folder: Path) -> tuple[Files, np.ndarray, tuple[str, ...]]:
    """Images, labels (N,) and class folders of `folder/<class>/<image>`, the classes in the order of their names."""
    paths = sorted(path for path in Source.open(folder).images if "/" in path)
    classes = tuple(sorted({path.partition("/")[0] for path in paths}))
    if len(classes) < 2:
        raise MinclipError(
            f"{folder} holds {len(classes)} class folders with images: lay them out as {folder}/<class name>/<image>"
        )
    numbers = {name: i for i, name in enumerate(classes)}
    labels = np.array([numbers[path.partition("/")[0]] for path in paths])
    return Files(folder / path for path in paths), labels, classes

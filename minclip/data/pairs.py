"""Pairs: the one dataset type, images with their captions, and the tasks that can be asked of them."""

from dataclasses import dataclass, field

import numpy as np

from ..config import MinclipError


@dataclass(frozen=True)
class Task:
    """A zero-shot question over some of a data set's images: which of `class_names` does image `indices[i]` show?

    `labels[i]` is the right class of image `indices[i]`.  Each template holds one `{}` for the class name.  Where the
    question is about an image's own objects ("{a} {} {b}": which relation?), `subjects[i]` fills the named fields.
    """

    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    indices: np.ndarray  # (n,) int64
    labels: np.ndarray  # (n,) int64
    subjects: tuple[dict[str, str], ...] = ()

    @property
    def chance(self) -> float:
        return 1 / len(self.class_names)


@dataclass(frozen=True)
class Pairs:
    """N images and their captions.

    `images` is (N, 3, H, W) uint8 RGB, an array or a memory map; `captions[i]` lists the captions of image i, at least
    one; `names[i]` is its file name or number; `tasks` maps a task's name to a Task; `notes` tells what was left out.
    """

    images: np.ndarray
    captions: list[list[str]]
    names: list[str]
    tasks: dict[str, Task] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.captions) == len(self.names):
            raise MinclipError(
                f"{len(self.images)} images, {len(self.captions)} lists of captions and {len(self.names)} names are not the same number"
            )
        if len(self.images) == 0:
            raise MinclipError("a data set needs at least one image with a caption")
        if not all(self.captions):
            bare = next(name for name, captions in zip(self.names, self.captions) if not captions)
            raise MinclipError(f"image {bare} has no caption: leave it out")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def texts(self) -> list[str]:
        """All captions in one list, image by image."""
        return [caption for captions in self.captions for caption in captions]

    @property
    def text_to_image(self) -> np.ndarray:
        """(number of captions,) int64: the image that each entry of `texts` belongs to."""
        return np.repeat(np.arange(len(self)), [len(captions) for captions in self.captions])

"""A picture as a model wants it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .config import MinclipError, VisionConfig


def eight_bits(image: Any) -> Any:
    """A PIL image, of 16-bit greys the upper eight bits: Pillow's `convert` would make white of all that is above 255."""
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.getextrema()[1] > 255)
    return image.convert("I").point(lambda grey: grey / 256).convert("L") if deep else image


@dataclass(frozen=True)
class Preprocess:
    """A PIL image to (3, S, S) float: short side resized (bicubic), centre kept, RGB, normalised (OpenAI's evaluation transform)."""

    config: VisionConfig

    def __call__(self, image: Any) -> Tensor:
        from PIL import Image  # these two take half a second that `import minclip` should not cost
        from torchvision.transforms import v2

        if not isinstance(image, Image.Image):
            raise MinclipError(f"an image must be a PIL image, not {type(image).__name__}: {image!r:.60}")
        if min(image.size) == 0:
            raise MinclipError(f"an image of {image.width} × {image.height} pixels has nothing to look at")
        try:
            image.load()
        except OSError as error:
            raise MinclipError(f"an image can't be read to its end: {error}") from None
        size = self.config.image_size
        steps = [
            v2.Resize(size, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(size),
            v2.RGB(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(self.config.mean, self.config.std),
        ]
        return v2.Compose(steps)(eight_bits(image))

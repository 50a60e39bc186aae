"""Turns a picture into a model's input: OpenAI's evaluation transform."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .config import MinclipError, VisionConfig, need


def eight_bits(image: Any) -> Any:
    """A PIL image with at most 8 bits per channel: the upper 8 of 16, where Pillow's `convert` would clip to white."""
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.getextrema()[1] > 255)
    return image.convert("I").point(lambda gray: gray / 256).convert("L") if deep else image


@dataclass(frozen=True)
class Preprocess:
    """`preprocess(image)` of a PIL image -> (3, S, S) float32; S, mean and standard deviation come from the config."""

    config: VisionConfig

    def __call__(self, image: Any) -> Tensor:
        from PIL import Image  # with torchvision, half a second that `import minclip` should not cost
        from torchvision.transforms import v2

        if not isinstance(image, Image.Image):
            raise MinclipError(f"an image must be a PIL image, not {type(image).__name__}: {image!r:.60}")
        need(min(image.size) > 0, f"an image of {image.width} × {image.height} pixels is empty")
        try:
            image.load()  # `Image.open` reads only the header
        except OSError as error:
            raise MinclipError(f"an image can't be read to its end: {error}") from None
        size = self.config.image_size
        resize = v2.Resize(size, v2.InterpolationMode.BICUBIC)  # the short side; the long one is cropped
        scale = v2.ToDtype(torch.float32, scale=True)  # (3, S, S) from 0 to 1
        normalize = v2.Normalize(self.config.mean, self.config.std)  # with the statistics of the training data
        steps = [resize, v2.CenterCrop(size), v2.RGB(), v2.PILToTensor(), scale, normalize]
        return v2.Compose(steps)(eight_bits(image))

"""CLIP: two towers, two projections into one space, one temperature (paper, figure 3).

Shapes: B batch, S side of the image in pixels, L tokens, W width of a tower's feature, D embedding.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import CLIPConfig, need
from .resnet import ModifiedResNet, SmallResNet
from .text import BagOfWords, TextTransformer
from .tokenizer import Tokenizer
from .vision import VisionTransformer
from .weights.towers import HuggingFaceTower, TimmTower

MAX_LOGIT_SCALE = 4.605170185988092  # ln 100: the paper keeps the temperature above 0.01 (section 2.5)


class Tower(Protocol):
    """The interface of a tower, an `nn.Module` with its entries in `config.py` and a line in the tables below.

    Optional: `blocks`, the modules that gradient checkpointing recomputes and FSDP shards one by one, instead of the
    whole tower; `resize(image_size)`, unless it accepts any size; `attention_maps(inputs)`; `projects = True` if its
    feature is already the embedding.
    """

    config: Any
    width: int  # of its feature

    def __call__(self, inputs: Tensor) -> Tensor: ...  # images (B, 3, S, S) or ids (B, L) -> features (B, width)


# Tower name (the part before any colon) -> constructor
IMAGE_TOWERS: dict[str, Callable[[CLIPConfig], Tower]] = {
    "vit": lambda config: VisionTransformer(config.vision, config.activation),
    "resnet": lambda config: ModifiedResNet(config.vision, config.embed_dim),
    "small_resnet": lambda config: SmallResNet(config.vision),
    "timm": lambda config: TimmTower(config.vision),
}
TEXT_TOWERS: dict[str, Callable[[CLIPConfig], Tower]] = {
    "transformer": lambda config: TextTransformer(config.text, config.activation),
    "bag": lambda config: BagOfWords(config.text),
    "hf": lambda config: HuggingFaceTower(config.text),
}


class CLIP(nn.Module):
    """Maps images and texts to vectors whose dot product is high if they belong together."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.frozen, self.fixed_norms = (), False  # see `freeze`
        self.vision = IMAGE_TOWERS[config.vision.tower.split(":")[0]](config)
        self.image_projection = projection(self.vision, config.embed_dim)
        self.text = TEXT_TOWERS[config.text.tower.split(":")[0]](config)
        self.text_projection = projection(self.text, config.embed_dim)
        # learned as a logarithm: each step multiplies the scale, which therefore stays positive (section 2.5)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init))
        if config.loss == "siglip":
            self.logit_bias = nn.Parameter(torch.zeros(()))  # training initializes it to `siglip_bias(batch_size)`

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """Normalized float images (B, 3, S, S) -> (B, D) fp32; unit vectors with `normalize`."""
        floats = torch.is_tensor(images) and images.is_floating_point()
        need(floats, "images must be a float tensor (B, 3, S, S), as preprocess returns it")
        x = self.image_projection(self.vision(images)).float()  # fp32 even under autocast: cosines need the precision
        return F.normalize(x, dim=-1) if normalize else x

    def encode_text(self, ids: Tensor, normalize: bool = False) -> Tensor:
        """Token ids (B, L) -> (B, D) fp32; unit vectors with `normalize`."""
        need(torch.is_tensor(ids), "ids must be a tensor (B, L), as the tokenizer returns it")
        x = self.text_projection(self.text(ids)).float()  # (B, W) -> (B, D)
        return F.normalize(x, dim=-1) if normalize else x

    def forward(self, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of images (B, D) and texts (B, D), and the scale (): the arguments of `clip_loss`."""
        return self.encode_image(images, normalize=True), self.encode_text(ids, normalize=True), self.logit_scale.exp()

    def logits(self, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled cosines (Bi, Bt) and (Bt, Bi), as OpenAI's model returns them."""
        image, text, scale = self(images, ids)
        with torch.autocast(image.device.type, enabled=False):  # bf16 would round a logit of 100 to 0.5
            per_image = scale * image @ text.T  # (Bi, Bt): rows are images, columns are texts
        return per_image, per_image.T

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keeps the scale at 100 or below; called after each step."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    def freeze(self, *towers: str, norms: bool = False) -> None:
        """Freezes "vision", "text" or both: no gradients, no dropout; with `norms`, BatchNorm keeps its statistics."""
        self.frozen, self.fixed_norms = towers, norms
        for tower in towers:
            getattr(self, tower).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "CLIP":
        super().train(mode)
        norms = [x for x in self.modules() if self.fixed_norms and isinstance(x, nn.modules.batchnorm._BatchNorm)]
        for part in (*(getattr(self, tower) for tower in self.frozen), *norms):
            part.eval()  # even when the rest of the model trains
        return self

    def resize(self, image_size: int) -> None:
        """Switches to another image size (learned positions are interpolated); create a new `preprocess` afterwards."""
        if hasattr(self.vision, "resize"):
            self.vision.resize(image_size)
        self.config = replace(self.config, vision=replace(self.config.vision, image_size=image_size))

    @property
    def device(self) -> torch.device:
        return self.logit_scale.device

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> "CLIP":
        """Opens the model from anything that `minclip.load` accepts, for example a run, a file, a name on the hub."""
        from .weights.load import load  # imports this module, so a top-level import would be circular

        return load(name_or_path)[0]

    def save_pretrained(
        self, folder: str | Path, *, format: str = "minclip", tokenizer: Tokenizer | None = None
    ) -> None:
        """Writes a model and its tokenizer; `format` is "minclip", "open_clip", "transformers" or "onnx"."""
        from .weights.load import save

        save(folder, self, tokenizer=tokenizer, format=format)


def projection(tower: Tower, embed_dim: int) -> nn.Module:
    """The linear map from a tower's feature into the shared space, (B, W) -> (B, D), without a bias (figure 3)."""
    if getattr(tower, "projects", False):
        return nn.Identity()
    layer = nn.Linear(tower.width, embed_dim, bias=False)
    nn.init.normal_(layer.weight, std=tower.width**-0.5)  # keeps unit variance
    return layer

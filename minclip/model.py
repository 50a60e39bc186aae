"""CLIP: two towers, two projections into one space, one temperature (paper, figure 3)."""

from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import CLIPConfig
from .resnet import ModifiedResNet, SmallResNet
from .text import BagOfWords, TextTransformer
from .tokenizer import Tokenizer
from .vision import VisionTransformer
from .weights.towers import HuggingFaceTower, TimmTower

MAX_LOGIT_SCALE = 4.605170185988092  # ln 100: the paper keeps the temperature above 0.01 (section 2.5)


class CLIP(nn.Module):
    """Images and texts to vectors whose dot product says how well they fit."""

    def __init__(self, config: CLIPConfig) -> None:
        super().__init__()
        self.config = config
        self.frozen: tuple[str, ...] = ()
        tower, width = config.vision.tower, config.vision.width
        if tower == "resnet":  # its attention pooling projects
            self.vision, self.image_projection = ModifiedResNet(config.vision, config.embed_dim), nn.Identity()
        else:
            if tower == "small_resnet":
                self.vision, width = SmallResNet(config.vision), 8 * width
            elif tower.startswith("timm:"):
                self.vision = TimmTower(config.vision)
                width = self.vision.width
            else:
                self.vision = VisionTransformer(config.vision, config.activation)
            self.image_projection = nn.Linear(width, config.embed_dim, bias=False)
            nn.init.normal_(self.image_projection.weight, std=width**-0.5)
        width = config.text.width
        if config.text.tower.startswith("hf:"):
            self.text = HuggingFaceTower(config.text)
            width = self.text.width
        elif config.text.tower == "bag":
            self.text = BagOfWords(config.text)
        else:
            self.text = TextTransformer(config.text, config.activation)
        self.text_projection = nn.Linear(width, config.embed_dim, bias=False)
        # learned as a logarithm, so that a step multiplies the scale and it stays positive
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init))
        if config.loss == "siglip":
            self.logit_bias = nn.Parameter(torch.zeros(()))  # the training loop starts it at `siglip_bias` of the batch
        nn.init.normal_(self.text_projection.weight, std=width**-0.5)

    def encode_image(self, images: Tensor, normalize: bool = False) -> Tensor:
        """(B, 3, S, S) normalised float images -> (B, D) fp32; of length 1 with `normalize`."""
        x = self.image_projection(self.vision(images)).float()
        return F.normalize(x, dim=-1) if normalize else x

    def encode_text(self, ids: Tensor, normalize: bool = False) -> Tensor:
        """(B, L) token ids -> (B, D) fp32; of length 1 with `normalize`."""
        x = self.text_projection(self.text(ids)).float()
        return F.normalize(x, dim=-1) if normalize else x

    def forward(self, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Image (B, D) and text (B, D), both of length 1, and the scale (): what `clip_loss` takes."""
        return self.encode_image(images, normalize=True), self.encode_text(ids, normalize=True), self.logit_scale.exp()

    def logits(self, images: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled cosines (Bi, Bt) and (Bt, Bi), as OpenAI's model returns them."""
        image, text, scale = self(images, ids)
        with torch.autocast(image.device.type, enabled=False):  # logits are fp32, also where the towers are not
            per_image = scale * image @ text.T
        return per_image, per_image.T

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keeps the scale at 100 or below; called after each step."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    def freeze(self, *towers: str) -> None:
        """Leaves "vision", "text" or both as they are: no gradients, and in training neither dropout nor new statistics of BatchNorm."""
        self.frozen = towers
        for tower in towers:
            getattr(self, tower).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "CLIP":
        super().train(mode)
        for tower in self.frozen:
            getattr(self, tower).eval()
        return self

    def resize(self, image_size: int) -> None:
        """Makes this a model for images of another size, with interpolated positions; preprocess anew."""
        self.vision.resize(image_size)
        self.config = replace(self.config, vision=self.vision.config)

    @property
    def device(self) -> torch.device:
        return self.logit_scale.device

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> "CLIP":
        """The model of whatever `minclip.load` opens: a run, a folder or file of weights, OpenAI's names, the hub's."""
        from .weights.load import load  # pretrained.py builds a CLIP

        return load(name_or_path)[0]

    def save_pretrained(self, folder: str | Path, format: str = "minclip", tokenizer: Tokenizer | None = None) -> None:
        """Writes the weights and their config into `folder`, for minclip, "open_clip" or "transformers" to load."""
        from .weights.load import save

        save(folder, self, tokenizer, format)

"""minclip: CLIP from scratch, small enough to read in one sitting.

model, preprocess, tokenizer = minclip.load("demo")
"""

from . import cli  # noqa: F401  (first: Ctrl-C has to work during the imports below)
from .config import CLIPConfig, DataConfig, LoopConfig, MinclipError, TextConfig, TrainConfig, VisionConfig
from .data import Pairs, load_pairs
from .evaluate.probe import few_shot, linear_probe
from .loop import train
from .losses import clip_loss, siglip_loss
from .model import CLIP
from .presets import PRESETS
from .recall import retrieval
from .tokenizer import Tokenizer
from .training.run import Run
from .weights.config_json import VERSION as __version__  # noqa: F401
from .weights.load import load
from .zeroshot import zero_shot_classifier

__all__ = [
    "CLIP", "PRESETS", "CLIPConfig", "DataConfig", "LoopConfig", "MinclipError", "Pairs", "Run", "TextConfig",
    "Tokenizer", "TrainConfig", "VisionConfig", "clip_loss", "few_shot", "linear_probe", "load", "load_pairs",
    "retrieval", "siglip_loss", "train", "zero_shot_classifier",
]  # fmt: skip

"""minclip: CLIP from nothing, small enough to read in one sitting.

    model, preprocess, tokenizer = minclip.load("demo")
"""

from .config import PRESETS, CLIPConfig, DataConfig, LoopConfig, MinclipError, TextConfig, TrainConfig, VisionConfig
from .losses import clip_loss, siglip_loss
from .model import CLIP
from .pretrained import load, package_version
from .tokenizer import Tokenizer

__version__ = package_version()

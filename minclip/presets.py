"""The named presets: whole configs to start from, any field of which can be overridden."""

from dataclasses import replace
from typing import Any

from .config import CLIPConfig, DataConfig, LoopConfig, TextConfig, TrainConfig, VisionConfig, nearest, need


def small(*, width: int, layers: int, text_layers: int, vocab_size: int, **vision: Any) -> CLIPConfig:
    """A CLIP for little data on a laptop: 32 channels per head, texts of 32 tokens; `vision` has more tower fields."""
    pixels = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    tower = VisionConfig(width=width, layers=layers, heads=width // 32, stem="conv", pool="mean", **pixels, **vision)
    text = TextConfig(context_length=32, vocab_size=vocab_size, width=width, layers=text_layers, heads=width // 32)
    return CLIPConfig(embed_dim=256, vision=tower, text=text)


def for_few_photographs(*, width: int, vocab_size: int, **vision: Any) -> CLIPConfig:
    """A CLIP to train from scratch on a few thousand photographs: a small ResNet and a bag of words.

    A ViT and a text Transformer memorize so few captions before they learn what the images show (data/README.md).
    """
    pixels = {"mean": (0.48, 0.46, 0.41), "std": (0.27, 0.26, 0.28)}
    tower = VisionConfig("small_resnet", width=width, stages=(2, 2, 2, 2), dropout=0.3, **pixels, **vision)
    text = TextConfig(tower="bag", context_length=32, vocab_size=vocab_size, width=512, dropout=0.2)
    return CLIPConfig(embed_dim=512, vision=tower, text=text)


# Augmentation and training for few photographs (data/README.md: what helped, and what didn't).
FEW = DataConfig(min_crop=0.25, flip=True, color=0.4)
FEW_LOOP = LoopConfig(optimizer="muon", lr=2e-3, weight_decay=0.1, label_smoothing=0.1)

PRESETS: dict[str, TrainConfig] = {
    # scenes that minclip draws itself; three minutes on a laptop's CPU
    "shapes": TrainConfig(
        DataConfig("shapes", image_size=64),
        # with the paper's linear patches it learns colors in this time, and no shapes
        small(patch_size=16, width=128, layers=2, text_layers=1, vocab_size=768),
        LoopConfig(batch_size=256, lr=2e-3, steps=1150, eval_every=300),
    ),
    # 6,000 photographs; half an hour on one CPU core
    "flickr8k": TrainConfig(
        replace(FEW, name="flickr8k", image_size=64, first_size=32),
        for_few_photographs(width=32, vocab_size=4096),
        replace(FEW_LOOP, batch_size=256, steps=1500, ema=0.99, eval_every=150),
    ),
    # 29,000 photographs on one GPU: the same recipe, scaled up
    "flickr30k": TrainConfig(
        replace(FEW, name="flickr30k", image_size=112, first_size=64),
        for_few_photographs(width=64, vocab_size=8192),
        replace(FEW_LOOP, batch_size=512, steps=6000, ema=0.995, eval_every=500),
    ),
    # OpenAI's architecture and recipe (paper, tables 18 to 20), for anyone with the data and the GPUs
    "vit-b-32": TrainConfig(
        DataConfig("flickr30k", image_size=224, min_crop=0.9),
        CLIPConfig(activation="quick_gelu"),
        LoopConfig(batch_size=256, lr=5e-4, weight_decay=0.2, steps=10_000, eval_every=1000),
    ),
}


def preset(name: str) -> TrainConfig:
    """The preset of that name; for an unknown name, a MinclipError suggests the nearest one."""
    need(name in PRESETS, f"no preset is named {name!r}{nearest(name, PRESETS)}: choose from {', '.join(PRESETS)}")
    return PRESETS[name]

"""How large a model would be, before anything of it is built."""

import os
from dataclasses import replace

import torch

from ..config import CLIPConfig, MinclipError, TextConfig, VisionConfig
from ..model import CLIP


def check_size(config: CLIPConfig, *, copies: int = 1, where: str = "") -> None:
    """A MinclipError if `copies` of the model's fp32 weights don't fit into this machine's memory; training needs 4.

    `where` is the file that the config came from, for the message.  timm's and Hugging Face's towers aren't counted.
    """
    vision = VisionConfig(width=1, heads=1, layers=1) if ":" in config.vision.tower else config.vision
    text = TextConfig("bag", vocab_size=1, width=1) if ":" in config.text.tower else config.text
    with torch.device("meta"):  # shapes without memory
        model = CLIP(replace(config, vision=vision, text=text))
    numbers = sum(parameter.numel() for parameter in model.parameters())
    gb, memory = 4 * copies * numbers / 1e9, memory_gb()
    if gb > memory:
        needs = f"{numbers:,} parameters, {gb:,.1f} GB{' to train' if copies > 1 else ''}, and this machine has {memory:,.1f} GB"
        raise MinclipError(f"{where + ': ' if where else ''}this model would have {needs}: lower its widths or layers")


def memory_gb() -> float:
    """This machine's memory in GB; infinite where the system doesn't report it."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:  # Windows
        return float("inf")
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9

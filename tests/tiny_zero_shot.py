"""A tiny model, its tokenizer and class vectors computed one prompt at a time, for the tests of zero-shot and `evaluate`."""

import numpy as np
import torch
from tiny_models import far_from_start

from minclip.config import CLIPConfig, TextConfig, VisionConfig
from minclip.model import CLIP
from minclip.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["a red star on a dark background"] * 3, 540)
CLASSES = ("red", "a much longer name", "blue")
TEMPLATES = ("a {}", "a very long template about a {} on a background", "{}")


def tiny_model():
    torch.manual_seed(0)
    vision = VisionConfig(
        image_size=16, patch_size=8, width=16, layers=1, heads=2, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.15)
    )
    text = TextConfig(context_length=120, vocab_size=TOKENIZER.vocab_size, width=16, layers=1, heads=2)
    return far_from_start(CLIP(CLIPConfig(12, vision, text)))


def one_vector(model, prompt):
    """A prompt alone, without padding, trimming or batches, as float64."""
    ids = torch.tensor([[TOKENIZER.sot_id, *TOKENIZER.encode(prompt), TOKENIZER.eot_id]])
    with torch.no_grad():
        return model.encode_text(ids)[0].double().numpy()


def unit(v):
    return v / np.sqrt((v * v).sum(axis=-1, keepdims=True))


def class_vector(model, prompts):
    return unit(np.mean([unit(one_vector(model, p)) for p in prompts], axis=0))

"""A tiny CLIP and its weights under the names of other libraries, for the tests of what people bring."""

import torch

from minclip import CLIPConfig, TextConfig, Tokenizer, VisionConfig, load
from minclip.weights.load import save
from minclip.weights.names import OPEN_CLIP_NAMES, to_theirs

CONFIG = CLIPConfig(
    embed_dim=32,
    vision=VisionConfig(image_size=16, patch_size=8, width=64, layers=1, heads=1),
    text=TextConfig(context_length=8, vocab_size=520, width=64, layers=1, heads=1),
    activation="quick_gelu",
)
TOKENIZER = Tokenizer.train(["a red circle"] * 4, 520)


def equal(a, b):
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


def opened(path, **more):
    return load(path, **{"activation": "quick_gelu", **more})[0]


def state(model, prefix="", table=OPEN_CLIP_NAMES):
    return {prefix + name: tensor for name, tensor in to_theirs(model.state_dict(), table).items()}


def hugging_face(model, folder, *, tokenizer=None):
    save(folder, model, format="transformers", tokenizer=tokenizer)
    return folder

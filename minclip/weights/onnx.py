"""Writes both towers as ONNX files, which onnxruntime runs in many languages and in a browser, and checks them."""

import copy
import importlib.util
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..config import need
from ..model import CLIP
from .files import errors_naming
from .folder import atomic_write, package_version, write_json
from .towers import library


class UnitVectors(nn.Module):
    """A tower, its projection and the normalization: images (B, 3, S, S) or ids (B, L) -> unit vectors (B, D)."""

    def __init__(self, model: CLIP, tower: str) -> None:
        super().__init__()
        self.model, self.encode = model, f"encode_{tower}"

    def forward(self, inputs: Tensor) -> Tensor:
        return getattr(self.model, self.encode)(inputs, normalize=True)


def write_onnx(folder: Path, model: CLIP, *, tokenizer: Any = None) -> None:
    """Writes image.onnx, text.onnx, model.json, preprocess.json and, unless it is None, tokenizer.json.

    Any number of images or texts, of any length, will do.  `max_error` in model.json is the largest difference to the
    model's own vectors, None without onnxruntime.  MinclipError: it is above 1e-4, or a library or an operator is missing.
    """
    library("onnxscript")
    model, config = copy.deepcopy(model).cpu().eval(), model.config
    vision, text, eot_id = config.vision, config.text, config.text.eot_id % config.text.vocab_size
    numbers, length = torch.Generator().manual_seed(0), max(2, min(text.context_length - 1, 8))
    images = torch.randn(3, 3, vision.image_size, vision.image_size, generator=numbers)
    ids = torch.randint(text.vocab_size, (3, length), generator=numbers)
    ids[:, -1] = ids[1, -2] = eot_id
    files, error = {}, 0.0 if importlib.util.find_spec("onnxruntime") else None
    for tower, inputs, sizes in (("image", images, {0: "batch"}), ("text", ids, {0: "batch", 1: "length"})):
        with (
            errors_naming(f"the {tower} tower", "can't be written as ONNX"),
            warnings.catch_warnings(),
            torch.no_grad(),
        ):
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)  # the exporter's, about every operator that it leaves as it is
            names = {"input_names": [tower], "output_names": ["features"], "dynamic_shapes": (sizes,)}
            module = UnitVectors(model, tower)
            # version 18 of the operators, which onnxruntime-web has, too
            proto = torch.onnx.export(module, (inputs,), **names, opset_version=18, verbose=False).model_proto
            for item in [i for part in ("node", "input", "output", "initializer") for i in getattr(proto.graph, part)]:
                item.ClearField("metadata_props")  # where in the code it comes from
            del proto.graph.value_info[:]
            files[f"{tower}.onnx"] = proto.SerializeToString()  # fails above 2 GB
            if error is not None:
                session = library("onnxruntime").InferenceSession(files[f"{tower}.onnx"])
                for batch in (inputs, inputs[:1]):
                    found = torch.from_numpy(session.run(None, {tower: batch.numpy()})[0])
                    error = max(error, float((found - module(batch)).abs().max().nan_to_num(torch.inf)))
                need(error <= 1e-4, f"onnxruntime's vectors differ by {error:.1e} from the model's")
        logging.disable(logging.NOTSET)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        atomic_write(folder / name, data)
    ids = {name: getattr(tokenizer, name, None) for name in ("sot_id", "pad_id")} | {"eot_id": eot_id}
    facts = {"minclip": package_version(), "embed_dim": config.embed_dim, "scale": model.logit_scale.exp().item()}
    facts |= {"bias": model.logit_bias.item() if config.loss == "siglip" else None, "max_error": error, **ids}
    write_json(folder / "model.json", facts | {"context_length": text.context_length, "vocab_size": text.vocab_size})
    steps = {"resize": "short side, bicubic, antialiased", "crop": "center", "range": [0, 1]}
    write_json(folder / "preprocess.json", {"size": vision.image_size, **steps, "mean": vision.mean, "std": vision.std})
    if tokenizer is not None:
        atomic_write(folder / "tokenizer.json", tokenizer.to_json().encode())

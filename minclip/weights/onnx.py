"""Writes both towers as ONNX files, which onnxruntime runs in many languages and in a browser, and checks them."""

import copy
import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..config import need
from ..model import CLIP
from .config_json import VERSION
from .files import errors_naming
from .folder import atomic_write, write_json
from .towers import library


@torch.no_grad()
def write_onnx(folder: Path, model: CLIP, *, tokenizer: Any = None) -> None:
    """Writes image.onnx, (B, 3, S, S) -> unit vectors (B, D), and text.onnx, ids (B, L) -> unit vectors (B, D).

    B and L are dynamic.  It also writes model.json, preprocess.json and, unless it is None, tokenizer.json.
    MinclipError: a library or an operator is missing, or onnxruntime's vectors differ from the model's by over 1e-4.
    """
    _, runtime = (library(name, "the format onnx", '"minclip[onnx]"') for name in ("onnxscript", "onnxruntime"))
    model, config = copy.deepcopy(model).cpu().eval(), model.config
    vision, text, eot_id = config.vision, config.text, config.text.eot_id % config.text.vocab_size
    images = torch.arange(9.0 * vision.image_size**2).sin().view(3, 3, vision.image_size, vision.image_size)
    ids = torch.arange(3 * max(2, min(text.context_length - 1, 8))).view(3, -1) % text.vocab_size
    ids[:, -1] = ids[1, -2] = eot_id
    files, errors = {}, []
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it warns of every operator that it leaves as it is
    for tower, inputs, sizes in (("image", images, {0: "batch"}), ("text", ids, {0: "batch", 1: "length"})):
        model.forward = partial(getattr(model, f"encode_{tower}"), normalize=True)
        with errors_naming(f"the {tower} tower", "can't be written as ONNX"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = {"input_names": [tower], "output_names": ["features"], "dynamic_shapes": (sizes,)}
            # version 18 of the operators, which onnxruntime-web has, too
            proto = torch.onnx.export(model, (inputs,), **names, opset_version=18, verbose=False).model_proto
            for item in (i for part in ("node", "input", "output", "initializer") for i in getattr(proto.graph, part)):
                item.ClearField("metadata_props")  # the place in the code that it comes from
            files[f"{tower}.onnx"] = proto.SerializeToString()  # fails above 2 GB
            session = runtime.InferenceSession(files[f"{tower}.onnx"])
            for batch in (inputs, inputs[:1]):
                found = torch.from_numpy(session.run(None, {tower: batch.numpy()})[0])
                errors.append((found - model(batch)).abs().max().nan_to_num(1).item())
            need(max(errors) <= 1e-4, f"onnxruntime's vectors differ by {max(errors):.1e} from the model's")
    facts = {"minclip": VERSION, "embed_dim": config.embed_dim, "context_length": text.context_length}
    facts |= {"vocab_size": text.vocab_size, "eot_id": eot_id, "max_error": max(errors)}
    facts |= {"scale": model.logit_scale.exp().item(), "bias": float(getattr(model, "logit_bias", 0))}
    steps = {"size": vision.image_size, "resize": "short side, bicubic, antialiased", "crop": "center", "range": [0, 1]}
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        atomic_write(folder / name, data)
    write_json(folder / "model.json", facts)
    write_json(folder / "preprocess.json", steps | {"mean": vision.mean, "std": vision.std})
    if tokenizer is not None:
        atomic_write(folder / "tokenizer.json", tokenizer.to_json().encode())

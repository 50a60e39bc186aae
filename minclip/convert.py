"""Other people's CLIPs as ours and back: tables of names, sizes read back from weights, configs in their words."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .config import CLIPConfig, MinclipError, TextConfig, VisionConfig
from .folder import check_names
from .model import CLIP

# Our names -> theirs, part by part and in this order.  QKV stands for three tensors that we keep as one.
OPEN_CLIP_NAMES = {  # OpenAI's are the same
    "text.transformer.blocks": "transformer.resblocks",
    "vision.transformer.blocks": "visual.transformer.resblocks",
    "text.token_embedding": "token_embedding",
    "text.positional_embedding": "positional_embedding",
    "text.norm_final": "ln_final",
    "text_projection.weight": "text_projection",
    "image_projection.weight": "visual.proj",
    "vision.stem.projection": "visual.conv1",
    "vision.norm_pre": "visual.ln_pre",
    "vision.norm_post": "visual.ln_post",
    # the trunk's blocks
    ".norm1": ".ln_1",
    ".norm2": ".ln_2",
    ".mlp.up": ".mlp.c_fc",
    ".mlp.down": ".mlp.c_proj",
    # ModifiedResNet
    "vision.pool.attention.qkv": "visual.attnpool.QKV_proj",
    "vision.pool.attention.out": "visual.attnpool.c_proj",
    "vision.pool": "visual.attnpool",
    **{
        f"vision.stem.{i}.{ours}": f"visual.{theirs}{i + 1}"
        for i in range(3)
        for ours, theirs in (("conv", "conv"), ("norm", "bn"))
    },
    **{f"vision.stages.{i}": f"visual.layer{i + 1}" for i in range(4)},
    **{f".{ours}.conv": f".conv{i}" for i, ours in enumerate(("reduce", "spatial", "expand"), 1)},
    **{f".{ours}.norm": f".bn{i}" for i, ours in enumerate(("reduce", "spatial", "expand"), 1)},
    ".shortcut.conv": ".downsample.0",
    ".shortcut.norm": ".downsample.1",
    # after the pooling's, which begin alike
    ".attention.qkv.": ".attn.in_proj_",
    ".attention.out": ".attn.out_proj",
    "vision.": "visual.",
}
TRANSFORMERS_NAMES = {
    "text.transformer.blocks": "text_model.encoder.layers",
    "vision.transformer.blocks": "vision_model.encoder.layers",
    "text.token_embedding": "text_model.embeddings.token_embedding",
    "text.positional_embedding": "text_model.embeddings.position_embedding.weight",
    "text.norm_final": "text_model.final_layer_norm",
    "image_projection": "visual_projection",
    "vision.class_embedding": "vision_model.embeddings.class_embedding",
    "vision.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "vision.stem.projection": "vision_model.embeddings.patch_embedding",
    "vision.norm_pre": "vision_model.pre_layrnorm",  # so spelled there
    "vision.norm_post": "vision_model.post_layernorm",
    ".norm1": ".layer_norm1",
    ".norm2": ".layer_norm2",
    ".attention.qkv": ".self_attn.QKV_proj",
    ".attention.out": ".self_attn.out_proj",
    ".mlp.up": ".mlp.fc1",
    ".mlp.down": ".mlp.fc2",
}
# Fields of OpenCLIP's config that CLIP's architecture has, and those that say what it does anyway
OPEN_CLIP_SIZES = {
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio", "patch_dropout"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers"},
}
OPEN_CLIP_SAME = {"vision_cfg": {"pool_type": "tok"}, "text_cfg": {"pool_type": "argmax", "mlp_ratio": 4}}
# what stands beside the weights and follows from the config
IGNORED = ("input_resolution", "context_length", "vocab_size", "attn_mask", "position_ids", "num_batches_tracked")


@dataclass(frozen=True)
class Known:
    """What weights can't tell and a config beside them may."""

    activation: str | None = None
    vision_heads: int | None = None
    text_heads: int | None = None
    eot_id: int = -1
    mean: tuple[float, float, float] = VisionConfig.mean
    std: tuple[float, float, float] = VisionConfig.std


def config_of(tensors: Mapping[str, Tensor], names: Mapping[str, str], known: Known, path: Path) -> CLIPConfig:
    """Sizes read back from the shapes of the weights."""

    def has(ours: str) -> bool:
        return their_names(ours, names)[0] in tensors

    def shape(ours: str) -> tuple[int, ...]:
        if not has(ours):
            raise MinclipError(f"{path} is not a CLIP that minclip knows: it has no {their_names(ours, names)[0]}")
        return tuple(tensors[their_names(ours, names)[0]].shape)

    def count(ours: str) -> int:
        return next(i for i in range(len(tensors) + 1) if not has(ours.format(i)))

    vocab_size, width = shape("text.token_embedding.weight")
    text = TextConfig(
        context_length=shape("text.positional_embedding")[0],
        vocab_size=vocab_size,
        eot_id=known.eot_id,
        width=width,
        layers=count("text.transformer.blocks.{}.norm1.weight"),
        heads=known.text_heads or width // 64,
    )
    look = {"mean": known.mean, "std": known.std}
    if has("vision.stages.0.0.reduce.conv.weight"):
        width = shape("vision.stages.0.0.reduce.conv.weight")[0]
        vision = VisionConfig(
            tower="resnet",
            image_size=32 * math.isqrt(shape("vision.pool.positional_embedding")[0] - 1),
            width=width,
            heads=known.vision_heads or 32 * width // 64,
            stages=tuple(count(f"vision.stages.{i}.{{}}.reduce.conv.weight") for i in range(4)),
            **look,
        )
    else:
        width, patch_size = shape("vision.class_embedding")[0], shape("vision.stem.projection.weight")[-1]
        up = "vision.transformer.blocks.0.mlp.up.weight"
        mlp_width = shape(up)[0] if has(up) else 0  # missing weights are told later, all at once
        vision = VisionConfig(
            image_size=patch_size * math.isqrt(shape("vision.positional_embedding")[0] - 1),
            patch_size=patch_size,
            width=width,
            mlp_width=0 if mlp_width == 4 * width else mlp_width,
            layers=count("vision.transformer.blocks.{}.norm1.weight"),
            heads=known.vision_heads or width // 64,
            **look,
        )
    projection = shape("text_projection.weight")
    return CLIPConfig(projection[1 if names is OPEN_CLIP_NAMES else 0], vision, text, known.activation)


def open_clip_config(values: dict[str, Any], where: Path) -> Known:
    """What `open_clip_config.json` tells beyond the sizes; a field that makes another architecture is a MinclipError."""
    if "model_cfg" not in values:
        raise MinclipError(f"{where} is damaged: it has no model_cfg")
    model = values["model_cfg"]
    vision, text, look = model.get("vision_cfg", {}), model.get("text_cfg", {}), values.get("preprocess_cfg", {})
    for group, fields in (("vision_cfg", vision), ("text_cfg", text)):
        for name, value in fields.items():
            if value and name not in OPEN_CLIP_SIZES[group] and value != OPEN_CLIP_SAME[group].get(name):
                raise MinclipError(f"{where}: {group}.{name} = {value!r} makes a model whose architecture isn't CLIP's")
    if look.get("resize_mode", "shortest") != "shortest" or look.get("interpolation", "bicubic") != "bicubic":
        warnings.warn(f"{where}: images are prepared CLIP's way (short side, bicubic), not {look}", stacklevel=3)
    stages = isinstance(vision.get("layers"), list)
    head_width = vision.get("head_width", 64)
    return Known(
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
        vision_heads=(32 * vision["width"] if stages else vision["width"]) // head_width if "width" in vision else None,
        text_heads=text.get("heads"),
        mean=tuple(look.get("mean", VisionConfig.mean)),
        std=tuple(look.get("std", VisionConfig.std)),
    )


def transformers_config(values: dict[str, Any], look: dict[str, Any], where: Path) -> Known:
    """What a `CLIPModel`'s `config.json` and its `preprocessor_config.json` (`look`) tell beyond the sizes."""
    if values["model_type"] != "clip":
        raise MinclipError(f"{where}: a model of type {values['model_type']!r} is not CLIP's")
    vision, text = values.get("vision_config") or {}, values.get("text_config") or {}
    # the library's own defaults, where its file leaves a field out
    activations = {group.get("hidden_act", "quick_gelu") for group in (vision, text)}
    if len(activations) != 1 or not activations <= {"gelu", "quick_gelu"}:
        raise MinclipError(
            f"{where}: the activations {sorted(activations)} are not one of gelu and quick_gelu for both towers"
        )
    eot_id = text.get("eos_token_id", 49407)
    return Known(
        activation=activations.pop(),
        vision_heads=vision.get("num_attention_heads", 12),
        text_heads=text.get("num_attention_heads", 8),
        eot_id=-1 if eot_id == 2 else eot_id,  # 2 stands in old files, and there too the last token is meant
        mean=tuple(look.get("image_mean", VisionConfig.mean)),
        std=tuple(look.get("image_std", VisionConfig.std)),
    )


# ---- renaming, both ways


def their_names(ours: str, names: Mapping[str, str]) -> list[str]:
    """Their name of one of our tensors: three names where they keep queries, keys and values apart."""
    for our_part, their_part in names.items():
        ours = ours.replace(our_part, their_part)
    return [ours.replace("QKV", letter) for letter in "qkv"] if "QKV" in ours else [ours]


def to_ours(
    tensors: Mapping[str, Tensor], names: Mapping[str, str], config: CLIPConfig, path: Path
) -> dict[str, Tensor]:
    """Their tensors under our names and in our shapes; a MinclipError lists what is missing or left over."""
    with torch.device("meta"):
        wanted = {ours: their_names(ours, names) for ours in CLIP(config).state_dict()}
    counters = {ours for ours in wanted if ours.endswith("num_batches_tracked")}  # some files leave BatchNorm's out
    needed = [theirs for ours, of_ours in wanted.items() if ours not in counters for theirs in of_ours]
    check_names(needed, [name for name in tensors if not name.endswith(IGNORED)], str(path))
    out = {}
    for ours, theirs in wanted.items():
        if ours in counters:
            out[ours] = tensors.get(theirs[0], torch.tensor(0)).long()
            continue
        tensor = torch.cat([tensors[name] for name in theirs]) if len(theirs) > 1 else tensors[theirs[0]]
        if ours == "vision.stem.projection.weight":
            tensor = tensor.flatten(1)  # a convolution's kernel, a row a channel
        elif ours == "logit_scale":
            tensor = tensor.reshape(())
        out[ours] = _turned(ours, tensor, names)
    return out


def to_theirs(model: CLIP, names: Mapping[str, str]) -> dict[str, Tensor]:
    """The inverse of `to_ours`."""
    out, patch = {}, model.config.vision.patch_size
    for ours, tensor in model.state_dict().items():
        tensor, theirs = _turned(ours, tensor.cpu(), names), their_names(ours, names)
        if ours == "vision.stem.projection.weight":
            tensor = tensor.unflatten(1, (3, patch, patch))
        out |= {
            name: part.contiguous()
            for name, part in zip(theirs, tensor.chunk(len(theirs)) if tensor.ndim else [tensor])
        }
    return out


def _turned(ours: str, tensor: Tensor, names: Mapping[str, str]) -> Tensor:
    """OpenAI and OpenCLIP multiply by a projection from the right and keep it the other way round."""
    turned = names is OPEN_CLIP_NAMES and ours in ("image_projection.weight", "text_projection.weight")
    return tensor.T if turned else tensor


# ---- configs in their words


def for_open_clip(config: CLIPConfig) -> dict[str, Any]:
    vision, text = config.vision, config.text
    size = {"image_size": vision.image_size, "width": vision.width}
    if vision.tower == "resnet":
        size |= {"layers": list(vision.stages), "patch_size": None, "head_width": 32 * vision.width // vision.heads}
    else:
        size |= {"layers": vision.layers, "patch_size": vision.patch_size, "head_width": vision.width // vision.heads}
        if vision.mlp_width:
            size["mlp_ratio"] = (vision.mlp_width + 0.5) / vision.width  # OpenCLIP multiplies and rounds down
    text_size = {name: getattr(text, name) for name in ("context_length", "vocab_size", "width", "heads", "layers")}
    quick = config.activation == "quick_gelu"
    model = {"embed_dim": config.embed_dim, "quick_gelu": quick, "vision_cfg": size, "text_cfg": text_size}
    return {"model_cfg": model, "preprocess_cfg": {"mean": list(vision.mean), "std": list(vision.std)}}


def for_transformers(config: CLIPConfig) -> dict[str, Any]:
    def tower(of: VisionConfig | TextConfig) -> dict[str, Any]:
        return {
            "hidden_size": of.width,
            "intermediate_size": getattr(of, "mlp_width", 0) or 4 * of.width,
            "num_hidden_layers": of.layers,
            "num_attention_heads": of.heads,
            "hidden_act": config.activation,
            "projection_dim": config.embed_dim,
        }

    vision, text = config.vision, config.text
    last = text.vocab_size - 1
    tokens = {"vocab_size": text.vocab_size, "bos_token_id": last - 1, "eos_token_id": last, "pad_token_id": last}
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": config.logit_scale_init,
        "text_config": {**tower(text), **tokens, "max_position_embeddings": text.context_length},
        "vision_config": {**tower(vision), "image_size": vision.image_size, "patch_size": vision.patch_size},
    }


def for_image_processor(vision: VisionConfig) -> dict[str, Any]:
    size = vision.image_size
    return {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": size},
        "crop_size": {"height": size, "width": size},
        "resample": 3,  # bicubic
        "image_mean": list(vision.mean),
        "image_std": list(vision.std),
    }

"""CLIP's config in OpenCLIP's and Hugging Face's words: what a config beside weights tells, and how ours is written there."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..config import CLIPConfig, MinclipError, TextConfig, VisionConfig

# Fields of OpenCLIP's config that CLIP's architecture has, and those that say what it does anyway
OPEN_CLIP_SIZES = {
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio", "patch_dropout"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers"},
}
# attn_pooler_…, timm_… and hf_… lie idle unless the field that switches them on is set, which is refused
OPEN_CLIP_SAME = {
    "vision_cfg": {
        "pool_type": "tok",
        "pos_embed_type": "learnable",
        "attn_pooler_queries": 256,
        "attn_pooler_heads": 8,
        "timm_pool": "avg",
        "timm_proj": "linear",
    },
    "text_cfg": {
        "pool_type": "argmax",
        "proj_type": "linear",
        "mlp_ratio": 4,
        "eos_id": 2,
        "hf_model_pretrained": True,
        "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler",
    },
}


@dataclass(frozen=True)
class Known:
    """What weights can't tell and a config beside them may."""

    activation: str | None = None
    vision_heads: int | None = None
    text_heads: int | None = None
    eot_id: int = -1
    mean: tuple[float, float, float] = VisionConfig.mean
    std: tuple[float, float, float] = VisionConfig.std

    def __post_init__(self) -> None:
        VisionConfig(mean=self.mean, std=self.std)  # which refuses what can't be a mean or a deviation
        whole = {"heads": (self.vision_heads or 1, self.text_heads or 1), "the end token": (self.eot_id,)}
        for name, values in whole.items():
            if not all(isinstance(value, int) for value in values):
                raise MinclipError(f"{name} should be whole numbers, not {values}")


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
    # OpenCLIP's own defaults, where its file leaves a field out
    head_width, width = vision.get("head_width", 64), vision.get("width", 768)
    return Known(
        activation="quick_gelu" if model.get("quick_gelu") else "gelu",
        vision_heads=(32 * width if stages else width) // head_width,
        text_heads=text.get("heads", 8),
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
    if any(group.get("layer_norm_eps", 1e-5) != 1e-5 for group in (vision, text)):
        raise MinclipError(f"{where}: a layer_norm_eps other than 1e-05 makes a model whose architecture isn't CLIP's")
    if not (look.get("do_center_crop", True) and look.get("resample", 3) == 3):
        warnings.warn(
            f"{where}: images are prepared CLIP's way (short side, bicubic, centre), not {look}", stacklevel=3
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


# ---- for them to read


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
    if config.loss == "siglip":
        model["init_logit_bias"] = 0.0  # so that OpenCLIP's model has a bias to load
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

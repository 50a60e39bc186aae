"""Configs of OpenCLIP and transformers: what they say beyond the sizes of the weights, and ours written in their terms."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import CLIPConfig, TextConfig, VisionConfig, _need
from .config_json import read_fields
from .files import one_error

# Fields of OpenCLIP's config that are fine: with any value where it is a size, which the weights have as well, or with
# the value that CLIP has.  attn_pooler_…, timm_… and hf_… have no effect unless a field that is not listed turns them on.
OPEN_CLIP_FIELDS = {
    "vision_cfg": """image_size layers width patch_size head_width mlp_ratio patch_dropout pool_type=tok
        pos_embed_type=learnable attn_pooler_queries=256 attn_pooler_heads=8 timm_pool=avg timm_proj=linear""",
    "text_cfg": """context_length vocab_size width heads layers mlp_ratio=4 mlp_ratio=4.0 pool_type=argmax
        proj_type=linear eos_id=2 hf_model_pretrained=True hf_proj_type=mlp hf_pooler_type=mean_pooler""",
}


@dataclass(frozen=True)
class Hints:
    """What a config says about weights beyond their shapes: the activation, and fields of VisionConfig and TextConfig."""

    activation: str | None = None
    vision: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:  # refuses values of a wrong type here, where it is known which file has them
        VisionConfig(**self.vision, width=self.vision.get("heads", 12))
        TextConfig(**self.text, width=self.text.get("heads", 8), vocab_size=10**7)


def open_clip_hints(path: Path) -> Hints | None:
    """What `open_clip_config.json` says; a MinclipError where it is damaged or describes another architecture."""
    if not path.exists():
        return None
    with one_error(path):
        values = read_fields(path)
        model, images = values["model_cfg"], values.get("preprocess_cfg", {})
        vision, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
        for group, known in OPEN_CLIP_FIELDS.items():
            for name, value in model.get(group, {}).items():
                fine = not value or {name, f"{name}={value}"} & set(known.split())
                _need(fine, f"{group}.{name} = {value!r:.60} makes an architecture other than CLIP's")
        # where the file leaves a field out, OpenCLIP's default
        width = vision.get("width", 768) * (32 if isinstance(vision.get("layers"), list) else 1)  # a list: a ResNet
        colors = _colors(path, images, resize_mode="shortest", interpolation="bicubic")
        activation = "quick_gelu" if model.get("quick_gelu") else "gelu"
        heads = width // vision.get("head_width", 64)
        return Hints(activation, {"heads": heads, **colors}, {"heads": text.get("heads", 8)})


def transformers_hints(path: Path) -> Hints | None:
    """What a `CLIPModel`'s config.json and preprocessor_config.json say; None where `path` is no config of transformers."""
    values, images = read_fields(path), read_fields(path.with_name("preprocessor_config.json"))
    if "model_type" not in values:
        return None
    with one_error(path):
        _need(values["model_type"] == "clip", f"a model of type {values['model_type']!r:.60} is not CLIP")
        vision, text = values.get("vision_config") or {}, values.get("text_config") or {}
        # where the file leaves a field out, the library's default
        found = sorted({group.get("hidden_act", "quick_gelu") for group in (vision, text)})
        known = found in (["gelu"], ["quick_gelu"])
        _need(known, f"hidden_act is {found}; minclip has gelu and quick_gelu, the same in both towers")
        same = all(group.get("layer_norm_eps", 1e-5) == 1e-5 for group in (vision, text))
        _need(same, "a layer_norm_eps other than 1e-05 makes an architecture other than CLIP's")
        colors = _colors(path, images, "image_", do_center_crop=True, resample=3)
        eot_id = text.get("eos_token_id", 49407)
        eot_id = -1 if eot_id == 2 else eot_id  # old files say 2, and mean the last token, too
        vision = {"heads": vision.get("num_attention_heads", 12), **colors}
        return Hints(found[0], vision, {"heads": text.get("num_attention_heads", 8), "eot_id": eot_id})


def _colors(path: Path, images: dict[str, Any], prefix: str = "", **of_clip: Any) -> dict[str, tuple[float, ...]]:
    """The mean and std that a config names, with a warning where it doesn't prepare images as CLIP does."""
    if any(images.get(name, value) != value for name, value in of_clip.items()):
        how = "short side, bicubic, center crop"
        warnings.warn(f"{path}: minclip prepares images as CLIP does ({how}), not by {images!s:.200}", stacklevel=5)
    return {name: tuple(images.get(prefix + name, getattr(VisionConfig, name))) for name in ("mean", "std")}


def for_open_clip(config: CLIPConfig) -> dict[str, Any]:
    vision, resnet = config.vision, config.vision.tower == "resnet"
    layers, patch_size = (list(vision.stages), None) if resnet else (vision.layers, vision.patch_size)
    size = {"image_size": vision.image_size, "width": vision.width, "layers": layers, "patch_size": patch_size}
    size["head_width"] = (32 if resnet else 1) * vision.width // vision.heads
    if vision.mlp_width:
        size["mlp_ratio"] = (vision.mlp_width + 0.5) / vision.width  # OpenCLIP multiplies and rounds down
    text = {name: getattr(config.text, name) for name in ("context_length", "vocab_size", "width", "heads", "layers")}
    model = {"embed_dim": config.embed_dim, "quick_gelu": config.activation == "quick_gelu"}
    if config.loss == "siglip":
        model["init_logit_bias"] = 0.0  # so that OpenCLIP's model has a bias to load
    images = {"mean": list(vision.mean), "std": list(vision.std)}
    return {"model_cfg": {**model, "vision_cfg": size, "text_cfg": text}, "preprocess_cfg": images}


def for_transformers(config: CLIPConfig) -> dict[str, Any]:
    def tower(of: VisionConfig | TextConfig) -> dict[str, Any]:
        sizes = {"hidden_size": of.width, "num_hidden_layers": of.layers, "num_attention_heads": of.heads}
        sizes["intermediate_size"] = getattr(of, "mlp_width", None) or 4 * of.width
        return {**sizes, "hidden_act": config.activation, "projection_dim": config.embed_dim}

    text, last = config.text, config.text.vocab_size - 1
    vision = tower(config.vision) | {"image_size": config.vision.image_size, "patch_size": config.vision.patch_size}
    tokens = {"vocab_size": last + 1, "bos_token_id": last - 1, "eos_token_id": last, "pad_token_id": last}
    text = tower(text) | tokens | {"max_position_embeddings": text.context_length}
    whole = {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": config.embed_dim}
    return {**whole, "logit_scale_init_value": config.logit_scale_init, "vision_config": vision, "text_config": text}


def for_image_processor(vision: VisionConfig) -> dict[str, Any]:
    size, mean, std = vision.image_size, list(vision.mean), list(vision.std)
    crop = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}, "resample": 3}  # 3: bicubic
    return {"image_processor_type": "CLIPImageProcessor", **crop, "image_mean": mean, "image_std": std}

"""Converts the CLIPs of OpenAI, OpenCLIP and transformers: tensor names and shapes, sizes from weights, and configs."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..config import CLIPConfig, TextConfig, VisionConfig, need
from .config_json import read_fields
from .files import errors_naming

# Parts of tensor names, replaced in this order: ours, OpenAI's and OpenCLIP's, transformers' ("=": like ours, "-":
# none).  QKV stands for three tensors, which we keep as one; {0} counts from 0 and {1} from 1.
TABLE = """
text.transformer.blocks      transformer.resblocks         text_model.encoder.layers
vision.transformer.blocks    visual.transformer.resblocks  vision_model.encoder.layers
text.token_embedding         token_embedding               text_model.embeddings.token_embedding
text.positional_embedding    positional_embedding          text_model.embeddings.position_embedding.weight
text.norm_final              ln_final                      text_model.final_layer_norm
text_projection.weight       text_projection               =
image_projection.weight      visual.proj                   visual_projection.weight
vision.class_embedding       visual.class_embedding        vision_model.embeddings.class_embedding
vision.positional_embedding  visual.positional_embedding   vision_model.embeddings.position_embedding.weight
vision.stem.projection       visual.conv1                  vision_model.embeddings.patch_embedding
vision.norm_pre              visual.ln_pre                 vision_model.pre_layrnorm
vision.norm_post             visual.ln_post                vision_model.post_layernorm
.norm{1}                     .ln_{1}                       .layer_norm{1}
.mlp.up                      .mlp.c_fc                     .mlp.fc1
.mlp.down                    .mlp.c_proj                   .mlp.fc2
vision.pool.attention.qkv    visual.attnpool.QKV_proj      -
vision.pool.attention.out    visual.attnpool.c_proj        -
vision.pool                  visual.attnpool               -
vision.stem.{0}.conv         visual.conv{1}                -
vision.stem.{0}.norm         visual.bn{1}                  -
vision.stages.{0}            visual.layer{1}               -
.reduce.conv                 .conv1                        -
.spatial.conv                .conv2                        -
.expand.conv                 .conv3                        -
.reduce.norm                 .bn1                          -
.spatial.norm                .bn2                          -
.expand.norm                 .bn3                          -
.shortcut.conv               .downsample.0                 -
.shortcut.norm               .downsample.1                 -
.attention.qkv.              .attn.in_proj_                .self_attn.QKV_proj.
.attention.out               .attn.out_proj                .self_attn.out_proj
vision.                      visual.                       -
"""
ROWS = [line.format(i, i + 1).split() for line in TABLE.strip().splitlines() for i in range(4 if "{" in line else 1)]
OPEN_CLIP_NAMES = {ours: theirs for ours, theirs, _ in ROWS}
TRANSFORMERS_NAMES = {ours: theirs for ours, _, theirs in ROWS if theirs not in "=-"}
TABLES = {"open_clip": OPEN_CLIP_NAMES, "transformers": TRANSFORMERS_NAMES}
# may be missing or present: they follow from the config, except BatchNorm's counter, which nothing reads
IGNORED = ("input_resolution", "context_length", "vocab_size", "attn_mask", "position_ids", "num_batches_tracked")
# OpenAI and OpenCLIP compute x @ P with P (W, D); the weight of an nn.Linear is (D, W)
TRANSPOSED = ("image_projection.weight", "text_projection.weight")


def config_of(tensors: Mapping[str, Tensor], names: Mapping[str, str], declared: Mapping[str, Any]) -> CLIPConfig:
    """The config: sizes come from the shapes of the weights, and `declared` has what shapes don't show.

    `declared` has "activation" and, optionally, fields of "vision" and of "text", from the model's own config.
    """

    def shape(ours: str, dimensions: int) -> tuple[int, ...]:
        (name,) = their_names(ours, names)
        need(name in tensors, f"this is not a CLIP that minclip knows: it has no {name}")
        found = tuple(tensors[name].shape)
        fits = len(found) == dimensions and 0 not in found
        need(fits, f"{name} has shape {found}, not {dimensions} dimensions of at least 1")
        return found

    def count(ours: str) -> int:
        """The number of blocks, from the largest index: a block without tensors is then reported, not left out."""
        (before,) = their_names(ours, names)
        indices = {name.removeprefix(before).split(".")[0] for name in tensors if name.startswith(before)}
        layers = 1 + max((int(i) for i in indices if i.isdecimal() and len(i) < 6), default=-1)
        need(0 < layers <= len(tensors), f"this is not a CLIP that minclip knows: it has {layers} blocks {before}…")
        return layers

    def side(ours: str) -> int:
        """Patches along one side; the first position is that of the class token, in a ResNet that of the mean."""
        patches = shape(ours, 2)[0] - 1
        found = math.isqrt(patches)
        need(found**2 == patches > 0, f"{their_names(ours, names)[0]}: {patches} patches don't form a square")
        return found

    vocab_size, width = shape("text.token_embedding.weight", 2)
    text = {"vocab_size": vocab_size, "width": width, "heads": max(1, width // 64)}
    text |= {"context_length": shape("text.positional_embedding", 2)[0], "layers": count("text.transformer.blocks.")}
    if their_names("vision.stages.0.0.reduce.conv.weight", names)[0] in tensors:
        width = shape("vision.stages.0.0.reduce.conv.weight", 4)[0]
        vision = {"tower": "resnet", "stages": tuple(count(f"vision.stages.{i}.") for i in range(4))}
        vision["heads"] = max(1, 32 * width // 64)  # of the attention pooling, which has 32 · width channels
        vision["image_size"] = 32 * side("vision.pool.positional_embedding")
    else:
        width, patch = shape("vision.class_embedding", 1)[0], shape("vision.stem.projection.weight", 4)[-1]
        vision = {"patch_size": patch, "layers": count("vision.transformer.blocks.")}
        vision["heads"] = 16 if width > 1024 else max(1, width // 64)  # OpenCLIP's H, g, bigG and e: over 64 channels
        vision["image_size"] = patch * side("vision.positional_embedding")
        up = tensors.get(their_names("vision.transformer.blocks.0.mlp.up.bias", names)[0])
        if up is not None and up.numel() != 4 * width:  # if it is missing, `build` reports that
            vision["mlp_width"] = up.numel()
    embed_dim = shape("text_projection.weight", 2)[1 if names is OPEN_CLIP_NAMES else 0]
    loss = "siglip" if "logit_bias" in tensors else "clip"
    vision = VisionConfig(**vision | {"width": width} | declared.get("vision", {}))
    text = TextConfig(**text | declared.get("text", {}))
    return CLIPConfig(embed_dim, vision, text, activation=declared["activation"], loss=loss)


def their_names(ours: str, names: Mapping[str, str]) -> list[str]:
    """Their name for one of our tensors; three names if they store queries, keys and values separately."""
    for our_part, their_part in names.items():
        ours = ours.replace(our_part, their_part)
    return [ours.replace("QKV", letter) for letter in "qkv"] if "QKV" in ours else [ours]


def to_theirs(tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    """Our tensors under their names and in their shapes, as views: writing to these writes to ours."""
    out = {}
    for ours, tensor in tensors.items():
        theirs = their_names(ours, names)
        if ours in TRANSPOSED and names is OPEN_CLIP_NAMES:
            tensor = tensor.T
        elif ours == "vision.stem.projection.weight":  # (W, 3PP) of a Linear -> (W, 3, P, P) of a convolution
            side = math.isqrt(tensor.shape[1] // 3)
            tensor = tensor.unflatten(1, (3, side, side))
        out |= zip(theirs, tensor.chunk(len(theirs)) if len(theirs) > 1 else [tensor])
    return out


# ---- configs

# Fields of OpenCLIP's config that don't change the architecture: sizes, with any value, because the weights show them,
# and "field=value" with CLIP's own value.  attn_pooler_…, timm_… and hf_… have no effect without unlisted fields.
OPEN_CLIP_FIELDS = {
    "vision_cfg": """image_size layers width patch_size head_width mlp_ratio patch_dropout pool_type=tok
        pos_embed_type=learnable attn_pooler_queries=256 attn_pooler_heads=8 timm_pool=avg timm_proj=linear""",
    "text_cfg": """context_length vocab_size width heads layers mlp_ratio=4 mlp_ratio=4.0 pool_type=argmax
        proj_type=linear eos_id=2 hf_model_pretrained=True hf_proj_type=mlp hf_pooler_type=mean_pooler""",
}


def read_open_clip_config(path: Path) -> dict[str, Any]:
    """`config_of`'s `declared` from open_clip_config.json; a MinclipError if it is damaged or isn't plain CLIP."""
    if not path.exists():
        return {}
    with errors_naming(path):
        values = read_fields(path)
        model, images = values["model_cfg"], values.get("preprocess_cfg", {})
        vision, text = model.get("vision_cfg", {}), model.get("text_cfg", {})
        for group, known in OPEN_CLIP_FIELDS.items():
            for name, value in model.get(group, {}).items():
                fine = not value or {name, f"{name}={value}"} & set(known.split())
                need(fine, f"{group}.{name} = {value!r:.60} belongs to an architecture other than CLIP's")
        # a field that the file leaves out has OpenCLIP's default
        width = vision.get("width", 768) * (32 if isinstance(vision.get("layers"), list) else 1)  # a list: a ResNet
        mean_std = _mean_and_std(path, images, resize_mode="shortest", interpolation="bicubic")
        vision = {"heads": width // vision.get("head_width", 64), "width": vision.get("width", 768), **mean_std}
        text = {"heads": text.get("heads", 8), "width": text.get("width", 512)}
        return {"activation": "quick_gelu" if model.get("quick_gelu") else "gelu", "vision": vision, "text": text}


def read_transformers_config(path: Path) -> dict[str, Any]:
    """Likewise from a `CLIPModel`'s config.json and preprocessor_config.json; {} if `path` isn't transformers'."""
    values, images = read_fields(path), read_fields(path.with_name("preprocessor_config.json"))
    if "model_type" not in values:
        return {}
    with errors_naming(path):
        need(values["model_type"] == "clip", f"a model of type {values['model_type']!r:.60} is not CLIP")
        vision, text = values.get("vision_config") or {}, values.get("text_config") or {}
        # a field that the file leaves out has the library's default
        found = sorted({group.get("hidden_act", "quick_gelu") for group in (vision, text)})
        need(found in (["gelu"], ["quick_gelu"]), f"hidden_act is {found}, not gelu or quick_gelu in both towers")
        same = all(group.get("layer_norm_eps", 1e-5) == 1e-5 for group in (vision, text))
        need(same, "a layer_norm_eps other than 1e-05 belongs to an architecture other than CLIP's")
        mean_std = _mean_and_std(path, images, "image_", do_center_crop=True, resample=3)
        eot_id = -1 if text.get("eos_token_id", 2) == 2 else text["eos_token_id"]  # old files say 2 for the last token
        vision = {"heads": vision.get("num_attention_heads", 12), "width": vision.get("hidden_size", 768), **mean_std}
        text = {"heads": text.get("num_attention_heads", 8), "width": text.get("hidden_size", 512), "eot_id": eot_id}
        return {"activation": found[0], "vision": vision, "text": text}


def _mean_and_std(path: Path, images: dict[str, Any], prefix: str = "", **clip: Any) -> dict[str, tuple[float, ...]]:
    """The mean and std in a preprocessing config; warns if its other fields differ from those of CLIP, `clip`."""
    if any(images.get(name, value) != value for name, value in clip.items()):
        how = "short side, bicubic, center crop"
        warnings.warn(f"{path}: minclip prepares images as CLIP does ({how}), not by {images!s:.200}", stacklevel=5)
    return {name: tuple(images.get(prefix + name, getattr(VisionConfig, name))) for name in ("mean", "std")}


def for_open_clip(config: CLIPConfig) -> dict[str, Any]:
    vision, resnet = config.vision, config.vision.tower == "resnet"
    head_width = (32 if resnet else 1) * vision.width // vision.heads
    size = {"image_size": vision.image_size, "width": vision.width, "head_width": head_width}
    size |= {"layers": vision.stages} if resnet else {"layers": vision.layers, "patch_size": vision.patch_size}
    if vision.mlp_width:
        size["mlp_ratio"] = (vision.mlp_width + 0.5) / vision.width  # OpenCLIP multiplies and rounds down
    text = {name: getattr(config.text, name) for name in ("context_length", "vocab_size", "width", "heads", "layers")}
    model = {"embed_dim": config.embed_dim, "quick_gelu": config.activation == "quick_gelu"}
    model |= {"init_logit_bias": 0.0} if config.loss == "siglip" else {}  # so that OpenCLIP's model has a bias to load
    model |= {"vision_cfg": size, "text_cfg": text}
    return {"open_clip_config.json": {"model_cfg": model, "preprocess_cfg": {"mean": vision.mean, "std": vision.std}}}


def for_transformers(config: CLIPConfig) -> dict[str, Any]:
    def tower(of: VisionConfig | TextConfig) -> dict[str, Any]:
        sizes = {"hidden_size": of.width, "num_hidden_layers": of.layers, "num_attention_heads": of.heads}
        sizes["intermediate_size"] = getattr(of, "mlp_width", None) or 4 * of.width
        return {**sizes, "hidden_act": config.activation, "projection_dim": config.embed_dim}

    vision, text, last = config.vision, config.text, config.text.vocab_size - 1
    tokens = {"vocab_size": last + 1, "bos_token_id": last - 1, "eos_token_id": last, "pad_token_id": last}
    whole = {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": config.embed_dim}
    whole["vision_config"] = tower(vision) | {"image_size": vision.image_size, "patch_size": vision.patch_size}
    whole["text_config"] = tower(text) | tokens | {"max_position_embeddings": text.context_length}
    images = {"image_processor_type": "CLIPImageProcessor", "image_mean": vision.mean, "image_std": vision.std}
    images |= {"resample": 3, "size": {"shortest_edge": vision.image_size}}  # 3: bicubic
    images["crop_size"] = {"height": vision.image_size, "width": vision.image_size}
    return {"config.json": whole, "preprocessor_config.json": images}


CONFIG_READERS = {"open_clip": read_open_clip_config, "transformers": read_transformers_config}

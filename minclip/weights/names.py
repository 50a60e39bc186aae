"""Other people's CLIPs as ours and back: tables of names, sizes read back from weights, tensors renamed and turned."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..config import CLIPConfig, MinclipError, TextConfig, VisionConfig
from ..model import CLIP
from .folder import check_names
from .peers import Known

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
# what stands beside the weights and follows from the config
IGNORED = ("input_resolution", "context_length", "vocab_size", "attn_mask", "position_ids", "num_batches_tracked")


def config_of(tensors: Mapping[str, Tensor], names: Mapping[str, str], known: Known, path: Path) -> CLIPConfig:
    """Sizes read back from the shapes of the weights."""

    def has(ours: str) -> bool:
        return their_names(ours, names)[0] in tensors

    def shape(ours: str, dimensions: int) -> tuple[int, ...]:
        name = their_names(ours, names)[0]
        if name not in tensors:
            raise MinclipError(f"{path} is not a CLIP that minclip knows: it has no {name}")
        if tensors[name].ndim != dimensions:
            raise MinclipError(f"{path}: {name} has shape {tuple(tensors[name].shape)}, not {dimensions} dimensions")
        return tuple(tensors[name].shape)

    def count(ours: str) -> int:
        """How many blocks there are by the largest number, so that one that lacks a tensor is not taken for the end."""
        before = their_names(ours, names)[0]
        numbers = {name.removeprefix(before).split(".")[0] for name in tensors if name.startswith(before)}
        layers = 1 + max((int(n) for n in numbers if n.isdecimal() and len(n) < 6), default=-1)
        if not 0 < layers <= len(tensors):
            raise MinclipError(f"{path} is not a CLIP that minclip knows: it has {layers} blocks named {before}…")
        return layers

    def side(positions: str) -> int:
        """Of the square of patches that has these positions, the class token's or the mean's left out."""
        places = shape(positions, 2)[0] - 1
        if places < 1 or math.isqrt(places) ** 2 != places:
            raise MinclipError(f"{path}: {their_names(positions, names)[0]} has {places} places, which make no square")
        return math.isqrt(places)

    vocab_size, width = shape("text.token_embedding.weight", 2)
    text = TextConfig(
        context_length=shape("text.positional_embedding", 2)[0],
        vocab_size=vocab_size,
        eot_id=known.eot_id,
        width=width,
        layers=count("text.transformer.blocks."),
        heads=known.text_heads or max(1, width // 64),
    )
    look = {"mean": known.mean, "std": known.std}
    if has("vision.stages.0.0.reduce.conv.weight"):
        width = shape("vision.stages.0.0.reduce.conv.weight", 4)[0]
        vision = VisionConfig(
            tower="resnet",
            image_size=32 * side("vision.pool.positional_embedding"),
            width=width,
            heads=known.vision_heads or max(1, 32 * width // 64),
            stages=tuple(count(f"vision.stages.{i}.") for i in range(4)),
            **look,
        )
    else:
        width, patch_size = shape("vision.class_embedding", 1)[0], shape("vision.stem.projection.weight", 4)[-1]
        up = "vision.transformer.blocks.0.mlp.up.weight"
        mlp_width = shape(up, 2)[0] if has(up) else 0  # missing weights are told later, all at once
        vision = VisionConfig(
            image_size=patch_size * side("vision.positional_embedding"),
            patch_size=patch_size,
            width=width,
            mlp_width=0 if mlp_width == 4 * width else mlp_width,
            layers=count("vision.transformer.blocks."),
            heads=known.vision_heads or max(1, width // 64),
            **look,
        )
    projection = shape("text_projection.weight", 2)
    embed_dim = projection[1 if names is OPEN_CLIP_NAMES else 0]
    loss = "siglip" if "logit_bias" in tensors else "clip"
    return CLIPConfig(embed_dim, vision, text, known.activation, loss=loss)


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
        elif ours in ("logit_scale", "logit_bias") and tensor.numel() == 1:
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

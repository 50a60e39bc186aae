"""Other people's CLIPs as ours and back: a table of names, sizes read from the weights, tensors renamed and transposed."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import CLIPConfig, TextConfig, VisionConfig, _need
from ..model import CLIP
from .folder import check_names
from .peers import Hints

# Parts of names, replaced in this order: ours, OpenAI's and OpenCLIP's, transformers' ("=": as ours, "-": none).
# QKV stands for three tensors, which we keep as one; {0} counts from 0 where {1} counts from 1.
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
# what lies beside the weights and follows from the config
IGNORED = ("input_resolution", "context_length", "vocab_size", "attn_mask", "position_ids", "num_batches_tracked")
# OpenAI and OpenCLIP keep projections as x @ P, so (W, D); a Linear keeps (D, W)
TRANSPOSED = ("image_projection.weight", "text_projection.weight")


def config_of(tensors: Mapping[str, Tensor], names: Mapping[str, str], *, hints: Hints) -> CLIPConfig:
    """The config whose sizes are read from the shapes of the weights; `hints` has what shapes can't say."""

    def shape(ours: str, dimensions: int) -> tuple[int, ...]:
        (name,) = their_names(ours, names)
        _need(name in tensors, f"this is not a CLIP that minclip knows: it has no {name}")
        found = tuple(tensors[name].shape)
        fits = len(found) == dimensions and 0 not in found
        _need(fits, f"{name} has shape {found}, not {dimensions} dimensions of at least 1")
        return found

    def count(ours: str) -> int:
        """The number of blocks, by the largest index: a block that lacks a tensor is not the end of the tower."""
        (before,) = their_names(ours, names)
        indices = {name.removeprefix(before).split(".")[0] for name in tensors if name.startswith(before)}
        layers = 1 + max((int(i) for i in indices if i.isdecimal() and len(i) < 6), default=-1)
        known = 0 < layers <= len(tensors)
        _need(known, f"this is not a CLIP that minclip knows: it has {layers} blocks named {before}…")
        return layers

    def side(positions: str) -> int:
        """The side of the square of patches; the first position is the class token's (in a ResNet, the mean's)."""
        patches = shape(positions, 2)[0] - 1
        square = patches > 0 and math.isqrt(patches) ** 2 == patches
        _need(square, f"{their_names(positions, names)[0]} is for {patches} patches, which make no square")
        return math.isqrt(patches)

    vocab_size, width = shape("text.token_embedding.weight", 2)
    text = {"vocab_size": vocab_size, "width": width, "heads": max(1, width // 64)}
    text |= {"context_length": shape("text.positional_embedding", 2)[0], "layers": count("text.transformer.blocks.")}
    if their_names("vision.stages.0.0.reduce.conv.weight", names)[0] in tensors:
        width = shape("vision.stages.0.0.reduce.conv.weight", 4)[0]
        vision = {"tower": "resnet", "stages": tuple(count(f"vision.stages.{i}.") for i in range(4))}
        vision["heads"] = max(1, 32 * width // 64)  # of the attention, which pools 32 · width channels
        vision["image_size"] = 32 * side("vision.pool.positional_embedding")
    else:
        width, patch = shape("vision.class_embedding", 1)[0], shape("vision.stem.projection.weight", 4)[-1]
        vision = {"patch_size": patch, "layers": count("vision.transformer.blocks."), "heads": max(1, width // 64)}
        vision["image_size"] = patch * side("vision.positional_embedding")
        up = tensors.get(their_names("vision.transformer.blocks.0.mlp.up.bias", names)[0])
        if up is not None and up.numel() != 4 * width:  # where it is missing, `check_names` will say so
            vision["mlp_width"] = up.numel()
    embed_dim = shape("text_projection.weight", 2)[1 if names is OPEN_CLIP_NAMES else 0]
    loss = "siglip" if "logit_bias" in tensors else "clip"
    vision, text = VisionConfig(**vision | {"width": width} | hints.vision), TextConfig(**text | hints.text)
    return CLIPConfig(embed_dim, vision, text, activation=hints.activation, loss=loss)


def their_names(ours: str, names: Mapping[str, str]) -> list[str]:
    """Their name of one of our tensors: three names where they keep queries, keys and values apart."""
    for our_part, their_part in names.items():
        ours = ours.replace(our_part, their_part)
    return [ours.replace("QKV", letter) for letter in "qkv"] if "QKV" in ours else [ours]


def to_ours(tensors: Mapping[str, Tensor], names: Mapping[str, str], config: CLIPConfig) -> dict[str, Tensor]:
    """Their tensors under our names and in our shapes; a MinclipError lists missing and unknown ones."""
    with torch.device("meta"):
        wanted = {ours: their_names(ours, names) for ours in CLIP(config).state_dict()}
    needed = [name for theirs in wanted.values() for name in theirs]
    check_names(*([name for name in some if not name.endswith(IGNORED)] for some in (needed, tensors)))
    out = {}
    for ours, theirs in wanted.items():
        parts = [tensors.get(name, torch.tensor(0)) for name in theirs]  # some files lack BatchNorm's counters
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        if ours.endswith("num_batches_tracked"):
            tensor = tensor.long()
        elif ours == "vision.stem.projection.weight":
            tensor = tensor.flatten(1)  # (W, 3, P, P) of a convolution -> (W, 3PP) of a Linear
        elif ours in ("logit_scale", "logit_bias") and tensor.numel() == 1:
            tensor = tensor.reshape(())
        out[ours] = tensor.T if ours in TRANSPOSED and names is OPEN_CLIP_NAMES else tensor
    return out


def to_theirs(model: CLIP, names: Mapping[str, str]) -> dict[str, Tensor]:
    """The inverse of `to_ours`."""
    out, patch = {}, model.config.vision.patch_size
    for ours, tensor in model.state_dict().items():
        theirs = their_names(ours, names)
        if ours in TRANSPOSED and names is OPEN_CLIP_NAMES:
            tensor = tensor.T
        elif ours == "vision.stem.projection.weight":
            tensor = tensor.unflatten(1, (3, patch, patch))
        parts = tensor.chunk(len(theirs)) if tensor.ndim else [tensor]
        out |= {name: part.contiguous() for name, part in zip(theirs, parts)}
    return out

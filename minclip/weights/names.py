"""Other people's CLIPs as ours and back: a table of names, sizes read from the weights, tensors renamed and transposed."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from ..config import CLIPConfig, MinclipError, TextConfig, VisionConfig
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
.norm1                       .ln_1                         .layer_norm1
.norm2                       .ln_2                         .layer_norm2
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
.attention.qkv.weight        .attn.in_proj_weight          .self_attn.QKV_proj.weight
.attention.qkv.bias          .attn.in_proj_bias            .self_attn.QKV_proj.bias
.attention.out               .attn.out_proj                .self_attn.out_proj
vision.                      visual.                       -
"""
ROWS = [line.format(i, i + 1).split() for line in TABLE.strip().splitlines() for i in range(4 if "{" in line else 1)]
OPEN_CLIP_NAMES = {ours: theirs for ours, theirs, _ in ROWS}
TRANSFORMERS_NAMES = {ours: theirs for ours, _, theirs in ROWS if theirs not in "=-"}
# what lies beside the weights and follows from the config
IGNORED = ("input_resolution", "context_length", "vocab_size", "attn_mask", "position_ids", "num_batches_tracked")


def config_of(tensors: Mapping[str, Tensor], names: Mapping[str, str], *, hints: Hints) -> CLIPConfig:
    """The config whose sizes are read from the shapes of the weights; `hints` has what shapes can't say."""

    def theirs(ours: str) -> str:
        return their_names(ours, names)[0]

    def shape(ours: str, dimensions: int) -> tuple[int, ...]:
        if (name := theirs(ours)) not in tensors:
            raise MinclipError(f"this is not a CLIP that minclip knows: it has no {name}")
        found = tuple(tensors[name].shape)
        if len(found) != dimensions or 0 in found:
            raise MinclipError(f"{name} has shape {found}, not {dimensions} dimensions of at least 1")
        return found

    def count(ours: str) -> int:
        """The number of blocks, by the largest index: a block that lacks a tensor is not the end of the tower."""
        before = theirs(ours)
        indices = {name.removeprefix(before).split(".")[0] for name in tensors if name.startswith(before)}
        layers = 1 + max((int(i) for i in indices if i.isdecimal() and len(i) < 6), default=-1)
        if not 0 < layers <= len(tensors):
            raise MinclipError(f"this is not a CLIP that minclip knows: it has {layers} blocks named {before}…")
        return layers

    def side(positions: str) -> int:
        """The side of the square of patches; the first position is the class token's (in a ResNet, the mean's)."""
        patches = shape(positions, 2)[0] - 1
        if patches < 1 or math.isqrt(patches) ** 2 != patches:
            raise MinclipError(f"{theirs(positions)} is for {patches} patches, which make no square")
        return math.isqrt(patches)

    vocab_size, width = shape("text.token_embedding.weight", 2)
    text = {"vocab_size": vocab_size, "width": width, "heads": max(1, width // 64)}
    text |= {"context_length": shape("text.positional_embedding", 2)[0], "layers": count("text.transformer.blocks.")}
    first, up = "vision.stages.0.0.reduce.conv.weight", "vision.transformer.blocks.0.mlp.up.weight"
    if theirs(first) in tensors:
        width, size = shape(first, 4)[0], 32 * side("vision.pool.positional_embedding")
        vision = {"tower": "resnet", "stages": tuple(count(f"vision.stages.{i}.") for i in range(4))}
        vision["heads"] = max(1, 32 * width // 64)  # of the attention, which pools 32 · width channels
    else:
        width, patch = shape("vision.class_embedding", 1)[0], shape("vision.stem.projection.weight", 4)[-1]
        size, mlp_width = patch * side("vision.positional_embedding"), 4 * width
        if theirs(up) in tensors:  # else `check_names` will list it among the missing
            mlp_width = shape(up, 2)[0]
        vision = {"patch_size": patch, "layers": count("vision.transformer.blocks."), "heads": max(1, width // 64)}
        vision["mlp_width"] = None if mlp_width == 4 * width else mlp_width
    vision = VisionConfig(**vision | {"width": width, "image_size": size} | hints.vision)
    embed_dim = shape("text_projection.weight", 2)[1 if names is OPEN_CLIP_NAMES else 0]
    loss = "siglip" if "logit_bias" in tensors else "clip"
    return CLIPConfig(embed_dim, vision, TextConfig(**text | hints.text), activation=hints.activation, loss=loss)


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
        # some files lack BatchNorm's counters
        parts = [tensors.get(name, torch.tensor(0)) for name in theirs]
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        if ours.endswith("num_batches_tracked"):
            tensor = tensor.long()
        elif ours == "vision.stem.projection.weight":
            tensor = tensor.flatten(1)  # (W, 3, P, P) of a convolution -> (W, 3PP) of a Linear
        elif ours in ("logit_scale", "logit_bias") and tensor.numel() == 1:
            tensor = tensor.reshape(())
        out[ours] = _transposed(ours, tensor, names)
    return out


def to_theirs(model: CLIP, names: Mapping[str, str]) -> dict[str, Tensor]:
    """The inverse of `to_ours`."""
    out, patch = {}, model.config.vision.patch_size
    for ours, tensor in model.state_dict().items():
        theirs, tensor = their_names(ours, names), _transposed(ours, tensor, names)
        if ours == "vision.stem.projection.weight":
            tensor = tensor.unflatten(1, (3, patch, patch))
        parts = tensor.chunk(len(theirs)) if tensor.ndim else [tensor]
        out |= {name: part.contiguous() for name, part in zip(theirs, parts)}
    return out


def _transposed(ours: str, tensor: Tensor, names: Mapping[str, str]) -> Tensor:
    """OpenAI and OpenCLIP keep projections as x @ P, so (W, D); a Linear keeps (D, W)."""
    is_projection = names is OPEN_CLIP_NAMES and ours in ("image_projection.weight", "text_projection.weight")
    return tensor.T if is_projection else tensor

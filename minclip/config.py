"""Every knob of minclip as frozen dataclasses, the named presets, and their way to JSON and back."""

import dataclasses
import difflib
import math
import os
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

FORMAT = 1  # of a run's folder; raise it when a field changes its meaning


class MinclipError(ValueError):
    """A user's mistake, told in one sentence: what was wrong, where, and what to do.  The command line exits with 2."""


def nearest(word: str, words: typing.Iterable[str], cutoff: float = 0.5) -> str:
    """`" (did you mean 'shapes'?)"`, or nothing where no word of `words` is near; 1 would be the same word."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=cutoff)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise MinclipError(message)


@dataclass(frozen=True)
class VisionConfig:
    """The image tower, a Vision Transformer or a ModifiedResNet; defaults are OpenAI's ViT-B/32."""

    tower: Literal["vit", "resnet"] = "vit"
    image_size: int = 224  # side in pixels; in training it follows data.image_size
    width: int = 768  # of the tokens; of a ResNet, the channels of its first stage
    heads: int = 12  # of the attention; of a ResNet, of its pooling
    stages: tuple[int, int, int, int] = (3, 4, 6, 3)  # ResNet only: blocks of each stage
    # the rest, but for mean and std, is the Vision Transformer's
    patch_size: int = 32
    layers: int = 12
    mlp_width: int = 0  # of the layer within each MLP; 0 is four times the width, OpenAI's
    stem: Literal["patch", "conv"] = "patch"  # CLIP's flat patches, or a few convolutions, which learn from less data
    stem_width: int = 16  # channels of the first convolution
    pool: Literal["cls", "mean"] = "cls"  # the feature: CLIP's class token, or the mean of the patches
    patch_dropout: float = 0.0  # share of the patches left out in training (FLIP, Li et al. 2023)
    dropout: float = 0.0  # of what each block adds to its tokens, in training
    # of OpenAI's 400 million images, RGB in 0 to 1
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        sizes = (self.patch_size, self.width, self.layers, self.heads, self.stem_width, *self.stages)
        _need(min(sizes) > 0, "model.vision: sizes must be positive")
        _need(self.tower in ("vit", "resnet"), f"model.vision.tower {self.tower!r} is neither 'vit' nor 'resnet'")
        _need(self.stem in ("patch", "conv"), f"model.vision.stem {self.stem!r} is neither 'patch' nor 'conv'")
        _need(self.pool in ("cls", "mean"), f"model.vision.pool {self.pool!r} is neither 'cls' nor 'mean'")
        power_of_two = self.patch_size & (self.patch_size - 1) == 0 and self.patch_size > 1
        _need(
            self.stem == "patch" or power_of_two,
            f"model.vision.patch_size {self.patch_size} is not 2, 4, 8, …: each convolution of the stem halves the picture",
        )
        resnet = self.tower == "resnet"
        stride, what = (
            (32, "32, by which a ResNet shrinks it")
            if resnet
            else (self.patch_size, f"model.vision.patch_size {self.patch_size}")
        )
        _need(
            self.image_size > 0 and self.image_size % stride == 0,
            f"the image size {self.image_size} is not a multiple of {what}",
        )
        width, what = (32 * self.width, "32 · model.vision.width") if resnet else (self.width, "model.vision.width")
        _need(width % self.heads == 0, f"{what} = {width} is not a multiple of model.vision.heads {self.heads}")
        _need(
            not resnet or self.width % 2 == 0,
            f"model.vision.width {self.width} is odd: a ResNet's stem begins with half of it",
        )
        _need(
            len(self.mean) == len(self.std) == 3 and min(self.std) > 0,
            f"model.vision.mean {self.mean} and std {self.std} should be three numbers each, std above 0",
        )
        _need(self.mlp_width >= 0, f"model.vision.mlp_width {self.mlp_width} is negative")
        for name in ("patch_dropout", "dropout"):
            _need(0 <= getattr(self, name) < 1, f"model.vision.{name} {getattr(self, name)} is not in [0, 1)")


@dataclass(frozen=True)
class TextConfig:
    """The text tower, a causal Transformer or a bag of words; defaults are OpenAI's."""

    tower: Literal["transformer", "bag"] = "transformer"
    context_length: int = 77  # tokens, SOT and EOT included
    vocab_size: int = 49408
    eot_id: int = -1  # the token whose feature stands for the text; -1 is the last one of the vocabulary
    width: int = 512
    layers: int = 12  # this and what follows: Transformer only
    heads: int = 8
    dropout: float = 0.0  # of what each block adds to its tokens, in training

    def __post_init__(self) -> None:
        _need(
            self.tower in ("transformer", "bag"), f"model.text.tower {self.tower!r} is neither 'transformer' nor 'bag'"
        )
        _need(min(self.width, self.layers, self.heads) > 0, "model.text: sizes must be positive")
        _need(
            self.context_length >= 3,
            f"model.text.context_length {self.context_length} leaves no room for a token between SOT and EOT",
        )
        _need(
            self.width % self.heads == 0,
            f"model.text.width {self.width} is not a multiple of model.text.heads {self.heads}",
        )
        _need(
            -1 <= self.eot_id < self.vocab_size,
            f"model.text.eot_id {self.eot_id} is not in the vocabulary of {self.vocab_size} tokens",
        )
        _need(0 <= self.dropout < 1, f"model.text.dropout {self.dropout} is not in [0, 1)")


@dataclass(frozen=True)
class CLIPConfig:
    """Two towers, a shared space and a temperature."""

    embed_dim: int = 512
    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    activation: Literal["gelu", "quick_gelu"] = "gelu"  # OpenAI's weights were trained with quick_gelu
    logit_scale_init: float = math.log(1 / 0.07)  # paper, section 2.5
    loss: Literal["clip", "siglip"] = "clip"  # what it learns by; SigLIP's sigmoids have a bias beside the scale

    def __post_init__(self) -> None:
        _need(self.embed_dim > 0, f"model.embed_dim {self.embed_dim} is not positive")
        _need(self.loss in ("clip", "siglip"), f"model.loss {self.loss!r} is neither 'clip' nor 'siglip'")
        _need(
            self.activation in ("gelu", "quick_gelu"),
            f"model.activation {self.activation!r} is neither 'gelu' nor 'quick_gelu'",
        )


@dataclass(frozen=True)
class DataConfig:
    """Which pairs to learn from, and how they are looked at."""

    name: str = "shapes"  # "shapes", "flickr8k", "flickr30k", "own" or "shards"
    root: str = ""  # folder or zip of the photographs, or the shards; the shapes world needs none
    image_column: str = ""  # of an own table; "" looks for usual names such as image, file_name, path
    caption_column: str = ""  # likewise: caption, text, title, …
    image_size: int = 64  # side in pixels
    size: int = 0  # how many training images; 0 takes all
    min_crop: float = 1.0  # smallest share of the area that a random crop keeps; 1 does not crop
    flip: bool = False  # mirror half of the images, but never under a caption that says left or right
    workers: int = 2  # shards only: processes that read and decode, for each process that trains

    def __post_init__(self) -> None:
        _need(
            self.name == "own" or not (self.image_column or self.caption_column),
            "data.image_column and data.caption_column belong to an own table: --data.name own",
        )
        _need(self.image_size > 0, f"data.image_size {self.image_size} is not positive")
        _need(self.size >= 0 and self.workers >= 0, "data.size and data.workers must not be negative")
        _need(0 < self.min_crop <= 1, f"data.min_crop {self.min_crop} is not in (0, 1]")


@dataclass(frozen=True)
class LoopConfig:
    """The training loop."""

    seed: int = 0
    batch_size: int = 256  # pairs whose loss is one: of all processes together
    micro_batch: int = 0  # pairs that a process embeds at a time (gradient caching); 0 takes its whole share at once
    loss_chunk: int = 0  # rows of the similarity matrix at a time; 0 takes all, or 16 MB of more than 4,096 rows
    lr: float = 1e-3  # peak learning rate, after the warm-up
    warmup: float = 0.05  # share of the run in which the learning rate rises
    weight_decay: float = 0.1  # spares norms, biases, embeddings and the temperature
    beta1: float = 0.9
    beta2: float = 0.98
    grad_clip: float = 1.0  # largest norm of the gradient
    steps: int = 1000
    minutes: float = 0.0  # a budget of wall time instead of steps: the schedule follows the clock
    log_every: int = 10  # steps
    eval_every: int = 0  # steps between validations; 0 validates at the end only
    checkpoint_every: int = 200  # steps
    device: str = "auto"  # "auto" takes the first of cuda, mps, cpu that is there
    # of the towers; "auto" takes bf16 where the device is fast at it
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    parallel: Literal["ddp", "fsdp"] = "ddp"  # each process holds all weights, or its share of them
    compile: bool = False  # the towers, with torch.compile: minutes at first, faster steps on a GPU
    grad_checkpointing: bool = False  # compute activations twice instead of keeping them
    ema: float = 0.0  # decay of a moving average of the weights, which is then what is validated and saved
    unmasked_last: float = 0.0  # share of the run, at its end, in which no patches are dropped (FLIP, section 3)
    tensorboard: bool = False  # also log to the run's folder `tensorboard`
    overfit: int = 0  # learn this many pairs by heart, to see whether anything is learned at all

    def __post_init__(self) -> None:
        _need(self.batch_size >= 2, f"train.batch_size {self.batch_size}: a contrastive loss needs at least 2 pairs")
        _need(
            min(self.micro_batch, self.loss_chunk, self.overfit) >= 0,
            "train.micro_batch, train.loss_chunk and train.overfit must not be negative",
        )
        _need(self.overfit != 1, "train.overfit needs at least 2 pairs")
        _need(0 <= self.ema < 1, f"train.ema {self.ema} is a decay, in [0, 1)")
        _need(
            0 <= self.unmasked_last <= 1, f"train.unmasked_last {self.unmasked_last} is a share of the run, in [0, 1]"
        )
        _need(self.parallel in ("ddp", "fsdp"), f"train.parallel {self.parallel!r} is neither 'ddp' nor 'fsdp'")
        _need(self.lr > 0, f"train.lr {self.lr} is not positive")
        _need(0 <= self.warmup < 1, f"train.warmup {self.warmup} is a share of the run, in [0, 1)")
        _need(
            self.weight_decay >= 0 and self.grad_clip > 0,
            "train.weight_decay must not be negative, train.grad_clip must be positive",
        )
        _need(0 <= self.beta1 < 1 and 0 <= self.beta2 < 1, "train.beta1 and train.beta2 must be in [0, 1)")
        _need(
            self.steps >= 1 and self.minutes >= 0, "train.steps must be at least 1, train.minutes must not be negative"
        )
        _need(
            min(self.log_every, self.checkpoint_every) >= 1 and self.eval_every >= 0,
            "train.log_every and train.checkpoint_every must be at least 1, train.eval_every must not be negative",
        )
        _need(
            self.precision in ("auto", "fp32", "bf16"),
            f"train.precision {self.precision!r} is none of 'auto', 'fp32', 'bf16'",
        )


@dataclass(frozen=True)
class TrainConfig:
    """All of a run: data, model, loop."""

    data: DataConfig = field(default_factory=DataConfig)
    model: CLIPConfig = field(default_factory=CLIPConfig)
    train: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        _need(
            not self.train.unmasked_last or self.model.vision.patch_dropout > 0,
            "train.unmasked_last is the part without model.vision.patch_dropout, which is 0 all the time",
        )
        # The picture's size is said once: the tower follows the data.
        if self.model.vision.image_size != self.data.image_size:
            vision = dataclasses.replace(self.model.vision, image_size=self.data.image_size)
            object.__setattr__(self, "model", dataclasses.replace(self.model, vision=vision))


def small(image_size: int, patch_size: int, width: int, layers: int, text_layers: int, vocab_size: int) -> CLIPConfig:
    """A CLIP for few data and a laptop: convolutional stem, mean pooling, heads of 32, captions of at most 32 tokens."""
    vision = VisionConfig(
        image_size=image_size,
        patch_size=patch_size,
        width=width,
        layers=layers,
        heads=width // 32,
        stem="conv",
        pool="mean",
        mean=(0.5, 0.5, 0.5),
        std=(0.25, 0.25, 0.25),
    )
    text = TextConfig(context_length=32, vocab_size=vocab_size, width=width, layers=text_layers, heads=width // 32)
    return CLIPConfig(embed_dim=256, vision=vision, text=text)


PRESETS: dict[str, TrainConfig] = {
    # the embedded data set on a laptop's CPU, three minutes
    "shapes": TrainConfig(
        DataConfig("shapes", image_size=64),
        small(image_size=64, patch_size=16, width=128, layers=2, text_layers=1, vocab_size=768),
        LoopConfig(batch_size=256, lr=2e-3, steps=1150, eval_every=300),
    ),
    # 6,000 photographs on a CPU, ten minutes
    "flickr8k": TrainConfig(
        DataConfig("flickr8k", image_size=64, min_crop=0.5, flip=True),
        small(image_size=64, patch_size=16, width=192, layers=4, text_layers=2, vocab_size=4096),
        LoopConfig(batch_size=256, lr=1e-3, weight_decay=0.2, minutes=9.5, eval_every=200),
    ),
    # 29,000 photographs on one GPU
    "flickr30k": TrainConfig(
        DataConfig("flickr30k", image_size=112, min_crop=0.5, flip=True),
        small(image_size=112, patch_size=16, width=384, layers=8, text_layers=4, vocab_size=8192),
        LoopConfig(batch_size=512, steps=5000, lr=5e-4, weight_decay=0.2, eval_every=500),
    ),
    # OpenAI's shape and recipe (paper, tables 18 to 20), for who has the data and the GPUs
    "vit-b-32": TrainConfig(
        DataConfig("flickr30k", image_size=224, min_crop=0.9),
        CLIPConfig(activation="quick_gelu"),
        LoopConfig(batch_size=256, lr=5e-4, weight_decay=0.2, steps=10_000, eval_every=1000),
    ),
}


def preset(name: str) -> TrainConfig:
    """The preset of that name; a MinclipError names the nearest one."""
    if name not in PRESETS:
        raise MinclipError(f"no preset is named {name!r}{nearest(name, PRESETS)}: choose from {', '.join(PRESETS)}")
    return PRESETS[name]


# ---- to JSON and back


YOUNGER = (  # than the first files of this FORMAT
    *("tower", "stages", "mlp_width", "dropout", "loss", "workers", "micro_batch", "loss_chunk", "parallel", "compile"),
    *("grad_checkpointing", "ema", "unmasked_last", "tensorboard", "overfit"),
    *("image_column", "caption_column"),
)


def to_dict(config: Any) -> dict[str, Any]:
    return dataclasses.asdict(config)


def from_dict(cls: type, values: dict[str, Any], where: str = "config") -> Any:
    """Builds the dataclass `cls` from plain values; an unknown field and a value of the wrong type are MinclipErrors.

    A missing field is one, too, unless it may be younger than the file: then it takes its default.
    """
    hints = typing.get_type_hints(cls)
    _need(isinstance(values, dict), f"{where} should be a group of fields, not {values!r}")
    for name in values:
        _need(name in hints, f"{where} has no field {name!r}{nearest(name, hints)}")
    missing = [name for name in hints if name not in values and name not in YOUNGER]
    _need(not missing, f"{where} lacks {', '.join(missing)}")
    return cls(**{name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if typing.get_origin(hint) is Literal:
        _need(value in typing.get_args(hint), f"{where} {value!r} is none of {', '.join(typing.get_args(hint))}")
        return value
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        _need(
            isinstance(value, list | tuple) and len(value) == len(kinds),
            f"{where} should hold {len(kinds)} numbers, not {value!r}",
        )
        return tuple(_convert(kind, v, where) for kind, v in zip(kinds, value))
    wanted = (int, float) if hint is float else hint
    _need(
        isinstance(value, wanted) and (hint is bool) == isinstance(value, bool),
        f"{where} should be of type {hint.__name__}, not {value!r}",
    )
    return hint(value)


# ---- where things lie


def data_folder() -> Path:
    """`$MINCLIP_DATA`, else the repository's `data/`, else `~/.cache/minclip`: downloads, caches and the demo checkpoint."""
    if os.environ.get("MINCLIP_DATA"):
        return Path(os.environ["MINCLIP_DATA"])
    # beside the package in a clone; beside the notebooks' folder where the package was installed elsewhere
    for place in (Path(__file__).parent.parent / "data", Path("data"), Path("../data")):
        if (place / "README.md").exists():
            return place
    return Path.home() / ".cache" / "minclip"

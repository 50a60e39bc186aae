"""Every knob of minclip as frozen dataclasses, each checked where it is set; and where things lie."""

import dataclasses
import difflib
import math
import os
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


class MinclipError(ValueError):
    """A user's mistake, told in one sentence: what was wrong, where, and what to do.  The command line exits with 2."""


def nearest(word: str, words: typing.Iterable[str], cutoff: float = 0.5) -> str:
    """`" (did you mean 'shapes'?)"`, or nothing where no word of `words` is near; 1 would be the same word."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=cutoff)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise MinclipError(message)


def _need_choices(config: object, group: str) -> None:
    """A MinclipError where a field that is a `Literal` holds none of its choices."""
    for part in dataclasses.fields(config):
        choices = typing.get_args(part.type) if typing.get_origin(part.type) is Literal else ()
        value = getattr(config, part.name)
        _need(not choices or value in choices, f"{group}.{part.name} {value!r} is none of {', '.join(choices)}")


@dataclass(frozen=True)
class VisionConfig:
    """The image tower, a Vision Transformer, a ModifiedResNet, a SmallResNet or one of timm's; defaults are OpenAI's ViT-B/32.

    A tower of timm's has a shape of its own: of the fields only tower, image_size, mean and std are about it.
    """

    tower: str = "vit"  # "vit", "resnet", "small_resnet", or "timm:NAME" for a pretrained one (see borrowed.py)
    image_size: int = 224  # side in pixels; in training it follows data.image_size
    width: int = 768  # of the tokens; of a ResNet, the channels of its first stage
    heads: int = 12  # of the attention; of a ModifiedResNet, of its pooling
    stages: tuple[int, int, int, int] = (3, 4, 6, 3)  # ResNets only: blocks of each stage
    # the rest, but for dropout, mean and std, is the Vision Transformer's
    patch_size: int = 32
    layers: int = 12
    mlp_width: int = 0  # of the layer within each MLP; 0 is four times the width, OpenAI's
    stem: Literal["patch", "conv"] = "patch"  # CLIP's flat patches, or a few convolutions, which learn from less data
    stem_width: int = 16  # channels of the first convolution
    pool: Literal["cls", "mean"] = "cls"  # the feature: CLIP's class token, or the mean of the patches
    patch_dropout: float = 0.0  # share of the patches left out in training (FLIP, Li et al. 2023)
    dropout: float = 0.0  # of what each block adds to its tokens, in training; of a SmallResNet, of its feature
    # of OpenAI's 400 million images, RGB in 0 to 1
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        sizes = (self.patch_size, self.width, self.layers, self.heads, self.stem_width, *self.stages)
        _need(min(sizes) > 0, "model.vision: sizes must be positive")
        timm, towers = self.tower.startswith("timm:"), ("vit", "resnet", "small_resnet")
        _need(
            timm or self.tower in towers,
            f"model.vision.tower {self.tower!r} is none of {', '.join(towers)}, timm:NAME",
        )
        _need_choices(self, "model.vision")
        power_of_two = self.patch_size & (self.patch_size - 1) == 0 and self.patch_size > 1
        _need(
            self.stem == "patch" or power_of_two,
            f"model.vision.patch_size {self.patch_size} is not 2, 4, 8, …: each convolution of the stem halves the picture",
        )
        resnet = self.tower == "resnet"
        stride, what = {
            "vit": (self.patch_size, f"model.vision.patch_size {self.patch_size}"),
            "resnet": (32, "32, by which a ResNet shrinks it"),
            "small_resnet": (16, "16, by which a SmallResNet shrinks it"),
        }.get(self.tower, (1, ""))  # of timm's, timm tells
        _need(
            self.image_size > 0 and self.image_size % stride == 0,
            f"the image size {self.image_size} is not a multiple of {what}",
        )
        width, what = (32 * self.width, "32 · model.vision.width") if resnet else (self.width, "model.vision.width")
        _need(
            self.tower not in ("vit", "resnet") or width % self.heads == 0,
            f"{what} = {width} is not a multiple of model.vision.heads {self.heads}",
        )
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
    """The text tower, a causal Transformer, a bag of words or one of Hugging Face's; defaults are OpenAI's.

    A tower of Hugging Face's brings its shape and its tokenizer: of the fields only tower and context_length are about it.
    """

    tower: str = "transformer"  # "transformer", "bag", or "hf:NAME" for a pretrained one (see borrowed.py)
    context_length: int = 77  # tokens, SOT and EOT included
    vocab_size: int = 49408
    eot_id: int = -1  # the token whose feature stands for the text; -1 is the last one of the vocabulary
    width: int = 512
    layers: int = 12  # this and what follows: Transformer only
    heads: int = 8
    dropout: float = 0.0  # of what each block adds to its tokens, in training; of a bag, of its words
    hf_config: str = ""  # of one of Hugging Face's: its own config as JSON, which a run fills in

    def __post_init__(self) -> None:
        _need(
            self.tower in ("transformer", "bag") or self.tower.startswith("hf:"),
            f"model.text.tower {self.tower!r} is neither 'transformer' nor 'bag' nor 'hf:NAME'",
        )
        _need(min(self.width, self.layers, self.heads) > 0, "model.text: sizes must be positive")
        _need(
            self.context_length >= 3,
            f"model.text.context_length {self.context_length} leaves no room for a token between SOT and EOT",
        )
        _need(
            self.tower != "transformer" or self.width % self.heads == 0,
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
        _need_choices(self, "model")


@dataclass(frozen=True)
class DataConfig:
    """Which pairs to learn from, and how they are looked at."""

    name: str = "shapes"  # "shapes", "flickr8k", "flickr30k", "own" or "shards"
    root: str = ""  # folder or zip of the photographs, or the shards; the shapes world needs none
    image_column: str = ""  # of an own table; "" looks for usual names such as image, file_name, path
    caption_column: str = ""  # likewise: caption, text, title, …
    image_size: int = 64  # side in pixels
    size: int = 0  # how many training images; 0 takes all
    first_size: int = 0  # side at the start of training, which grows to image_size in three parts; 0 is image_size
    min_crop: float = 1.0  # smallest share of the area that a random crop keeps; 1 does not crop
    flip: bool = False  # mirror half of the images, but never under a caption that says left or right
    color: float = 0.0  # how far brightness, contrast and saturation may be off, as a share of 1
    workers: int = 2  # shards only: processes that read and decode, for each process that trains

    def __post_init__(self) -> None:
        _need(
            self.name == "own" or not (self.image_column or self.caption_column),
            "data.image_column and data.caption_column belong to an own table: --data.name own",
        )
        _need(self.image_size > 0, f"data.image_size {self.image_size} is not positive")
        _need(self.size >= 0 and self.workers >= 0, "data.size and data.workers must not be negative")
        _need(0 < self.min_crop <= 1, f"data.min_crop {self.min_crop} is not in (0, 1]")
        _need(0 <= self.color <= 1, f"data.color {self.color} is not in [0, 1]")
        _need(
            0 <= self.first_size <= self.image_size and self.first_size % 16 == 0,
            f"data.first_size {self.first_size} is not a multiple of 16 from 0 to data.image_size {self.image_size}",
        )


@dataclass(frozen=True)
class LoopConfig:
    """The training loop."""

    seed: int = 0
    batch_size: int = 256  # pairs whose loss is one: of all processes together
    micro_batch: int = 0  # pairs that a process embeds at a time (gradient caching); 0 takes its whole share at once
    loss_chunk: int = 0  # rows of the similarity matrix at a time; 0 takes all, or 16 MB of more than 4,096 rows
    optimizer: Literal["adamw", "muon"] = "adamw"  # "muon" orthogonalises the steps of matrices (muon.py)
    lr: float = 1e-3  # peak learning rate, after the warm-up
    vision_lr: float = 0.0  # the image tower's own peak; 0 is lr, which is also the projections' and the scale's
    text_lr: float = 0.0  # the text tower's own peak; 0 is lr
    freeze: Literal["none", "vision", "text", "both"] = "none"  # pretrained towers that are left as they are
    warmup: float = 0.05  # share of the run in which the learning rate rises
    weight_decay: float = 0.1  # spares norms, biases, embeddings and the temperature
    beta1: float = 0.9
    beta2: float = 0.98
    label_smoothing: float = 0.0  # share of the target that is spread over all pairs of the batch; model.loss clip only
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
        _need_choices(self, "train")
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
        _need(self.lr > 0, f"train.lr {self.lr} is not positive")
        _need(min(self.vision_lr, self.text_lr) >= 0, "train.vision_lr and train.text_lr must not be negative")
        _need(0 <= self.warmup < 1, f"train.warmup {self.warmup} is a share of the run, in [0, 1)")
        _need(
            self.weight_decay >= 0 and self.grad_clip > 0,
            "train.weight_decay must not be negative, train.grad_clip must be positive",
        )
        _need(
            self.optimizer == "adamw" or self.parallel == "ddp",
            "train.optimizer muon needs whole matrices, which train.parallel fsdp shares out: choose ddp or adamw",
        )
        _need(0 <= self.label_smoothing < 1, f"train.label_smoothing {self.label_smoothing} is not in [0, 1)")
        _need(0 <= self.beta1 < 1 and 0 <= self.beta2 < 1, "train.beta1 and train.beta2 must be in [0, 1)")
        _need(
            self.steps >= 1 and self.minutes >= 0, "train.steps must be at least 1, train.minutes must not be negative"
        )
        _need(
            min(self.log_every, self.checkpoint_every) >= 1 and self.eval_every >= 0,
            "train.log_every and train.checkpoint_every must be at least 1, train.eval_every must not be negative",
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
        _need(
            not self.data.first_size or self.model.vision.tower == "small_resnet",
            "data.first_size needs a tower that takes pictures of any size, model.vision.tower small_resnet; 0 is for all",
        )
        _need(
            not self.train.label_smoothing or self.model.loss == "clip",
            "train.label_smoothing is for model.loss clip: a sigmoid's target is not shared",
        )
        for part, tower in (("vision", self.model.vision.tower), ("text", self.model.text.tower)):
            _need(
                self.train.freeze not in (part, "both") or ":" in tower,
                f"train.freeze {self.train.freeze!r} would leave model.{part}.tower {tower!r} as random as it begins: it is for pretrained towers, 'timm:NAME' and 'hf:NAME'",
            )
        # The picture's size is said once: the tower follows the data.
        if self.model.vision.image_size != self.data.image_size:
            vision = dataclasses.replace(self.model.vision, image_size=self.data.image_size)
            object.__setattr__(self, "model", dataclasses.replace(self.model, vision=vision))


def data_folder() -> Path:
    """`$MINCLIP_DATA`, else the repository's `data/`, else `~/.cache/minclip`: downloads, caches and the demo checkpoint."""
    if os.environ.get("MINCLIP_DATA"):
        return Path(os.environ["MINCLIP_DATA"])
    # beside the package in a clone; beside the notebooks' folder where the package was installed elsewhere
    for place in (Path(__file__).parent.parent / "data", Path("data"), Path("../data")):
        if (place / "README.md").exists():
            return place
    return Path.home() / ".cache" / "minclip"

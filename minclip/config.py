"""Every setting of minclip as frozen dataclasses, checked on construction."""

import dataclasses
import difflib
import math
import numbers
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args, get_origin


class MinclipError(ValueError):
    """A user's mistake in one sentence: what is wrong, where, and how to fix it.  The command line exits with 2."""


def nearest(word: str, words: Iterable[str], cutoff: float = 0.5) -> str:
    """`" (did you mean 'shapes'?)"`, or "" if no word of `words` has a similarity of at least `cutoff` (at most 1)."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=cutoff)
    return f" (did you mean {close[0]!r}?)" if close else ""


class Default(int):
    """An integer that is still the default, so it may change to match a value that the user chose."""


def need(condition: bool, message: str) -> None:
    """Raises MinclipError with the message unless the condition holds."""
    if not condition:
        raise MinclipError(message)


TRANSFORMERS = {"vit", "transformer"}  # the towers that use model.activation
VIT_ONLY = "patch_size layers mlp_width stem stem_width pool patch_dropout"
UNUSED = {  # for each tower, the config fields that have no effect and must keep their defaults
    "vision": {
        "vit": "stages", "resnet": f"{VIT_ONLY} dropout", "small_resnet": f"{VIT_ONLY} heads",
        "timm:": f"{VIT_ONLY} width heads stages dropout",
    },
    "text": {"transformer": "hf_config", "bag": "layers heads hf_config", "hf:": "width layers heads dropout"},
}  # fmt: skip


def unused_fields(part: str, tower: str) -> set[str]:
    """Fields of the part "vision" or "text" that this tower doesn't use, so that they must keep their defaults."""
    kind = str(tower)[: str(tower).find(":") + 1] or tower  # "timm:" of "timm:NAME"
    need(kind in UNUSED[part], f"model.{part}.tower {tower!r} is not one of {', '.join(UNUSED[part])}")
    return {*UNUSED[part][kind].split()}


# Number types with the interval of valid values, in mathematical notation; the upper bounds exceed any practical use.
Count, Layers, Channel = Annotated[int, "[1, 1e9]"], Annotated[int, "[1, 1000]"], Annotated[float, "[-1e9, 1e9]"]
Pixels, Width, Pairs = Annotated[int, "[1, 8192]"], Annotated[int, "[1, 65536]"], Annotated[int, "[2, 1e7]"]
Fraction, BelowOne, Positive = Annotated[float, "[0, 1]"], Annotated[float, "[0, 1)"], Annotated[float, "(0, 1e300]"]
OPENAI_SIZE = Default(224)  # side of ViT-B/32's images in pixels


def _check(config: Any, group: str) -> None:
    """Checks every field of a config: its type, its choices or its interval, and whether its tower uses it.

    A 0 in a field that may be None becomes None: earlier versions wrote "use the default" that way.
    """
    tower = getattr(config, "tower", None)
    unused = set() if tower is None else unused_fields(group.removeprefix("model."), tower)
    for this in dataclasses.fields(config):
        value, kind, name = getattr(config, this.name), this.type, f"{group}.{this.name}"
        used = this.name not in unused or value == this.default
        need(used, f"{name} {value!r} has no effect with tower {tower!r}: leave it at {this.default!r}")
        if type(None) in get_args(kind):
            kind = get_args(kind)[0]
            if not value:
                object.__setattr__(config, this.name, None)
                continue
        if get_origin(kind) is Literal:
            need(value in get_args(kind), f"{name} {value!r} is not one of {', '.join(get_args(kind))}")
            continue
        kinds, values = (get_args(kind), value) if get_origin(kind) is tuple else ((kind,), (value,))
        fits = isinstance(values, tuple) and len(values) == len(kinds)
        need(fits, f"{name} must hold {len(kinds)} numbers, not {value!r:.60}")
        for one, kind in zip(values, kinds):
            _check_value(one, kind, name)


def _check_value(value: Any, kind: Any, name: str) -> None:
    plain = getattr(kind, "__origin__", kind)  # int of Count
    wanted = {int: numbers.Integral, float: numbers.Real}.get(plain, plain)
    right = isinstance(value, wanted) and (plain is bool) == isinstance(value, bool)  # Python's bool is an int
    need(right, f"{name} must be of type {plain.__name__}, not {value!r:.60}")
    if get_origin(kind) is Annotated:  # no interval contains NaN
        interval = kind.__metadata__[0]
        low, high = map(float, interval[1:-1].split(","))
        inside = low <= value <= high and (value > low or interval[0] == "[") and (value < high or interval[-1] == "]")
        need(inside, f"{name} {value!r:.60} is not in {interval}")


@dataclass(frozen=True)
class VisionConfig:
    """The image tower; this class's defaults are OpenAI's ViT-B/32.  A tower refuses fields that it doesn't use."""

    tower: str = "vit"  # "vit", "resnet", "small_resnet", or "timm:NAME" for a pretrained one (weights/towers.py)
    image_size: Pixels = OPENAI_SIZE  # side in pixels; in training always equal to data.image_size
    width: Width = 768  # dimension of the tokens; for a ResNet, channels of its first stage
    heads: Width = 12  # attention heads; for a ModifiedResNet, those of its attention pooling
    stages: tuple[Layers, Layers, Layers, Layers] = (3, 4, 6, 3)  # blocks in each stage of a ResNet
    patch_size: Pixels = 32  # side of a patch in pixels
    layers: Layers = 12  # Transformer blocks
    mlp_width: Count | None = None  # hidden width of each MLP; None is four times the width, as in the paper
    stem: Literal["patch", "conv"] = "patch"  # the paper's linear patches, or convolutions, which need less data
    stem_width: Width = 16  # channels of the convolutional stem's first layer
    pool: Literal["cls", "mean"] = "cls"  # the feature: the class token, as in the paper, or the mean of the patches
    patch_dropout: BelowOne = 0.0  # fraction of patches to drop in training (FLIP, Li et al. 2023)
    dropout: BelowOne = 0.0  # in training, on each residual branch; for a SmallResNet, on its feature
    # normalization of RGB values from 0 to 1, (x - mean) / std; OpenAI's are the statistics of its 400 million images
    mean: tuple[Channel, Channel, Channel] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[Positive, Positive, Positive] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        _check(self, "model.vision")
        patch, width, heads, conv = self.patch_size, self.width, self.heads, self.stem == "conv"
        halves = patch > 1 and patch & (patch - 1) == 0  # each convolution of the stem halves the image
        need(halves or not conv, f"model.vision.patch_size {patch} is not 2, 4, 8, …, as model.vision.stem conv needs")
        need(conv or self.stem_width == 16, "model.vision.stem_width has no effect without model.vision.stem conv")
        stride = {"vit": patch, "resnet": 32, "small_resnet": 16}.get(self.tower, 1)  # timm checks its own
        what = f"{'model.vision.patch_size' if self.tower == 'vit' else 'the stride of the tower,'} {stride}"
        need(self.image_size % stride == 0, f"the image size {self.image_size} is not a multiple of {what}")
        channels = {"vit": width, "resnet": 32 * width}.get(self.tower, heads)  # divided among the attention heads
        need(channels % heads == 0, f"model.vision.heads {heads} doesn't divide {channels} (from model.vision.width)")
        even = self.tower != "resnet" or width % 2 == 0  # the stem's first convolutions have half the width
        need(even, f"model.vision.width {width} is odd: a ModifiedResNet needs an even width")


@dataclass(frozen=True)
class TextConfig:
    """The text tower; this class's defaults are OpenAI's.  A tower refuses fields that it doesn't use."""

    tower: str = "transformer"  # "transformer", "bag", or "hf:NAME" for a pretrained one (weights/towers.py)
    context_length: Annotated[int, "[3, 1e6]"] = 77  # longest text in tokens, SOT and EOT included
    vocab_size: Annotated[int, "[1, 1e7]"] = 49408  # largest vocabulary; few captions give a smaller one
    eot_id: Annotated[int, "[-1, 1e7]"] = -1  # id of the end token, whose feature is the text's; -1 is the last id
    width: Width = 512  # dimension of the tokens
    layers: Layers = 12  # Transformer blocks
    heads: Width = 8  # attention heads
    dropout: BelowOne = 0.0  # in training, on each residual branch; for a bag, on its tokens
    hf_config: str = ""  # configuration of a Hugging Face model as JSON; filled in when a run starts

    def __post_init__(self) -> None:
        _check(self, "model.text")
        width, heads, last = self.width, self.heads, self.vocab_size - 1
        divides = self.tower != "transformer" or width % heads == 0
        need(divides, f"model.text.heads {heads} doesn't divide model.text.width {width}")
        need(self.eot_id <= last, f"model.text.eot_id {self.eot_id} is above {last}, the last id of the vocabulary")


@dataclass(frozen=True)
class CLIPConfig:
    """Two towers, a shared space and a temperature."""

    embed_dim: Width = 512  # dimension of the shared space
    vision: VisionConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    activation: Literal["gelu", "quick_gelu"] = "gelu"  # function in the MLPs; OpenAI trained with quick_gelu
    logit_scale_init: Annotated[float, "[-20, 20]"] = math.log(1 / 0.07)  # ln of the initial scale (paper, section 2.5)
    loss: Literal["clip", "siglip"] = "clip"  # a softmax over the batch, or SigLIP's sigmoid of each pair

    def __post_init__(self) -> None:
        _check(self, "model")
        used = self.activation == "gelu" or {self.vision.tower, self.text.tower} & TRANSFORMERS
        need(used, f"model.activation {self.activation} has no effect: neither tower is one of minclip's Transformers")


@dataclass(frozen=True)
class DataConfig:
    """The training data and its augmentation."""

    name: str = "shapes"  # "shapes", "flickr8k", "flickr30k", "own" or "shards"
    root: str = ""  # folder or zip of the photographs, or the shards; shapes needs none
    image_column: str = ""  # that of your own table; "" looks for the usual names: image, file_name, …
    caption_column: str = ""  # that of your own table, or a field of shards; "" looks for the usual names: caption, …
    image_size: Pixels = 64  # side in pixels
    size: Count | None = None  # number of training images; None takes all
    first_size: Pixels | None = None  # image size at the start of training, which grows to image_size in three stages
    min_crop: Annotated[float, "(0, 1]"] = 1.0  # smallest fraction of the area that a random crop keeps; 1 is no crop
    flip: bool = False  # mirror half of the images, but never those whose caption says left or right
    color: Fraction = 0.0  # largest relative change of brightness, contrast and saturation
    on_gpu: Literal["auto", "yes", "no"] = "auto"  # keep all images in GPU memory; "auto": if half of it is enough
    workers: Annotated[int, "[0, 1024]"] = 2  # shards only: processes per training process that read and decode

    def __post_init__(self) -> None:
        _check(self, "data")
        unread = {"own": "", "shards": self.image_column}.get(self.name, self.image_column + self.caption_column)
        need(not unread, "data.image_column needs data.name own; data.caption_column needs own or shards")
        need(self.name != "shapes" or not self.root, "data.root has no effect with data.name shapes: it reads no files")
        need(self.name != "shards" or self.on_gpu == "auto", "data.on_gpu has no effect with data.name shards")
        need(self.name == "shards" or self.workers == 2, "data.workers has no effect without data.name shards")
        first = self.first_size or 0
        grows = first <= self.image_size and first % 16 == 0
        need(grows, f"data.first_size {first} is not a multiple of 16 up to data.image_size {self.image_size}")


@dataclass(frozen=True)
class LoopConfig:
    """The training loop."""

    seed: Annotated[int, "[0, 4294967295]"] = 0  # decides all random numbers in training
    batch_size: Pairs = 256  # pairs in one contrastive loss, over all processes
    micro_batch: Count | None = None  # pairs that a process embeds at a time (gradient caching); None embeds all
    loss_chunk: Count | None = None  # rows of the similarity matrix at a time; None: all, or 16 MB above 4,096 pairs
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon orthogonalizes the updates of matrices (training/optim.py)
    lr: Positive = 1e-3  # peak learning rate, after the warm-up
    init: str = ""  # model to fine-tune: anything that minclip.load opens; "" trains from scratch
    vision_lr: Positive | None = None  # peak learning rate of the image tower, without its projection; None is lr
    text_lr: Positive | None = None  # peak learning rate of the text tower, without its projection; None is lr
    layer_decay: Annotated[float, "(0, 1]"] = 1.0  # learning rate of each block of a tower relative to the one above it
    freeze: Literal["none", "vision", "text", "both"] = "none"  # pretrained towers to keep frozen
    heads_first: Fraction = 0.0  # fraction of the run, at its start, in which pretrained towers don't learn (LP-FT)
    warmup: BelowOne = 0.05  # fraction of the run in which the learning rate rises
    weight_decay: Annotated[float, "[0, 1e9]"] = 0.1  # of matrices; not of norms, biases, embeddings, temperature
    beta1: BelowOne = 0.9  # AdamW: decay of the mean gradient
    beta2: BelowOne = 0.98  # AdamW: decay of the mean squared gradient
    label_smoothing: BelowOne = 0.0  # fraction of the target spread over all pairs of the batch; model.loss clip only
    grad_clip: Positive = 1.0  # maximum gradient norm
    steps: Count = 1000  # length of the run, in optimizer steps
    minutes: Annotated[float, "(0, 525600]"] | None = None  # time budget in place of steps; the schedule follows it
    log_every: Count = 10  # steps between log lines
    eval_every: Count | None = None  # steps between validations; None validates at the end only
    checkpoint_every: Count = 200  # steps between checkpoints
    device: str = "auto"  # "auto" takes the first available of cuda, mps, cpu
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"  # of the towers; "auto" takes the fastest one
    parallel: Literal["ddp", "fsdp"] = "ddp"  # each process holds all weights, or a shard of them
    cuda_graph: Literal["auto", "off"] = "auto"  # on one GPU, record a small model's step once and replay it
    compile: bool = False  # torch.compile the towers: takes minutes at first, then steps are faster on a GPU
    grad_checkpointing: bool = False  # recompute activations in the backward pass instead of storing them
    ema: BelowOne = 0.0  # decay of a moving average of the weights, which is then validated and saved; 0 is off
    unmasked_last: Fraction = 0.0  # fraction of the run, at its end, without patch dropout (FLIP, section 3)
    tensorboard: bool = False  # also write a TensorBoard log to the folder `tensorboard` in the run's folder
    overfit: Pairs | None = None  # train on this many pairs until they are memorized, as a sanity check (e.g. 128)

    def __post_init__(self) -> None:
        _check(self, "train")
        whole = self.optimizer == "adamw" or self.parallel == "ddp"
        need(whole, "train.optimizer muon needs whole matrices, which train.parallel fsdp splits: choose ddp or adamw")


@dataclass(frozen=True)
class TrainConfig:
    """Everything that defines a run: data, model and loop."""

    data: DataConfig = field(default_factory=DataConfig)
    model: CLIPConfig = field(default_factory=CLIPConfig)
    train: LoopConfig = field(default_factory=LoopConfig)

    def __post_init__(self) -> None:
        loop, vision, size = self.train, self.model.vision, self.data.image_size
        if vision.image_size != size:  # the tower takes the data's size, unless the user chose another one for it
            agree = isinstance(vision.image_size, Default)
            both = f"data.image_size {size} and model.vision.image_size {vision.image_size}"
            need(agree, f"{both} disagree: set data.image_size only; the image tower uses the same value")
            vision = dataclasses.replace(vision, image_size=Default(size))
            object.__setattr__(self, "model", dataclasses.replace(self.model, vision=vision))
        masked = vision.patch_dropout > 0 or not loop.unmasked_last
        need(masked, "train.unmasked_last has no effect without model.vision.patch_dropout")
        grows = vision.tower == "small_resnet" or not self.data.first_size
        need(grows, "data.first_size needs model.vision.tower small_resnet, for images of any size; 0 turns it off")
        softmax = self.model.loss == "clip" or not loop.label_smoothing
        need(softmax, "train.label_smoothing needs model.loss clip: a sigmoid has no distribution to smooth")
        trained = []
        for part, lr in (("vision", loop.vision_lr), ("text", loop.text_lr)):
            tower, frozen = getattr(self.model, part).tower, loop.freeze in (part, "both")
            held = f"train.freeze {loop.freeze!r}" if frozen else loop.heads_first and "train.heads_first"
            random = f"would leave model.{part}.tower {tower!r} untrained: set train.init, or use timm:NAME and hf:NAME"
            need(not held or ":" in tower or loop.init, f"{held} {random}")
            need(not frozen or not lr, f"train.{part}_lr has no effect on a tower that train.freeze freezes")
            trained += [] if frozen else [tower]
        both = "train.layer_decay and train.heads_first have no effect on towers that train.freeze freezes"
        need(trained or (loop.layer_decay, loop.heads_first) == (1, 0), both)
        recomputes = {*trained} - {"bag"} or not loop.grad_checkpointing
        need(recomputes, "train.grad_checkpointing has no effect: no trained tower has blocks to recompute")

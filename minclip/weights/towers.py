"""Towers that others trained, as most people begin with few data: timm's image models and Hugging Face's text models.

`model.vision.tower` "timm:NAME" and `model.text.tower` "hf:NAME", a repository of the hub or a folder.  A fresh run asks
their owners (`borrow`, `new_tokenizer`, `fetch_weights`); from then on all of it is in the run's folder.
"""

import contextlib
import importlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..config import CLIPConfig, MinclipError, TextConfig, VisionConfig, nearest
from ..text import find_end
from ..tokenizer import Tokenizer
from ..training.checkpointing import has_batch_norm
from .files import read_tensors
from .hub import NoSuchFile, hub_file

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")


def library(name: str, extra: str) -> ModuleType:
    """An optional library, imported where it is needed: these two take seconds."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MinclipError(f'this tower needs {name}: pip install "minclip[{extra}]"') from None


def borrow(config: CLIPConfig) -> CLIPConfig:
    """The config with what its borrowed towers decide: timm's mean and std, Hugging Face's config; MinclipError for unknown names."""
    vision, text = config.vision, config.text
    if vision.tower.startswith("timm:"):
        known = timm_config(vision)
        vision = replace(vision, mean=tuple(known.mean), std=tuple(known.std))
    if text.tower.startswith("hf:"):
        path = hf_folder(text) / "config.json"
        try:
            text = replace(text, hf_config=json.dumps(json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError) as error:
            raise MinclipError(f"model.text.tower {text.tower!r}: {path} can't be read ({error})") from None
    return replace(config, vision=vision, text=text)


def fetch_weights(clip: nn.Module) -> None:
    """Puts their owners' weights into the borrowed towers of a CLIP, from the hub, its cache, or a folder."""
    for tower in (clip.vision, clip.text):
        if isinstance(tower, TimmTower | HuggingFaceTower):
            tower.fetch()


def synchronize_norms(clip: nn.Module) -> None:
    """Gives BatchNorm the statistics of all processes; timm's hold activations, which torch's converter would lose."""
    timm = isinstance(clip.vision, TimmTower) and library("timm", "timm")
    (timm.layers if timm else nn.SyncBatchNorm).convert_sync_batchnorm(clip)


# ---- images


def timm_config(config: VisionConfig) -> Any:
    """What timm knows of a model and its weights; a MinclipError names the nearest one."""
    timm, name = library("timm", "timm"), config.tower.removeprefix("timm:")
    try:
        known = timm.get_pretrained_cfg(name)
    except RuntimeError:  # a model that is there, but not with these weights
        known = None
    if known is None or not timm.is_model(name):
        names = [*timm.list_models(), *timm.list_models(pretrained=True)]
        raise MinclipError(f"timm has no model {name!r}{nearest(name, names)}: see timm.list_models(pretrained=True)")
    return known


class TimmTower(nn.Module):
    """Images (B, 3, S, S), float and normalised by timm's mean and std, to features (B, W) of one of its models, without the classifier."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        self.model = self.build()
        self.width: int = self.model.head_hidden_size
        patch = getattr(getattr(self.model, "patch_embed", None), "patch_size", (1, 1))[0]
        if config.image_size % patch:
            raise MinclipError(
                f"the image size {config.image_size} is not a multiple of {patch}, {config.tower}'s patch"
            )

    def build(self, **weights: Any) -> nn.Module:
        known = timm_config(self.config)
        size = {"img_size": self.config.image_size} if known.fixed_input_size else {}
        with torch.device("cpu"):  # also where only shapes are asked for: buffers that no file holds must have values
            model = library("timm", "timm").create_model(self.config.tower[5:], **size, **weights)
        model.reset_classifier(0)  # not built without: timm would then take weights that lack anything
        return model.to(memory_format=torch.channels_last)

    def fetch(self) -> None:
        """The weights that the name stands for; positions are interpolated to the image size."""
        repo = timm_config(self.config).hf_hub_id
        if not repo:
            raise MinclipError(f"the hub has no weights for {self.config.tower}: choose another of timm's models")
        by_hand = (
            f"Where there is a network, run `hf download {repo}`, and copy ~/.cache/huggingface from there to here"
        )
        path = hub_file(repo, "model.safetensors", by_hand)
        try:
            model = self.build(pretrained=True, pretrained_cfg_overlay={"state_dict": read_tensors(path)})
        except RuntimeError as error:
            raise MinclipError(
                f"{path} does not fit {self.config.tower}: {' '.join(str(error).split()):.300}"
            ) from None
        del model.pretrained_cfg["state_dict"]  # another copy of all weights
        self.model = model.train(self.training)

    def forward(self, images: Tensor) -> Tensor:
        size = self.config.image_size
        if images.shape[1:] != (3, size, size):
            raise MinclipError(f"images of shape {tuple(images.shape)}: this tower takes (B, 3, {size}, {size})")
        return self.model(images.contiguous(memory_format=torch.channels_last))

    def resize(self, image_size: int) -> None:
        """Makes this a tower for images of another size: a model with positions interpolates them."""
        if timm_config(self.config).fixed_input_size:
            if not hasattr(self.model, "set_input_size"):
                raise MinclipError(f"{self.config.tower} can't be resized: build it for images of {image_size} pixels")
            self.model.set_input_size(img_size=image_size)
        self.config = replace(self.config, image_size=image_size)

    def checkpoint(self) -> None:
        """In training, computes activations again in the backward pass instead of keeping them."""
        if has_batch_norm(self.model):
            raise MinclipError(f"train.grad_checkpointing: BatchNorm of {self.config.tower} would see each batch twice")
        self.model.set_grad_checkpointing()


# ---- texts


def hf_folder(config: TextConfig) -> Path:
    """The folder of a text model: the user's own, or the hub's in its cache, config and tokenizer fetched."""
    name = config.tower.removeprefix("hf:")
    if Path(name).is_dir():
        return Path(name)
    files = "config.json, tokenizer.json and model.safetensors"
    by_hand = (
        f"Where there is a network, download {files} from https://huggingface.co/{name}/tree/main; hf:FOLDER takes them"
    )
    folder = hub_file(name, "config.json", by_hand).parent
    for file in TOKENIZER_FILES:
        with contextlib.suppress(NoSuchFile):
            hub_file(name, file)
    return folder


class HuggingFaceTower(nn.Module):
    """Token ids (B, L) int64, each row with an end token, to features (B, W): the mean of a text's tokens, as sentence-transformers takes it.

    What comes after the end token is neither looked at nor counted.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        transformers = library("transformers", "hf")
        try:
            shape = transformers.AutoConfig.for_model(**json.loads(config.hf_config))
            with torch.device("cpu"):  # as in TimmTower
                model = transformers.AutoModel.from_config(shape, trust_remote_code=False)
        except (ValueError, TypeError, KeyError) as error:
            raise MinclipError(
                f"model.text.hf_config of {config.tower} is none that transformers knows: {error!s:.300}"
            ) from None
        width, longest = getattr(shape, "hidden_size", None), getattr(shape, "max_position_embeddings", None)
        if width is None or shape.is_encoder_decoder:
            raise MinclipError(f"{config.tower} is a {shape.model_type}, no encoder of texts such as bert")
        if longest and config.context_length > longest:
            raise MinclipError(
                f"model.text.context_length {config.context_length} is more than the {longest} positions of {config.tower}"
            )
        self.width: int = width
        self.model = self.bare(model)

    @staticmethod
    def bare(model: nn.Module) -> nn.Module:
        """In fp32, and without the pooler of the first token, which a mean has no use for."""
        if hasattr(model, "pooler"):
            model.pooler = None
        return model.float()

    def fetch(self) -> None:
        """The weights of the hub's repository or the folder; a MinclipError where they don't fill all of the model."""
        name, folder = self.config.tower.removeprefix("hf:"), hf_folder(self.config)
        for file in () if Path(name).is_dir() else WEIGHTS_FILES:
            with contextlib.suppress(NoSuchFile):
                hub_file(name, file)
                break
        try:
            model, report = library("transformers", "hf").AutoModel.from_pretrained(
                folder, trust_remote_code=False, output_loading_info=True
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise MinclipError(f"{folder} can't be read as a model of transformers: {error!s:.300}") from None
        missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
        if missing:
            raise MinclipError(f"{folder} has no weights for {', '.join(missing[:5])}, which its config asks for")
        self.model = self.bare(model).train(self.training)

    def forward(self, ids: Tensor) -> Tensor:
        end = find_end(ids, self.config)
        real = torch.arange(ids.shape[1], device=ids.device) <= end[:, None]
        x = self.model(input_ids=ids, attention_mask=real.long()).last_hidden_state
        return (x * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True)

    def checkpoint(self) -> None:
        """In training, computes activations again in the backward pass instead of keeping them."""
        new = getattr(self.model, "activation_checkpointing_enable", None)  # since transformers 5
        (new or self.model.gradient_checkpointing_enable)({"use_reentrant": False})


class HuggingFaceTokenizer:
    """A text model's own tokenizer, called like ours: `tokenizer(texts, context_length) -> (B, L) int64`.

    `backend` is a `tokenizers.Tokenizer` that adds an end token and knows its padding.  `truncated` counts the texts that
    were cut; they keep their end token.  A literal "[SEP]" in a caption is text.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        backend.no_truncation()
        backend.encode_special_tokens = True
        ends = backend.encode("").ids
        if not ends or not backend.padding:
            raise MinclipError("this tokenizer has no end token or no padding, so it can't be that of a text tower")
        self.eot_id, self.pad_id = ends[-1], backend.padding["pad_id"]
        self.vocab_size = backend.get_vocab_size()
        self.truncated = 0

    def __call__(self, texts: str | Sequence[str], context_length: int = 77) -> Tensor:
        texts = [texts] if isinstance(texts, str) else list(texts)
        self.backend.enable_truncation(context_length)
        try:
            rows = self.backend.encode_batch(texts)
        except (TypeError, UnicodeError) as error:
            raise MinclipError(f"texts must be str's that UTF-8 can spell ({error}): {texts!r:.60}") from None
        finally:
            self.backend.no_truncation()
        cut = sum(bool(row.overflowing) for row in rows)
        if cut and not self.truncated:
            warnings.warn(f"a text was cut to {context_length} tokens; tokenizer.truncated counts them", stacklevel=2)
        self.truncated += cut
        out = torch.full((len(rows), context_length), self.pad_id, dtype=torch.int64)
        for i, row in enumerate(rows):
            out[i, : len(row.ids)] = torch.tensor(row.ids)
        return out

    def to_json(self) -> str:
        return self.backend.to_str()

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "HuggingFaceTokenizer":
        """Reads what `save` wrote; anything else is a MinclipError."""
        tokenizers = library("tokenizers", "hf")
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # it raises nothing more special
            raise MinclipError(f"{path} is not a tokenizer's file ({error})") from None
        return cls(backend)


def new_tokenizer(config: TextConfig, texts: Callable[[], list[str]]) -> Tokenizer | HuggingFaceTokenizer:
    """The tokenizer of a new run: the borrowed tower's own, or one that is trained on `texts()`."""
    if not config.tower.startswith("hf:"):
        return Tokenizer.train(texts(), config.vocab_size)
    folder, transformers = hf_folder(config), library("transformers", "hf")
    try:
        theirs = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise MinclipError(f"{folder} has no tokenizer that transformers could read: {error!s:.300}") from None
    backend = getattr(theirs, "backend_tokenizer", None)
    if backend is None or theirs.pad_token is None:
        raise MinclipError(f"{folder} has no tokenizer of the fast kind (tokenizer.json) with a padding token")
    backend.enable_padding(pad_id=theirs.pad_token_id, pad_token=theirs.pad_token)
    return HuggingFaceTokenizer(backend)


def read_tokenizer(path: Path, config: TextConfig) -> Tokenizer | HuggingFaceTokenizer:
    """The tokenizer that a run or a model's folder keeps for its text tower."""
    return (HuggingFaceTokenizer if config.tower.startswith("hf:") else Tokenizer).load(path)

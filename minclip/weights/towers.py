"""Pretrained towers: timm's image models and Hugging Face's text models, a good start if you have little data.

`model.vision.tower` is "timm:NAME" and `model.text.tower` "hf:NAME", a repository of the hub or a folder.  A new run
takes its configs, tokenizer and weights from there; afterwards the run's folder holds all of them.
"""

import contextlib
import importlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from ..config import CLIPConfig, MinclipError, TextConfig, VisionConfig, nearest, need
from ..text import find_end
from ..tokenizer import Tokenizer
from .config_json import parse_json
from .files import errors_naming, read_tensors
from .hub import hub_file


def library(name: str, needed_by: str = "this tower", install: str = "") -> ModuleType:
    """Imports an optional library: only when needed, because most take seconds.  `install` is what pip installs."""
    try:
        return importlib.import_module(name)
    except ImportError:
        install = install or f'"minclip[{"timm" if name == "timm" else "hf"}]"'
        raise MinclipError(f"{needed_by} needs {name}: pip install {install}") from None


def complete_config(config: CLIPConfig) -> CLIPConfig:
    """Fills in the settings of pretrained towers: timm's mean and std, Hugging Face's own config."""
    vision, text = config.vision, config.text
    if vision.tower.startswith("timm:"):
        known = timm_config(vision)
        vision = replace(vision, mean=tuple(known.mean), std=tuple(known.std))
    if text.tower.startswith("hf:"):
        path = hf_folder(text) / "config.json"
        with errors_naming(path, "can't be read"):
            text = replace(text, hf_config=json.dumps(parse_json(path.read_bytes(), str(path))))
    return replace(config, vision=vision, text=text)


def fetch_weights(clip: nn.Module) -> None:
    """Loads the weights of pretrained towers from the hub, its cache, or a folder."""
    for tower in (clip.vision, clip.text):
        if isinstance(tower, TimmTower | HuggingFaceTower):
            tower.fetch()


def synchronize_norms(clip: nn.Module) -> None:
    """Makes BatchNorm use the statistics of all processes.  Torch's converter would drop the activations in timm's."""
    timm = isinstance(clip.vision, TimmTower) and library("timm")
    (timm.layers if timm else nn.SyncBatchNorm).convert_sync_batchnorm(clip)


def check_memory(model: nn.Module, *, copies: int = 1) -> None:
    """Refuses a model on device "meta" if memory can't hold `copies` of its fp32 weights; training needs 4."""
    count = sum(parameter.numel() for parameter in model.parameters())
    gb, available = 4 * copies * count / 1e9, memory_gb()
    needs = f"{count:,} parameters, {gb:,.1f} GB{' to train' if copies > 1 else ''}"
    need(gb <= available, f"this model has {needs}; this machine has {available:,.1f} GB: lower its widths or layers")


def memory_gb() -> float:
    """This machine's memory in GB; infinity if the system doesn't report it."""
    with contextlib.suppress(AttributeError, ValueError):  # raised on Windows
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    return float("inf")


def timm_config(config: VisionConfig) -> Any:
    """timm's description of a model and its weights; a MinclipError for an unknown name suggests the nearest one."""
    timm, name = library("timm"), config.tower.removeprefix("timm:")
    with contextlib.suppress(RuntimeError):  # timm has the model, but not these weights
        if timm.is_model(name) and (known := timm.get_pretrained_cfg(name)):
            return known
    names = [*timm.list_models(), *timm.list_models(pretrained=True)]
    raise MinclipError(f"timm has no model {name!r}{nearest(name, names)}: see timm.list_models(pretrained=True)")


class TimmTower(nn.Module):
    """One of timm's models without its classifier: normalized float images (B, 3, S, S) -> features (B, W)."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config, self.model = config, self.create(config)
        self.width: int = self.model.head_hidden_size
        self.blocks = [module for module in self.model.modules() if hasattr(module, "mlp")] or [self.model]
        size, patch = config.image_size, getattr(getattr(self.model, "patch_embed", None), "patch_size", (1, 1))[0]
        need(size % patch == 0, f"image size {size} is not a multiple of {config.tower}'s patch size {patch}")

    @staticmethod
    def create(config: VisionConfig, **weights: Any) -> nn.Module:
        size = {"img_size": config.image_size} if timm_config(config).fixed_input_size else {}
        # on the CPU even under torch.device("meta"): some buffers are in no weights file and need their values now
        with torch.device("cpu"):
            model = library("timm").create_model(config.tower[5:], **size, **weights)
        model.reset_classifier(0)  # only now: without one, timm would accept weights that lack a tensor
        return model.to(memory_format=torch.channels_last)

    def fetch(self) -> None:
        """Downloads and loads this model's weights; learned positions are interpolated to the image size."""
        repo = timm_config(self.config).hf_hub_id
        need(repo, f"the hub has no weights for {self.config.tower}: choose another of timm's models")
        path = hub_file(repo, "model.safetensors")
        with errors_naming(path, f"does not fit {self.config.tower}"):
            overlay = {"state_dict": read_tensors(path)}
            model = self.create(self.config, pretrained=True, pretrained_cfg_overlay=overlay)
            self.model.load_state_dict(model.state_dict())

    def forward(self, images: Tensor) -> Tensor:
        size, shape = self.config.image_size, tuple(images.shape)
        need(shape[1:] == (3, size, size), f"images of shape {shape}: this tower takes (B, 3, {size}, {size})")
        return self.model(images.contiguous(memory_format=torch.channels_last))

    def resize(self, image_size: int) -> None:
        """Switches to another image size; learned positions are interpolated."""
        if timm_config(self.config).fixed_input_size:
            with errors_naming(self.config.tower, f"can't be resized: build it for images of {image_size} pixels"):
                self.model.set_input_size(img_size=image_size)
        self.config = replace(self.config, image_size=image_size)


def hf_folder(config: TextConfig) -> Path:
    """The folder of a text model: the user's own, or one in the hub's cache, with its config and tokenizer."""
    name = config.tower.removeprefix("hf:")
    if Path(name).is_dir():
        return Path(name)
    folder = hub_file(name, "config.json").parent
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        hub_file(name, file, missing_ok=True)
    return folder


class HuggingFaceTower(nn.Module):
    """Token ids (B, L) int64 -> features (B, W), the mean over a text's tokens, as in sentence-transformers."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        transformers, where = library("transformers"), f"model.text.hf_config of {config.tower}"
        with errors_naming(where):
            shape = transformers.AutoConfig.for_model(**parse_json(config.hf_config, where))
            sizes = ("hidden_size", "max_position_embeddings", "num_hidden_layers")
            width, longest, layers = (getattr(shape, name, None) for name in sizes)
            encoder = width is not None and not shape.is_encoder_decoder
            need(encoder, f"{config.tower} is a {shape.model_type}, not a text encoder such as bert")
            length = config.context_length
            need(length <= (longest or length), f"model.text.context_length {length} exceeds its {longest} positions")
            need((layers or 1) <= 1000, f"it has {layers:,} layers, too many to count their parameters: at most 1,000")
            for device in ("meta", "cpu"):  # counted before it uses memory; "cpu" as in TimmTower.create
                with torch.device(device):
                    model = transformers.AutoModel.from_config(shape, trust_remote_code=False)
                check_memory(model)
        model.pooler = None  # it would pool the first token; this tower takes the mean
        self.config, self.width, self.model = config, width, model.float()
        self.blocks = next(([*module] for module in model.modules() if isinstance(module, nn.ModuleList)), [])

    def fetch(self) -> None:
        """Loads the weights of the repository or the folder, which must cover the whole model."""
        name, folder = self.config.tower.removeprefix("hf:"), hf_folder(self.config)
        if not Path(name).is_dir() and hub_file(name, "model.safetensors", missing_ok=True) is None:
            hub_file(name, "pytorch_model.bin")
        options = {"config": self.model.config, "trust_remote_code": False, "output_loading_info": True}
        with errors_naming(folder):
            model, report = library("transformers").AutoModel.from_pretrained(folder, **options)
        missing = sorted(name for name in report["missing_keys"] if not name.startswith("pooler."))
        need(not missing, f"{folder} has no weights for {', '.join(missing[:5])}, which its config requires")
        self.model.load_state_dict(model.state_dict(), strict=False)  # not strict, because of its pooler

    def forward(self, ids: Tensor) -> Tensor:
        end = find_end(ids, self.config, training=self.training)
        real = torch.arange(ids.shape[1], device=ids.device) <= end[:, None]  # (B, L)
        x = self.model(input_ids=ids, attention_mask=real.long()).last_hidden_state  # (B, L, W)
        return (x * real[..., None]).sum(dim=1) / real.sum(dim=1, keepdim=True)


class HuggingFaceTokenizer:
    """A text model's own tokenizer, called as `Tokenizer` is: `tokenizer(texts) -> (B, L) int64`.

    `backend` is a `tokenizers.Tokenizer` that adds an end token and pads.  `truncated` counts the texts that were cut;
    they keep their end token.  A literal "[SEP]" in a caption is ordinary text.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        backend.encode_special_tokens = True
        ends = backend.encode("").ids
        need(ends and backend.padding, "a text tower needs a tokenizer that adds an end token and has padding")
        self.eot_id, self.pad_id = ends[-1], backend.padding["pad_id"]
        self.vocab_size, self.context_length, self.truncated = backend.get_vocab_size(), 77, 0

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        length = self.context_length if context_length is None else context_length
        self.backend.enable_truncation(length)
        try:
            rows = self.backend.encode_batch([texts] if isinstance(texts, str) else list(texts))
        except (TypeError, UnicodeError) as error:
            raise MinclipError(f"texts must be strings that UTF-8 can encode ({error}): {texts!r:.60}") from None
        cut = sum(bool(row.overflowing) for row in rows)
        if cut and not self.truncated:
            warnings.warn(f"a text was cut to {length} tokens; tokenizer.truncated counts them", stacklevel=2)
        self.truncated += cut
        ids = [row.ids + [self.pad_id] * (length - len(row.ids)) for row in rows]
        return torch.tensor(ids, dtype=torch.int64).view(-1, length)

    def to_json(self) -> str:
        self.backend.no_truncation()
        return self.backend.to_str()


def new_tokenizer(config: TextConfig, texts: Callable[[], list[str]]) -> Tokenizer | HuggingFaceTokenizer:
    """The tokenizer of a new run: the pretrained tower's own, or one trained on `texts()`."""
    if not config.tower.startswith("hf:"):
        return with_context(Tokenizer.train(texts(), config.vocab_size), config)
    folder, transformers = hf_folder(config), library("transformers")
    with errors_naming(f"{folder}'s tokenizer"):
        theirs = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        backend = getattr(theirs, "backend_tokenizer", None)
        need(backend and theirs.pad_token, "it is not a fast tokenizer (tokenizer.json), or has no padding token")
        backend.enable_padding(pad_id=theirs.pad_token_id, pad_token=theirs.pad_token)
        return with_context(HuggingFaceTokenizer(backend), config)


def read_tokenizer(path: Path, config: TextConfig) -> Tokenizer | HuggingFaceTokenizer:
    """Reads the tokenizer.json of a run or a model, in the format that belongs to its text tower."""
    with errors_naming(path):
        if not config.tower.startswith("hf:"):
            return with_context(Tokenizer.load(path), config)
        return with_context(HuggingFaceTokenizer(library("tokenizers").Tokenizer.from_file(str(path))), config)


def with_context(tokenizer: Any, config: TextConfig) -> Any:
    """Makes the tokenizer's rows as long as the model's context, and returns it; all ways to open one end here."""
    tokenizer.context_length = config.context_length
    return tokenizer

"""Weights on disk: a folder with `config.json`, `model.safetensors` and `tokenizer.json`, opened by path or by name."""

import dataclasses
import json
import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .config import FORMAT, CLIPConfig, MinclipError, VisionConfig, data_folder, from_dict, nearest, to_dict
from .model import CLIP
from .tokenizer import Tokenizer


def package_version() -> str:
    try:
        return version("minclip")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "0"


def atomic_write(path: str | Path, data: bytes) -> None:
    """Writes to a temporary name and moves it into place: whoever reads `path` finds the old file or the new one, whole."""
    path = Path(path)
    # not tempfile.mkstemp: its files are readable to their owner only, and a run is to be shared
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, values: dict[str, Any]) -> None:
    atomic_write(path, (json.dumps(values, indent=2) + "\n").encode())


def write_folder(
    folder: str | Path, model: CLIP, tokenizer: Tokenizer | None = None, dtype: torch.dtype = torch.float32
) -> None:
    """Writes a model, and its tokenizer where there is one; `dtype` torch.float16 halves the file."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"format": FORMAT, "minclip": package_version(), "model": to_dict(model.config)})
    write_weights(folder / "model.safetensors", model, dtype)
    if tokenizer is not None:
        atomic_write(folder / "tokenizer.json", tokenizer.to_json().encode())


def write_weights(path: Path, model: CLIP, dtype: torch.dtype = torch.float32) -> None:
    # through bytes, not safetensors' own file writer: a full disk is then an OSError like any other
    tensors = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in model.state_dict().items()}
    atomic_write(path, safetensors.torch.save(tensors, metadata={"format": "pt"}))


def read_config(folder: Path) -> dict[str, Any]:
    """The fields of a folder's config.json, of this version's format; a MinclipError tells what else it is."""
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MinclipError(f"{folder} has no config.json: it is not a run or model of minclip") from None
    except ValueError as error:
        raise MinclipError(f"{path} is damaged: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise MinclipError(
            f"{path} has format {values.get('format') if isinstance(values, dict) else None} (minclip {values.get('minclip', 'unknown') if isinstance(values, dict) else 'unknown'}); "
            f"this is minclip {package_version()}, which reads format {FORMAT}: use that version, or train anew"
        )
    return values


def read_folder(name_or_path: str | Path) -> tuple[CLIP, Tokenizer | None]:
    """The model and the tokenizer of a run or of a folder that `save_pretrained` wrote."""
    folder = find_folder(name_or_path)
    model = CLIP(from_dict(CLIPConfig, read_config(folder).get("model"), f"{folder / 'config.json'}: model"))
    model.load_state_dict(read_weights(folder / "model.safetensors", model))
    tokenizer = Tokenizer.load(folder / "tokenizer.json") if (folder / "tokenizer.json").exists() else None
    return model.eval(), tokenizer


def read_weights(path: Path, model: CLIP) -> dict[str, Tensor]:
    """The tensors of a safetensors file in fp32, checked against the model's names and shapes."""
    try:
        tensors = safetensors.torch.load_file(path)
    except FileNotFoundError:
        raise MinclipError(f"{path} is not there: the run has not saved a checkpoint yet") from None
    except (safetensors.SafetensorError, OSError) as error:
        raise MinclipError(f"{path} is cut off or damaged: {error}") from None
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if wanted != found:
        wrong = sorted({name for name, _ in wanted.items() ^ found.items()})
        raise MinclipError(
            f"{path} does not fit its config in {len(wrong)} tensors: {', '.join(wrong[:10])}{' …' if len(wrong) > 10 else ''}"
        )
    return {name: tensor.float() for name, tensor in tensors.items()}


def find_folder(name_or_path: str | Path) -> Path:
    """A folder by path, or by name under `runs/` or among the shipped ones in `data/`."""
    places = [Path(name_or_path), Path("runs") / name_or_path, data_folder() / name_or_path]
    for place in places:
        if place.is_dir():
            return place
    names = [p.parent.name for parent in (Path("runs"), data_folder()) for p in parent.glob("*/config.json")]
    there = f"there are {', '.join(sorted(names))}" if names else "there is none yet: minclip train shapes makes one"
    raise MinclipError(f"no run or model is named {str(name_or_path)!r}{nearest(str(name_or_path), names)}: {there}")


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """A PIL image to (3, S, S) float: short side resized (bicubic), centre kept, RGB, normalised (OpenAI's evaluation transform)."""

    config: VisionConfig

    def __call__(self, image: Any) -> Tensor:
        from torchvision.transforms import v2  # half a second that `import minclip` should not cost

        size = self.config.image_size
        steps = [
            v2.Resize(size, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(size),
            v2.RGB(),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(self.config.mean, self.config.std),
        ]
        return v2.Compose(steps)(image)


def load(name_or_path: str | Path, device: torch.device | str = "cpu") -> tuple[CLIP, Preprocess, Tokenizer | None]:
    """Opens a run or model: `model, preprocess, tokenizer = minclip.load("demo")`; the model is in eval mode."""
    model, tokenizer = read_folder(name_or_path)
    return model.to(device), Preprocess(model.config.vision), tokenizer

"""The command line: minclip train | eval | classify | search | fetch | info.  A user's mistake is one sentence and exit code 2."""

import errno
import json
import math
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

from . import __version__, distributed
from .checkpoint import Run
from .config import MinclipError, TrainConfig, data_folder, nearest
from .data.fetch import PAGE, SOURCES, fetch
from .diagnose import verdict
from .engine import pick_device
from .evaluate import zero_shot_classifier
from .presets import PRESETS, preset
from .pretrained import load
from .search_command import Search
from .train import final_figures, train

console = Console(highlight=False, soft_wrap=True)
Json = Annotated[bool, tyro.conf.arg(help="print one JSON object as the last line")]


@dataclass(frozen=True)
class Train(TrainConfig):
    """Train a CLIP from nothing, then print what it can do."""

    name: Annotated[
        str, tyro.conf.arg(help="name of the run's folder under runs/; the preset's name, numbered, by default")
    ] = ""
    resume: Annotated[
        tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help="go on from the last checkpoint of the run")
    ] = False
    overfit: Annotated[
        int, tyro.conf.arg(help="learn so many pairs by heart (128), to see whether anything is learned at all")
    ] = 0
    json: tyro.conf.FlagCreatePairsOff[Json] = False

    def run(self, preset_name: str) -> dict[str, Any]:
        distributed.start(self.train.device)  # under torchrun all processes come here, and one speaks
        if distributed.rank() > 0:
            console.quiet = True
        default = preset_name + ("-overfit" if self.overfit else "")
        name = self.name or (default if self.resume else free_name(default))
        folder = Path("runs") / distributed.everyones(name)[0]
        if self.resume and not (folder / "config.json").exists():
            raise MinclipError(
                f"{folder} holds no run to resume{nearest(folder.name, [p.parent.name for p in Path('runs').glob('*/config.json')])}"
            )
        config = TrainConfig(**{f.name: getattr(self, f.name) for f in fields(TrainConfig)})
        if self.overfit:
            config = replace(config, train=replace(config.train, overfit=self.overfit))
        try:
            run = train(config, folder, self.resume)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(
                f"{stop or 'interrupted'}; go on with: minclip train {preset_name} --name {folder.name} --resume (and the same options)"
            ) from None
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise MinclipError(
                f"no space left on the disk while writing {folder}: free some and go on with: minclip train {preset_name} --name {folder.name} --resume; the last checkpoint is whole"
            ) from None
        if distributed.rank() == 0:
            from .course import plots  # matplotlib, only now

            plots.save(plots.curves(run), folder / "curves.png")
        print_training(run)
        if self.overfit:
            console.print(verdict(run))
        else:
            print_figures(run.final)
            console.print(
                f"\nsaved in [bold]{folder}[/]: try  minclip eval {folder.name}  or  minclip classify {folder.name} IMAGE --labels 'a, b, c'"
            )
        losses = [line["loss"] for line in run.steps]
        return {
            "run": str(folder),
            "step": run.metrics[-1]["step"],
            "first_loss": losses[0],
            "last_loss": losses[-1],
            "seconds": run.metrics[-1]["seconds"],
            "figures": run.final,
        }


@dataclass(frozen=True)
class Eval:
    """Compute a run's figures again: retrieval both ways, and zero-shot accuracy against chance."""

    run_folder: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN", help="a run's folder, or its name under runs/")
    ]
    root: Annotated[str, tyro.conf.arg(help="the photographs' folder or zip, where it moved")] = ""
    json: tyro.conf.FlagCreatePairsOff[Json] = False

    def run(self) -> dict[str, Any]:
        run = Run.load(self.run_folder)
        config = run.config
        if self.root:
            config = replace(config, data=replace(config.data, root=self.root))
        device, _ = pick_device(config.train.device, "fp32")
        figures = final_figures(run.model.to(device), run.tokenizer, config)
        print_figures(figures)
        return {"run": str(run.folder), "figures": figures}


@dataclass(frozen=True)
class Classify:
    """Ask a model which of some labels an image shows."""

    run_folder: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN", help="a run's folder or name, or demo")
    ]
    images: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="IMAGE...")]
    labels: Annotated[str, tyro.conf.arg(help='the choices, with commas between: "a dog, a cat"')] = ""
    template: Annotated[str, tyro.conf.arg(help="the prompt; {} stands for the label")] = "a picture of {}"
    json: tyro.conf.FlagCreatePairsOff[Json] = False

    def run(self) -> dict[str, Any]:
        labels = [label.strip() for label in self.labels.split(",") if label.strip()]
        if len(labels) < 2 or not self.images:
            raise MinclipError(
                'classify needs an image and at least two labels: minclip classify RUN IMAGE --labels "a dog, a cat"'
            )
        model, preprocess, tokenizer = load(self.run_folder)
        if tokenizer is None:
            raise MinclipError(f"{self.run_folder} has no tokenizer.json, so it can't read the labels")
        classifier = zero_shot_classifier(model, tokenizer, labels, (self.template,))
        pictures = torch.stack([preprocess(open_image(path)) for path in self.images])
        with torch.no_grad():
            similarity = model.encode_image(pictures, normalize=True) @ classifier
            probabilities = (model.logit_scale.exp() * similarity).softmax(dim=1)
        table = Table("image", "label", "probability", "cosine", box=None)
        out = []
        for path, row, cosines in zip(self.images, probabilities, similarity):
            for rank, i in enumerate(row.argsort(descending=True).tolist()):
                table.add_row(path.name if rank == 0 else "", labels[i], f"{row[i]:.1%}", f"{cosines[i]:.3f}")
            out.append({"image": str(path), "probabilities": {label: float(p) for label, p in zip(labels, row)}})
        console.print(table)
        return {"results": out}


@dataclass(frozen=True)
class Fetch:
    """Fetch a data set from Kaggle: flickr8k, flickr30k, or karpathy-splits, the official splits of both."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME", help=", ".join(SOURCES))]
    to: Annotated[str, tyro.conf.arg(help="the folder to make; NAME in the data folder by default")] = ""
    source: Annotated[
        str, tyro.conf.arg(help="another data set of Kaggle in its place, such as hsankesara/flickr-image-dataset")
    ] = ""
    json: tyro.conf.FlagCreatePairsOff[Json] = False

    def run(self) -> dict[str, Any]:
        try:
            made = fetch(self.name, self.to, self.source)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("interrupted; what was downloaded is kept: run the same command again") from None
        console.print(f"{made['source']} {'is' if made['new'] else 'was there already'} in [bold]{made['folder']}[/]")
        if self.name in PRESETS:
            root = f" --data.root {made['folder']}" if self.to else ""
            console.print(f"try  minclip train {self.name}{root}  (licence and source: {PAGE}{made['source']})")
        return made


@dataclass(frozen=True)
class Info:
    """Tell the version, the device, the presets and the runs that are here."""

    json: tyro.conf.FlagCreatePairsOff[Json] = False

    def run(self) -> dict[str, Any]:
        device, bf16 = pick_device("auto", "auto")
        facts = {
            "minclip": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": str(device),
            "precision": "bf16" if bf16 else "fp32",
            "threads": torch.get_num_threads(),
            "data": str(data_folder()),
            "presets": list(PRESETS),
            "runs": sorted(
                str(p.parent) for parent in (Path("runs"), data_folder()) for p in parent.glob("*/config.json")
            ),
        }
        for name, value in facts.items():
            console.print(f"[bold]{name:10}[/] {', '.join(value) if isinstance(value, list) else value}")
        return facts


VERBS = {"train": Train, "eval": Eval, "classify": Classify, "search": Search, "fetch": Fetch, "info": Info}
USAGE = f"""minclip {__version__}: CLIP from nothing

  minclip train PRESET [--name NAME] [--resume] [--train.batch-size 128 ...]   PRESET: {", ".join(PRESETS)}
  minclip train PRESET --overfit 128            128 pairs by heart: is anything learned at all?
  torchrun --nproc-per-node 8 -m minclip train PRESET ...                      on 8 GPUs
  minclip eval RUN
  minclip classify RUN IMAGE... --labels "a red star, a blue ring"
  minclip search RUN --images FOLDER --query "two dogs in the snow"            or --image photo.jpg
  minclip fetch NAME [--to FOLDER]              photographs from Kaggle: {", ".join(SOURCES)}
  minclip info

Each takes --help, and --json to print one JSON object as its last line.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code: 0, 2 for a user's mistake, 130 for Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in arguments
    try:
        result = dispatch(arguments)
    except MinclipError as error:
        return fail(str(error), 2, as_json)
    except OSError as error:  # a folder that can't be written, a file that can't be read
        return fail(str(error), 2, as_json)
    except KeyboardInterrupt as stop:
        return fail(str(stop) or "interrupted", 130, as_json)
    except SystemExit as stop:  # tyro has printed its help (0) or what is wrong with the options (2)
        if stop.code and as_json:
            print(json.dumps({"error": "the command's options are wrong; see above"}))
        return int(stop.code or 0)
    if as_json and distributed.rank() == 0:
        print(json.dumps(result))
    return 0


def dispatch(arguments: list[str]) -> dict[str, Any]:
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help", "--version"):
        print(__version__ if verb == "--version" else USAGE)
        return {"minclip": __version__}
    if verb not in VERBS:
        raise MinclipError(f"no command is named {verb!r}{nearest(verb, VERBS)}: choose from {', '.join(VERBS)}")
    if verb != "train":
        return tyro.cli(VERBS[verb], args=arguments[1:], prog=f"minclip {verb}").run()
    if len(arguments) < 2 or arguments[1].startswith("-"):
        print(USAGE)
        if arguments[1:2] in (["-h"], ["--help"]):
            return {}
        raise MinclipError(f"minclip train needs a preset: {', '.join(PRESETS)}")
    name = arguments[1]
    # --model.vision timm:NAME is short for --model.vision.tower timm:NAME
    options = [re.sub(r"^--model\.(vision|text)(?=$|=)", r"--model.\1.tower", option) for option in arguments[2:]]
    default = preset(name)
    if any(option.replace("_", "-").startswith("--model.vision.image-size") for option in options):
        raise MinclipError("the picture's size is said once, with --data.image-size: the image tower follows it")
    if any(option.replace("_", "-").startswith(("--model.text.eot-id",)) for option in options):
        raise MinclipError(
            "model.text.eot_id comes from the tokenizer that the run trains; set --model.text.vocab-size"
        )
    return tyro.cli(
        Train,
        default=Train(**{f.name: getattr(default, f.name) for f in fields(TrainConfig)}),
        args=options,
        prog=f"minclip train {name}",
    ).run(name)


def fail(message: str, code: int, as_json: bool) -> int:
    print(f"minclip: {message}", file=sys.stderr)
    if as_json:
        print(json.dumps({"error": message}))
    return code


def free_name(name: str) -> str:
    """`name`, or `name-2`, `name-3`, … where that run is there already: a run is never overwritten."""
    taken = {p.parent.name for p in Path("runs").glob("*/config.json")}
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def open_image(path: Path) -> Image.Image:
    """An image file, upright and in RGB; a MinclipError where it isn't one."""
    try:
        return ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    except FileNotFoundError:
        raise MinclipError(f"{path} is not there") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise MinclipError(f"{path} can't be read as an image: {error}") from None


def print_training(run: Run) -> None:
    losses = [line["loss"] for line in run.steps]
    last = run.metrics[-1]
    b = run.config.train.batch_size
    console.print(
        f"\n{last['step']} steps in {last['seconds']:.0f} s.  Loss {losses[0]:.3f} at first (ln {b} = {math.log(b):.3f}), {losses[-1]:.3f} at last.\n"
    )


def print_figures(figures: dict[str, dict[str, float]]) -> None:
    """Retrieval and zero-shot tables, a column a split."""
    table = Table("", *figures, title="retrieval, all captions count", title_justify="left", box=None)
    for way in ("text_to_image", "image_to_text"):
        for k in (1, 5, 10):
            row = [f"{of_split[f'{way}_r@{k}']:.1%}" for of_split in figures.values()]
            table.add_row(f"{way.replace('_to_', '→')} recall@{k}", *row)
        name = f"{way}_median_rank"  # an older run's figures have none
        row = [f"{of_split[name]:g}" if name in of_split else "" for of_split in figures.values()]
        table.add_row(f"{way.replace('_to_', '→')} median rank", *row)
    console.print(table)
    chances = {
        key: value for of_split in figures.values() for key, value in of_split.items() if key.startswith("chance/")
    }
    if chances:
        table = Table("", "chance", *figures, title="\nzero-shot accuracy", title_justify="left", box=None)
        for key, chance in chances.items():
            task = key.removeprefix("chance/")
            row = [f"{f[f'zero_shot/{task}']:.1%}" if key in f else "" for f in figures.values()]
            table.add_row(task, f"{chance:.1%}", *row)
        console.print(table)

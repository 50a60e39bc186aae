"""minclip train makes a run from a preset, any field of which can be overridden, or from a model; blend from two."""

import copy
import errno
import itertools
import math
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tyro

from ..config import TRANSFORMERS, MinclipError, TrainConfig, nearest, need, unused_fields
from ..course import plots
from ..loop import train
from ..presets import PRESETS, preset
from ..training import distributed
from ..training.run import lock_run, read_learnt
from ..training.watch import verdict
from ..weights import folder as folders
from ..weights.files import WEIGHTS
from ..weights.load import hub_repository, load
from ..weights.openai import OPENAI
from ..weights.start import blended, fine_tuning, origin_of
from . import fill
from .evaluate import print_figures
from .shared import RunArgument, as_options, console, find_run

RUNS = Path("runs")
# options of other programs, and one that training sets; for other misspelled options, tyro suggests a similar one
INSTEAD = {"--model.text.eot-id": "--model.text.vocab-size, since the end token comes from the run's own tokenizer"}
INSTEAD |= {"--epochs": "--train.steps or --train.minutes", "--learning-rate": "--train.lr", "--pretrained": "--init"}


@dataclass(frozen=True)
class Train(TrainConfig):
    """Train a CLIP from scratch or, with --init MODEL, from the weights of another one, then print its figures."""

    name: str = ""  # the run's folder under runs/; by default the preset's name, numbered
    resume: tyro.conf.FlagCreatePairsOff[bool] = False  # continue from the last checkpoint of the run

    def run(self, preset_name: str, options: list[str]) -> dict[str, Any]:
        distributed.start(self.train.device)  # under torchrun every process runs this, and process 0 prints
        console.quiet = distributed.rank() > 0
        default = preset_name + "-overfit" * bool(self.train.overfit)
        name = distributed.all_gather_object(self.name or (default if self.resume else free_name(default)))[0]
        folder = RUNS / name
        check_folder(folder, self.resume)
        config = TrainConfig(self.data, self.model, self.train)
        named = any(option.split("=")[0] == "--name" for option in options)
        more = [*([] if named else ["--name", name]), *([] if self.resume else ["--resume"])]
        resume = f"continue with: {shlex.join(['minclip', 'train', preset_name, *options, *more])}"
        try:
            run = train(config, folder, resume=self.resume)
        except KeyboardInterrupt as stop:
            hint = resume if (folder / "config.json").exists() else "nothing was saved yet"
            raise KeyboardInterrupt(f"{stop or 'interrupted'}; {hint}") from None
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            left = f"no space left on the disk while writing {folder}; the last checkpoint is complete"
            raise MinclipError(f"{left}: free some space and {resume}") from None
        if distributed.rank() > 0:  # perhaps on another machine, which doesn't see the folder
            return {}
        plots.save(plots.curves(run), folder / "curves.png")
        losses, last, b = [line["loss"] for line in run.steps], run.metrics[-1], config.train.batch_size
        finding = "No logged step had a finite loss and gradient: lower --train.lr."
        if losses:
            finding = f"Loss {losses[0]:.3f} at first (ln {b} = {math.log(b):.3f}), {losses[-1]:.3f} at the end."
        console.print(f"\n{last['step']} steps in {last['seconds']:.0f} s.  {finding}\n")
        if self.train.overfit:
            console.print(as_options(verdict(run)))
        else:
            print_figures(run.final)
            at = shlex.quote(str(folder))
            console.print(f"\nsaved in {folder}\ntry: minclip eval {at}")
            console.print(f"or:  minclip classify {at} IMAGE --labels 'a dog, a cat'")
        result = {"run": str(folder), "step": last["step"], "seconds": last["seconds"], "figures": run.final}
        return {**result, "first_loss": losses[0] if losses else None, "last_loss": losses[-1] if losses else None}


def run(arguments: list[str]) -> dict[str, Any]:
    """Runs `minclip train` with these arguments."""
    name, options = (arguments or ["-"])[0], arguments[1:]
    need(name[:1] != "-", f"minclip train needs a preset: {', '.join(PRESETS)}")
    # --model.vision timm:NAME is short for --model.vision.tower timm:NAME
    options = [re.sub(r"^--model\.(vision|text)(?=$|=)", r"--model.\1.tower", option) for option in options]
    options = [re.sub("^--(overfit|init)(?=$|=)", r"--train.\1", option) for option in options]
    words = [word for option in options for word in (option.split("=", 1) if option[:2] == "--" else [option])]
    given = dict(zip(words, [*words[1:], ""]))  # each option with what follows it
    for option in INSTEAD.keys() & {word.replace("_", "-") for word in words}:
        raise MinclipError(f"minclip train takes no {option}: use {INSTEAD[option]}")
    config, folder = find_preset(name), RUNS / given.get("--name", name + "-overfit" * ("--train.overfit" in given))
    init = given.get("--train.init", "")
    if init[:1] not in ("", "-"):  # the defaults are then those of the weights, or of the run to resume
        resumes = "--resume" in given and (folder / "model.safetensors").exists()
        config = fine_tuning(config, str(folder) if resumes else init)
    towers = {part: given[f"--model.{part}.tower"] for part in ("vision", "text") if f"--model.{part}.tower" in given}
    config = for_towers(config, **towers)  # without fields that these towers don't use
    return fill(Train, options, f"minclip train {name}", default=Train(**vars(config))).run(name, options)


def find_preset(name: str) -> TrainConfig:
    """The preset; a MinclipError says what to type if `name` is a model, or a folder of photographs."""
    path, models = folders.look_up(name), {model.lower().replace("/", "-"): model for model in OPENAI}
    model = models.get(name.lower().replace("/", "-")) or hub_repository(name)
    if path:
        model = name * any(file.suffix in WEIGHTS for file in (path, *path.glob("*")))
    init = f" --init {shlex.quote(model)}" if model else ""
    root = shlex.quote(name) if path and not model else "PHOTOGRAPHS"
    command = f"minclip train flickr8k{init} --data.name {name if name == 'shards' else 'own'} --data.root {root}"
    meant = name not in PRESETS and (model or path or name in ("own", "shards"))
    need(not meant, f"{name!r} is not a preset: to train with the preset flickr8k, type {command}")
    return preset(name)


def free_name(name: str) -> str:
    """`name`, or the first of `name-2`, `name-3`, … that isn't a run yet: a run is never overwritten."""
    names = itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2)))
    return next(name for name in names if not (RUNS / name / "config.json").exists())


def check_folder(folder: Path, resume: bool) -> None:
    """Raises MinclipError unless every process sees the run to resume."""
    ready = distributed.all_gather_object(not resume or (folder / "config.json").exists())
    if not ready[0]:
        runs = [path.parent.relative_to(RUNS).as_posix() for path in RUNS.glob("**/config.json")]
        hint = nearest(folder.as_posix().removeprefix("runs/"), runs)
        raise MinclipError(f"{folder} holds no run to resume{hint}: to start one, leave out --resume")
    lacking = ", ".join(str(rank) for rank, there in enumerate(ready) if not there)
    need(not lacking, f"process {lacking} can't see {folder}, which every machine needs to resume: share or copy it")


def for_towers(config: TrainConfig, **towers: str) -> TrainConfig:
    """The config without settings that the towers `vision=` and `text=` don't use, so that these can be set next."""
    model = copy.deepcopy(config.model)
    for part, tower in towers.items():
        old = getattr(model, part)
        for name in unused_fields(part, tower):  # without a check: the default may not suit the present tower
            object.__setattr__(old, name, getattr(type(old), name))  # the default
    then = {"vision": model.vision.tower, "text": model.text.tower, **towers}
    activation = model.activation if TRANSFORMERS.intersection(then.values()) else "gelu"
    return replace(config, model=replace(model, activation=activation))


@dataclass(frozen=True)
class Blend:
    """Write a run with the weights (1 - alpha) * A + alpha * B of two models, for example before and after fine-tuning.

    A fine-tuned model is better on its own data and often worse elsewhere; weights in between are often good at both
    (WiSE-FT, Wortsman et al. 2022).  Data and recipe in the run's config are those of B or, if B isn't a run, of A.
    """

    a: RunArgument
    b: RunArgument
    alpha: float = 0.5  # 0 is A, 1 is B
    name: str = ""  # the run's folder under runs/; by default "blend", numbered

    def run(self) -> dict[str, Any]:
        folder = RUNS / (self.name or free_name("blend"))
        need(not (folder / "config.json").exists(), f"{folder} already holds a run: choose another --name")
        (a, _, first), (b, _, second) = load(self.a), load(self.b)
        model = blended(a, b, self.alpha)
        same = first is None or second is None or first.to_json() == second.to_json()
        need(same, f"{self.a} and {self.b} have different vocabularies, so their weights can't be blended")
        origin = {"blend": [origin_of(self.a), origin_of(self.b)], "alpha": self.alpha}
        runs = [run for run in map(find_run, (self.b, self.a)) if run]
        learnt = sorted({name for run in runs for name in read_learnt(run)})
        with lock_run(folder):
            folders.write_folder(folder, model, tokenizer=second or first)
            if learnt:
                folders.write_json(folder / "learnt.json", learnt)
            config = folders.read_config(runs[0] if runs else folder)
            folders.write_json(folder / "config.json", config | {"origin": origin})
        console.print(f"saved in {folder}\ntry: minclip {'eval' if runs else 'classify'} {shlex.quote(str(folder))}")
        return {"run": str(folder), **origin}

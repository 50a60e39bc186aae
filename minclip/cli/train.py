"""minclip train: a run from a preset, any field of which may be given."""

import errno
import math
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..config import MinclipError, TrainConfig, nearest
from ..loop import train
from ..training import distributed
from ..training.diagnose import verdict
from ..training.run import Run
from .printing import Json, console, print_figures


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
    json: Json = False

    def run(self, preset_name: str) -> dict[str, Any]:
        distributed.start(self.train.device)  # under torchrun all processes come here, and one speaks
        if distributed.rank() > 0:
            console.quiet = True
        default = preset_name + ("-overfit" if self.overfit else "")
        name = self.name or (default if self.resume else free_name(default))
        folder = Path("runs") / distributed.all_gather_object(name)[0]
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
            from ..course import plots  # matplotlib, only now

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
            "first_loss": losses[0] if losses else None,
            "last_loss": losses[-1] if losses else None,
            "seconds": run.metrics[-1]["seconds"],
            "figures": run.final,
        }


def free_name(name: str) -> str:
    """`name`, or `name-2`, `name-3`, … where that run is there already: a run is never overwritten."""
    taken = {p.parent.name for p in Path("runs").glob("*/config.json")}
    return next(n for n in (name, *(f"{name}-{i}" for i in range(2, len(taken) + 3))) if n not in taken)


def print_training(run: Run) -> None:
    losses = [line["loss"] for line in run.steps]
    last = run.metrics[-1]
    b = run.config.train.batch_size
    told = (
        f"Loss {losses[0]:.3f} at first (ln {b} = {math.log(b):.3f}), {losses[-1]:.3f} at last."
        if losses
        else "No logged step had a finite loss and gradient: lower train.lr."
    )
    console.print(f"\n{last['step']} steps in {last['seconds']:.0f} s.  {told}\n")

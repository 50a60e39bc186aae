"""minclip probe: zero-shot beside classifiers that learn from labelled images."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from rich.table import Table
from torch import Tensor

from ..config import MinclipError, nearest
from ..data import Task, load_pairs
from ..data.batches import normalize
from ..engine import pick_device
from ..evaluate import few_shot, linear_probe, zero_shot_accuracy
from ..evaluate.probe import crossing
from ..folder import look_up
from ..model import CLIP
from ..pretrained import load
from .printing import Json, console


@dataclass(frozen=True)
class Probe:
    """Ask how many labelled images zero-shot is worth: a linear probe on all of them, and on k of each class."""

    run_folder: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN", help="a run's folder or name, demo, or ViT-B/32")
    ]
    task: Annotated[str, tyro.conf.arg(help="one of the shapes world's tasks, such as colour, count, colour+shape")] = (
        "shape"
    )
    shots: Annotated[str, tyro.conf.arg(help="the k, with commas between")] = "1,2,4,8,16"
    repeats: Annotated[int, tyro.conf.arg(help="how many times k images of each class are drawn")] = 10
    json: Json = False

    def run(self) -> dict[str, Any]:
        try:
            ks = sorted({int(k) for k in self.shots.split(",")})
        except ValueError:
            raise MinclipError(f"--shots {self.shots!r} must be whole numbers with commas between: 1,2,4") from None
        if ks[0] < 1 or self.repeats < 1:
            raise MinclipError(f"--shots {self.shots} --repeats {self.repeats}: each must be at least 1")
        model, _, tokenizer = load(self.run_folder, pick_device("auto", "fp32")[0])
        if tokenizer is None:
            raise MinclipError(f"{self.run_folder} has no tokenizer.json, so zero-shot can't read the class names")
        (test_x, test_y), (val_x, val_y), (train_x, train_y), task = features_of_task(model, self.task)
        with torch.no_grad():
            image = F.normalize(model.image_projection(test_x.to(model.device)).float(), dim=-1)
        zero_shot = zero_shot_accuracy(model, tokenizer, image, replace(task, indices=np.arange(len(image))))
        sets = {
            "train_x": train_x,
            "train_y": train_y,
            "test_x": test_x,
            "test_y": test_y,
            "val_x": val_x,
            "val_y": val_y,
        }
        sets["class_names"] = task.class_names
        few = few_shot(**sets, ks=ks, repeats=self.repeats)
        probe = linear_probe(**sets)
        worth = crossing({k: few[k]["mean"] for k in ks}, zero_shot)

        console.print(
            f"{self.task}: {len(train_x):,} images to learn from, {len(val_x):,} to choose C on, {len(test_x):,} to test\n"
        )
        table = Table("", "accuracy", "C", box=None)
        table.add_row("chance", f"{task.chance:.1%}")
        table.add_row("zero-shot", f"{zero_shot:.1%}")
        for k in ks:
            table.add_row(f"{k} a class", f"{few[k]['mean']:.1%} ± {100 * few[k]['std']:.1f}", f"{few[k]['c']:.2g}")
        table.add_row("linear probe, all images", f"{probe['accuracy']:.1%}", f"{probe['c']:.2g}")
        console.print(table)
        told = (
            "more than " + str(ks[-1])
            if worth is None
            else "at most " + str(ks[0])
            if worth == ks[0]
            else f"{worth:.1f}"
        )
        console.print(f"\nzero-shot is worth {told} labelled images a class")
        picture = self.draw(
            few, zero_shot, f"{self.task}: zero-shot is worth {told} images a class", task, worth, probe
        )
        console.print(f"saved: [bold]{picture}[/]")
        return {
            "task": self.task,
            "chance": task.chance,
            "zero_shot": zero_shot,
            "few_shot": {str(k): few[k] for k in ks},
            "crossing": worth,
            "probe": {"accuracy": probe["accuracy"], "c": probe["c"]},
            "picture": str(picture),
        }

    def draw(self, few: dict, zero_shot: float, title: str, task: Task, worth: float | None, probe: dict) -> Path:
        """Writes few-shot.png into the run's folder, or here where RUN is no folder."""
        from ..course import plots  # matplotlib, only now

        folder = look_up(self.run_folder)
        path = (folder if folder and folder.is_dir() else Path(".")) / "few-shot.png"
        curve = {k: results["accuracies"] for k, results in few.items()}
        plots.save(plots.few_shot_curve(curve, zero_shot, title, task.chance, worth, probe["accuracy"]), path)
        return path


def features_of_task(model: CLIP, name: str) -> tuple[Any, ...]:
    """(features, labels) of the splits "test", "val" and "train" of one of the shapes world's tasks, and its Task for "test"."""
    sets, tasks = [], []
    for split in ("test", "val", "train"):  # the small ones first: a wrong name is told at once
        pairs = load_pairs("shapes", split, model.config.vision.image_size)
        if name not in pairs.tasks:
            raise MinclipError(
                f"no task is named {name!r}{nearest(name, pairs.tasks)}: choose from {', '.join(pairs.tasks)}"
            )
        task = pairs.tasks[name]
        sets.append((tower_features(model, pairs.images[task.indices]), task.labels))
        tasks.append(task)
    return *sets, tasks[0]


@torch.no_grad()
def tower_features(model: CLIP, images: np.ndarray, block: int = 256) -> Tensor:
    """(N, W) of images (N, 3, S, S) uint8: what the image tower says before the projection, as in appendix A.3.

    On the CPU, since not every GPU has float64.
    """
    blocks = (torch.from_numpy(images[i : i + block]).to(model.device) for i in range(0, len(images), block))
    return torch.cat([model.vision(normalize(x, model.config.vision)).float().cpu() for x in blocks])

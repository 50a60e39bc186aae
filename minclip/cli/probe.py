"""minclip probe: zero-shot beside classifiers that learn from labelled images."""

from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from rich.table import Table

from ..config import MinclipError
from ..evaluate import few_shot, linear_probe
from ..evaluate.probe import crossing
from ..training.engine import pick_device
from ..weights.load import load
from .printing import Download, Json, console, picture_path


@dataclass(frozen=True)
class Probe:
    """Ask how many labelled images zero-shot is worth: a linear probe on all of them, and on k of each class."""

    run_folder: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN", help="a run's folder or name, demo, or ViT-B/32")
    ]
    task: Annotated[
        str,
        tyro.conf.arg(help="a task of the shapes world, such as colour, count, colour+shape; or cifar10, food101, …"),
    ] = "shape"
    shots: Annotated[str, tyro.conf.arg(help="the k, with commas between")] = "1,2,4,8,16"
    repeats: Annotated[int, tyro.conf.arg(help="how many times k images of each class are drawn")] = 10
    root: Annotated[str, tyro.conf.arg(help="the folder of the paper's data sets")] = ""
    download: Download = False
    out: Annotated[str, tyro.conf.arg(help="where few-shot.png is written: the run's folder, or here")] = ""
    json: Json = False

    def run(self) -> dict[str, Any]:
        try:
            ks = sorted({int(k) for k in self.shots.split(",")})
        except ValueError:
            raise MinclipError(f"--shots {self.shots!r} must be whole numbers with commas between: 1,2,4") from None
        if ks[0] < 1 or self.repeats < 1:
            raise MinclipError(f"--shots {self.shots} --repeats {self.repeats}: each must be at least 1")
        model, preprocess, tokenizer = load(self.run_folder, pick_device("auto", "fp32")[0])
        if tokenizer is None:
            raise MinclipError(f"{self.run_folder} has no tokenizer.json, so zero-shot can't read the class names")
        from ..evaluate.tasks import probe_sets  # the data sets, only now

        loaded = (model, preprocess, tokenizer)
        sets, asked = probe_sets(loaded, self.task, root=self.root, download=self.download, shots=ks[-1])
        metric, zero_shot, chance = asked.metric, asked.score, asked.chance
        few = few_shot(**sets, ks=ks, repeats=self.repeats)
        probe = linear_probe(**sets)
        worth = crossing({k: few[k]["mean"] for k in ks}, zero_shot)

        sizes = [len(sets[key][1]) if key in sets else 0 for key in ("train", "val", "test")]
        console.print(
            f"{self.task}: {sizes[0]:,} images to learn from, {sizes[1]:,} to choose C on, {sizes[2]:,} to test\n"
        )
        table = Table("", metric, "C", box=None)
        table.add_row("chance", f"{chance:.1%}")
        table.add_row("zero-shot", f"{zero_shot:.1%}")
        for k in ks:
            table.add_row(f"{k} a class", f"{few[k]['mean']:.1%} ± {100 * few[k]['std']:.1f}", f"{few[k]['c']:.2g}")
        table.add_row("linear probe, all images", f"{probe['accuracy']:.1%}", f"{probe['c']:.2g}")
        console.print(table)
        told = f"more than {ks[-1]}" if worth is None else f"at most {ks[0]}" if worth == ks[0] else f"{worth:.1f}"
        finding = f"zero-shot is worth {told} labelled images a class"
        console.print(f"\n{finding}")

        from ..course import plots  # matplotlib, only now

        picture = picture_path(self.run_folder, self.out, "few-shot.png")
        curve = {k: results["accuracies"] for k, results in few.items()}
        title = f"{self.task}: {finding}"
        plots.save(plots.few_shot_curve(curve, zero_shot, title, chance, worth, probe["accuracy"]), picture)
        console.print(f"saved: [bold]{picture}[/]")
        return {
            "task": self.task,
            "metric": metric,
            "chance": chance,
            "zero_shot": zero_shot,
            "few_shot": {str(k): few[k] for k in ks},
            "crossing": worth,
            "probe": {"accuracy": probe["accuracy"], "c": probe["c"]},
            "picture": str(picture),
        }

"""minclip probe: zero-shot against classifiers that are trained on labeled images."""

from dataclasses import dataclass
from typing import Any

from ..config import MinclipError
from ..course.plots import few_shot_curve
from ..evaluate import few_shot, linear_probe
from ..evaluate.probe import crossing
from ..evaluate.tasks import probe_sets
from .models import Download, RunArgument, open_model, save_picture
from .printing import Json, console, print_table


@dataclass(frozen=True)
class Probe:
    """Measure how many labeled images zero-shot is worth, with a linear probe on all images and on k of each class."""

    run_folder: RunArgument
    # a task of the shapes world (shape, colour, count, colour+shape, …), or a data set of the paper (cifar10, …)
    task: str = "shape"
    shots: str = "1,2,4,8,16"  # the values of k, separated by commas
    repeats: int = 10  # how many times k images of each class are drawn
    root: str = ""  # the folder of the paper's data sets
    download: Download = False
    out: str = ""  # the folder for few-shot.png; by default the run's folder, or the current one
    json: Json = False

    def run(self) -> dict[str, Any]:
        try:
            ks = sorted({int(k) for k in self.shots.split(",")})
        except ValueError:
            raise MinclipError(f"--shots {self.shots!r} must be whole numbers separated by commas: 1,2,4") from None
        if ks[0] < 1 or self.repeats < 1:
            raise MinclipError(f"--shots {self.shots} --repeats {self.repeats}: each must be at least 1")
        model = open_model(self.run_folder)
        sets, asked = probe_sets(model, self.task, root=self.root, download=self.download, shots=ks[-1])
        metric, zero_shot, chance = asked.metric, asked.score, asked.chance
        few, probe = few_shot(**sets, ks=ks, repeats=self.repeats), linear_probe(**sets)
        worth = crossing({k: few[k]["mean"] for k in ks}, zero_shot)

        sizes = [f"{len(sets[key][1]) if key in sets else 0:,} {key}" for key in ("train", "val", "test")]
        console.print(f"{self.task}: images {', '.join(sizes)}; C was chosen on val\n")
        rows = [("chance", f"{chance:.1%}"), ("zero-shot", f"{zero_shot:.1%}")]
        rows += [(f"{k} per class", f"{f['mean']:.1%} ± {100 * f['std']:.1f}", f"{f['c']:.2g}") for k, f in few.items()]
        rows.append(("linear probe, all images", f"{probe['accuracy']:.1%}", f"{probe['c']:.2g}"))
        print_table(("", metric, "C"), rows)
        value = f"more than {ks[-1]}" if worth is None else f"at most {ks[0]}" if worth == ks[0] else f"{worth:.1f}"
        finding = f"zero-shot is worth {value} labeled images per class"
        console.print(f"\n{finding}")
        curve, title = {k: results["accuracies"] for k, results in few.items()}, f"{self.task}: {finding}"
        figure = few_shot_curve(curve, zero_shot, title, chance=chance, crossing=worth, probe=probe["accuracy"])
        picture = save_picture(figure, "few-shot.png", self.out, run=self.run_folder)
        result = {"task": self.task, "metric": metric, "chance": chance, "zero_shot": zero_shot, "crossing": worth}
        result["probe"] = {"accuracy": probe["accuracy"], "c": probe["c"]}
        return {**result, "few_shot": {str(k): few[k] for k in ks}, "picture": picture}

"""minclip eval recomputes a run's figures or runs zero-shot tasks; minclip probe trains linear classifiers."""

from dataclasses import dataclass, replace
from typing import Any

from ..config import need
from ..course.plots import few_shot_curve, task_bars
from ..data import open_data
from ..data.stream import evaluation
from ..evaluate import few_shot, final_figures, linear_probe
from ..evaluate.probe import crossing
from ..evaluate.tasks import probe_sets, run_tasks, task_names
from ..training.engine import pick_device
from ..training.run import Run, read_learnt
from .shared import Download, RunArgument, console, open_model, print_table, save_picture


@dataclass(frozen=True)
class Eval:
    """Compute a run's final figures again: retrieval in both directions, and zero-shot accuracy beside chance.

    With --tasks, evaluate any model zero-shot on the paper's data sets.
    """

    run_folder: RunArgument
    root: str = ""  # where the photographs are, if they were moved; with --tasks, the folder of the data sets
    # the paper's data sets (cifar10,food101), shapes (all tasks of the shapes world), or all (all data sets in --root)
    tasks: str = ""
    download: Download = False
    out: str = ""  # the folder for tasks.png; by default the run's folder, or the current one

    def run(self) -> dict[str, Any]:
        if self.tasks:
            return self.run_tasks()
        need(not (self.download or self.out), "--download and --out belong to --tasks: add, say, --tasks cifar10")
        run = Run.load(self.run_folder)
        opened = open_data(replace(run.config.data, root=self.root or run.config.data.root))
        splits = evaluation(opened)
        for note in dict.fromkeys(note for pairs in splits.values() for note in pairs.notes):
            console.print(f"note: {note}")
        model = run.model.to(pick_device(run.config.train.device, "fp32")[0])
        figures = final_figures(model, run.tokenizer, splits, trained_on=read_learnt(run.folder))
        print_figures(figures)
        return {"run": str(run.folder), "figures": figures}

    def run_tasks(self) -> dict[str, Any]:
        names = task_names(self.tasks, self.root)
        done = run_tasks(open_model(self.run_folder), names, root=self.root, download=self.download)
        rows = [(n, r.metric, f"{r.score:.1%}", f"{r.chance:.1%}", f"{r.images:,}", r.classes) for n, r in done.items()]
        print_table(("", "metric", "score", "chance", "images", "classes"), rows, title="zero-shot")
        console.print(*(f"{note}\n" for r in done.values() for note in r.notes), sep="", end="")
        picture = save_picture(task_bars(done), "tasks.png", self.out, run=self.run_folder)
        return {"run": self.run_folder, "tasks": {n: r._asdict() for n, r in done.items()}, "file": picture}


@dataclass(frozen=True)
class Probe:
    """Measure how many labeled images zero-shot is worth, with linear probes on all images and on k per class."""

    run_folder: RunArgument
    # a task of the shapes world (shape, colour, count, colour+shape, …), or a data set of the paper (cifar10, …)
    task: str = "shape"
    shots: str = "1,2,4,8,16"  # the values of k, separated by commas
    repeats: int = 10  # random draws of k images per class
    root: str = ""  # the folder of the paper's data sets
    download: Download = False
    out: str = ""  # the folder for few-shot.png; by default the run's folder, or the current one

    def run(self) -> dict[str, Any]:
        ks = sorted({int(k) if k.strip().isdecimal() else 0 for k in self.shots.split(",")})
        got = f"--shots {self.shots!r} --repeats {self.repeats}"
        need(min(*ks, self.repeats) > 0, f"{got}: give whole numbers of at least 1, several for --shots: 1,2,4")
        model = open_model(self.run_folder)
        sets, zero_shot = probe_sets(model, self.task, root=self.root, download=self.download, shots=ks[-1])
        few, probe = few_shot(**sets, ks=ks, repeats=self.repeats), linear_probe(**sets)
        worth = crossing({k: few[k]["mean"] for k in ks}, zero_shot.score)

        sizes = [f"{len(sets[key][1]) if key in sets else 0:,} {key}" for key in ("train", "val", "test")]
        console.print(f"{self.task}: images {', '.join(sizes)}; C was chosen on val\n")
        rows = [("chance", f"{zero_shot.chance:.1%}"), ("zero-shot", f"{zero_shot.score:.1%}")]
        rows += [(f"{k} per class", f"{f['mean']:.1%} ± {100 * f['std']:.1f}", f"{f['c']:.2g}") for k, f in few.items()]
        rows.append(("linear probe, all images", f"{probe['accuracy']:.1%}", f"{probe['c']:.2g}"))
        print_table(("", zero_shot.metric, "C"), rows)
        value = f"more than {ks[-1]}" if worth is None else f"at most {ks[0]}" if worth == ks[0] else f"{worth:.1f}"
        finding = f"zero-shot is worth {value} labeled images per class"
        console.print(f"\n{finding}")
        curve, marks = {k: few[k]["accuracies"] for k in ks}, {"crossing": worth, "probe": probe["accuracy"]}
        figure = few_shot_curve(curve, zero_shot.score, f"{self.task}: {finding}", chance=zero_shot.chance, **marks)
        picture = save_picture(figure, "few-shot.png", self.out, run=self.run_folder)
        result = {"task": self.task, "metric": zero_shot.metric, "chance": zero_shot.chance, "crossing": worth}
        result |= {"zero_shot": zero_shot.score, "probe": {key: probe[key] for key in ("accuracy", "c")}}
        return {**result, "few_shot": {str(k): few[k] for k in ks}, "picture": picture}


def print_figures(figures: dict[str, dict[str, float]]) -> None:
    """Prints tables of retrieval and zero-shot accuracy, a column per split; a figure that a run lacks stays empty."""

    def row(key: str, *cells: str) -> list[str]:
        form = "{:g}" if "rank" in key else "{:.1%}"
        return [*cells, *(form.format(f[key]) if key in f else "" for f in figures.values())]

    keys = dict.fromkeys(key for f in figures.values() for key in f if "_to_" in key)
    names = {key: key.replace("_r@", " recall@").replace("_median_", " median ").replace("_", "-") for key in keys}
    rows = [row(key, name) for key, name in names.items()]
    print_table(("", *figures), rows, title="retrieval, counting all captions")
    chances = {k.removeprefix("chance/"): v for f in figures.values() for k, v in f.items() if "chance/" in k}
    if rows := [row(f"zero_shot/{task}", task, f"{chance:.1%}") for task, chance in chances.items()]:
        print_table(("", "chance", *figures), rows, title="\nzero-shot accuracy")

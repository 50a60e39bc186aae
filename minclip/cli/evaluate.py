"""minclip eval: a run's figures, computed again; or any model, zero-shot, on the paper's data sets."""

from dataclasses import dataclass, replace
from typing import Any

from ..config import MinclipError
from ..course.plots import task_bars
from ..data import open_data
from ..evaluate import final_figures
from ..evaluate.tasks import run_tasks, task_names
from ..training.engine import pick_device
from ..training.run import Run, read_learnt
from .shared import Download, RunArgument, console, open_model, print_table, save_picture


@dataclass(frozen=True)
class Eval:
    """Compute a run's final figures again: retrieval both ways, and zero-shot accuracy against chance.

    With --tasks, evaluate any model zero-shot on data sets of the paper.
    """

    run_folder: RunArgument
    root: str = ""  # where the photographs are, if they were moved; with --tasks, the folder of the data sets
    # cifar10,food101,… of the paper's data sets; shapes for all tasks of the shapes world; all for what is under --root
    tasks: str = ""
    download: Download = False
    out: str = ""  # the folder for tasks.png; by default the run's folder, or the current one

    def run(self) -> dict[str, Any]:
        if self.tasks:
            return self.run_tasks()
        if self.download or self.out:
            raise MinclipError("--download and --out belong to --tasks: minclip eval RUN --tasks cifar10 --download")
        run = Run.load(self.run_folder)
        opened = open_data(replace(run.config.data, root=self.root or run.config.data.root))
        splits = {split: opened.load(split) for split in opened.evaluation_splits}
        model = run.model.to(pick_device(run.config.train.device, "fp32")[0])
        figures = final_figures(model, run.tokenizer, splits, trained_on=read_learnt(run.folder))
        print_figures(figures)
        return {"run": str(run.folder), "figures": figures}

    def run_tasks(self) -> dict[str, Any]:
        names = task_names(self.tasks, self.root)
        results = run_tasks(open_model(self.run_folder), names, root=self.root, download=self.download)
        rows = []
        for name, r in results.items():
            rows.append((name, r.metric, f"{r.score:.1%}", f"{r.chance:.1%}", f"{r.images:,}", str(r.classes)))
        print_table(("", "metric", "score", "chance", "images", "classes"), rows, title="zero-shot")
        console.print(*(f"{note}\n" for r in results.values() for note in r.notes), sep="", end="")
        picture = save_picture(task_bars(results), "tasks.png", self.out, run=self.run_folder)
        return {"run": self.run_folder, "tasks": {n: r._asdict() for n, r in results.items()}, "file": picture}


def print_figures(figures: dict[str, dict[str, float]]) -> None:
    """Prints the retrieval and the zero-shot table, a column for each split; what an older run lacks stays empty."""

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

"""minclip eval: a run's figures, computed again; or any model, zero-shot, on the paper's data sets."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..config import MinclipError
from ..course.plots import task_bars
from ..data import open_data
from ..evaluate import final_figures
from ..evaluate.benchmarks import default_root
from ..evaluate.tasks import run_tasks, task_names
from ..training.engine import pick_device
from ..training.run import Run, read_learnt
from .models import Download, RunArgument, open_model, save_picture
from .printing import Json, console, print_figures, print_table


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
    json: Json = False

    def run(self) -> dict[str, Any]:
        if self.tasks:
            return self.run_tasks()
        if self.download or self.out:
            raise MinclipError("--download and --out belong to --tasks: minclip eval RUN --tasks cifar10 --download")
        run = Run.load(self.run_folder)
        config = run.config
        if self.root:
            config = replace(config, data=replace(config.data, root=self.root))
        device, _ = pick_device(config.train.device, "fp32")
        opened = open_data(config.data)
        splits = {split: opened.load(split) for split in opened.evaluation_splits}
        figures = final_figures(run.model.to(device), run.tokenizer, splits, trained_on=read_learnt(run.folder))
        print_figures(figures)
        return {"run": str(run.folder), "figures": figures}

    def run_tasks(self) -> dict[str, Any]:
        root = Path(self.root or default_root())
        names = task_names(self.tasks, root)
        results = run_tasks(open_model(self.run_folder), names, root=root, download=self.download)
        rows = [
            (name, r.metric, f"{r.score:.1%}", f"{r.chance:.1%}", f"{r.images:,}", str(r.classes))
            for name, r in results.items()
        ]
        print_table(("", "metric", "score", "chance", "images", "classes"), rows, title="zero-shot")
        for note in (note for r in results.values() for note in r.notes):
            console.print(note)
        picture = save_picture(task_bars(results), "tasks.png", self.out, run=self.run_folder)
        return {"run": self.run_folder, "tasks": {n: r._asdict() for n, r in results.items()}, "file": picture}

"""minclip eval: a run's figures, computed again; or any model on the tasks of the paper's table."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.table import Table

from ..config import MinclipError
from ..loop import final_figures
from ..training.engine import pick_device
from ..training.run import Run, read_learnt
from ..weights.load import load
from .printing import Download, Json, console, picture_path, print_figures


@dataclass(frozen=True)
class Eval:
    """Compute a run's figures again: retrieval both ways, and zero-shot accuracy against chance; or, with --tasks, zero-shot results on data sets by name."""

    run_folder: Annotated[
        tyro.conf.Positional[str],
        tyro.conf.arg(
            metavar="RUN", help="a run's folder, or its name under runs/; with --tasks also demo or ViT-B/32"
        ),
    ]
    root: Annotated[
        str,
        tyro.conf.arg(help="the photographs' folder or zip, where it moved; with --tasks the folder of the data sets"),
    ] = ""
    tasks: Annotated[
        str,
        tyro.conf.arg(help="cifar10,food101,… of the paper's table; shapes, or its tasks; all that lie under --root"),
    ] = ""
    download: Download = False
    out: Annotated[str, tyro.conf.arg(help="where tasks.png is written: the run's folder, or here")] = ""
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
        figures = final_figures(run.model.to(device), run.tokenizer, config, read_learnt(run.folder))
        print_figures(figures)
        return {"run": str(run.folder), "figures": figures}

    def run_tasks(self) -> dict[str, Any]:
        from ..course import plots  # matplotlib, only now
        from ..evaluate.benchmarks import default_root
        from ..evaluate.tasks import run_tasks, task_names

        root = Path(self.root or default_root())
        names = task_names(self.tasks, root)
        model, preprocess, tokenizer = load(self.run_folder, pick_device("auto", "fp32")[0])
        if tokenizer is None:
            raise MinclipError(f"{self.run_folder} has no tokenizer.json, so it can't read class names")
        results = run_tasks((model, preprocess, tokenizer), names, root=root, download=self.download)
        table = Table(
            "", "metric", "ours", "chance", "images", "classes", title="zero-shot", title_justify="left", box=None
        )
        for name, r in results.items():
            table.add_row(name, r.metric, f"{r.score:.1%}", f"{r.chance:.1%}", f"{r.images:,}", str(r.classes))
        console.print(table)
        for note in (note for r in results.values() for note in r.notes):
            console.print(note, markup=False)
        picture = picture_path(self.run_folder, self.out, "tasks.png")
        plots.save(plots.task_bars(results), picture)
        console.print(f"saved: [bold]{picture}[/]")
        return {"run": self.run_folder, "tasks": {n: r._asdict() for n, r in results.items()}, "file": str(picture)}

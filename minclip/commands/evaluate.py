"""minclip eval: a run's figures, computed again."""

from dataclasses import dataclass, replace
from typing import Annotated, Any

import tyro

from ..checkpoint import Run, read_learnt
from ..engine import pick_device
from ..train import final_figures
from .printing import Json, print_figures


@dataclass(frozen=True)
class Eval:
    """Compute a run's figures again: retrieval both ways, and zero-shot accuracy against chance."""

    run_folder: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN", help="a run's folder, or its name under runs/")
    ]
    root: Annotated[str, tyro.conf.arg(help="the photographs' folder or zip, where it moved")] = ""
    json: Json = False

    def run(self) -> dict[str, Any]:
        run = Run.load(self.run_folder)
        config = run.config
        if self.root:
            config = replace(config, data=replace(config.data, root=self.root))
        device, _ = pick_device(config.train.device, "fp32")
        figures = final_figures(run.model.to(device), run.tokenizer, config, read_learnt(run.folder))
        print_figures(figures)
        return {"run": str(run.folder), "figures": figures}

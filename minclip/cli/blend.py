"""minclip blend: a run with weights between those of two models."""

import shlex
from dataclasses import dataclass
from typing import Any

from ..config import need
from ..training.run import lock_run, read_learnt
from ..weights import folder as folders
from ..weights.load import load
from ..weights.start import blended, origin_of
from .shared import RunArgument, console, find_run
from .train import RUNS, free_name


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
        need(not (folder / "config.json").exists(), f"{folder} holds a run already: choose another --name")
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

"""What the experiments share: one command line, and one JSON file with mean and standard deviation over seeds.

An experiment is a script in this folder with `PARTS`, names of figures -> functions that take a seed, train what the
figure needs and return its numbers, in nested dicts of floats and lists.  `spot_check()` computes a few of them again,
and a test compares these with the stored ones, within `TOLERANCE`.  Models and losses come from the notebook that shows
them, so that the code that was run is the code that is read:

    python tools/experiments/NAME.py                 all parts, seeds 0, 1 and 2 unless the script names others
    python tools/experiments/NAME.py --part PART     one of them; the stored results of the others are kept
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from datetime import date
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import minclip

ROOT = Path(__file__).parents[2]
STORE = ROOT / "data" / "experiments"
Part = Callable[[int], dict[str, Any]]


@cache
def from_notebook(name: str) -> SimpleNamespace:
    """Runs the cells of notebooks/`name`.ipynb with the tag "experiment", in order; returns the names they define."""
    torch.manual_seed(0)
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    names: dict[str, Any] = {}
    for cell in cells:
        if "experiment" in cell["metadata"].get("tags", []):
            exec(compile("".join(cell["source"]), f"{name}.ipynb, {cell['id']}", "exec"), names)
    return SimpleNamespace(**names)


@cache
def demo() -> tuple[Any, Any]:
    """The demo's model and its tokenizer."""
    model, _, tokenizer = minclip.load("demo")
    return model, tokenizer


def main(file: str, parts: dict[str, Part], *, seeds: Sequence[int] = (0, 1, 2)) -> None:
    """Runs the chosen parts and writes data/experiments/NAME.json after each of them."""
    name = Path(file).stem
    parser = argparse.ArgumentParser(description=f"Writes data/experiments/{name}.json.")
    parser.add_argument("--part", choices=[*parts], nargs="*", default=[*parts])
    parser.add_argument("--seeds", type=int, nargs="*", default=seeds)
    options = parser.parse_args()
    torch.set_num_threads(1)  # the order of sums, and so the last digits, depends on the number of threads
    for part in options.part:
        start, runs = time.process_time(), []  # CPU time, which other programs don't change
        for seed in options.seeds:
            runs.append(parts[part](seed))
            print(f"{part}, seed {seed}: {time.process_time() - start:.0f} CPU seconds", flush=True)
        about = {"seeds": [*options.seeds], "date": date.today().isoformat(), "machine": machine()}
        about["cpu_minutes"] = round((time.process_time() - start) / 60, 1)
        write(name, {part: {**about, "results": over_seeds(runs)}})


def write(name: str, parts: dict[str, Any]) -> None:
    """Writes `parts` into data/experiments/`name`.json and keeps the other parts that are stored there."""
    path = STORE / f"{name}.json"
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"parts": {}}
    stored = {"command": f"python tools/experiments/{name}.py", "parts": {**stored["parts"], **parts}}
    unfinished = path.with_suffix(".part")
    unfinished.write_text(line_per_leaf(stored) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def over_seeds(runs: Sequence[Any]) -> Any:
    """Combines the nested dicts `runs` into one with {"mean", "std", "values"} as leaves; std of a sample (n - 1)."""
    if isinstance(runs[0], dict):
        return {str(key): over_seeds([run[key] for run in runs]) for key in runs[0]}
    values = np.asarray(runs, dtype=float)
    spread = values.std(axis=0, ddof=1) if len(runs) > 1 else np.zeros_like(values[0])
    leaf = {"mean": values.mean(axis=0), "std": spread, "values": values}
    return {key: np.round(value, 5).tolist() for key, value in leaf.items()}


def line_per_leaf(value: Any, indent: int = 0) -> str:
    """JSON with a line for each leaf."""
    if not isinstance(value, dict) or "mean" in value or not value:
        return json.dumps(value, ensure_ascii=False)
    inside = ",\n".join(
        f"{' ' * (indent + 1)}{json.dumps(k)}: {line_per_leaf(v, indent + 1)}" for k, v in value.items()
    )
    return f"{{\n{inside}\n{' ' * indent}}}"


def machine() -> str:
    """The hardware and the versions, as in "2 cores of Intel Xeon, Linux, Python 3.11, torch 2.14.1"."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor() or platform.machine()
    python = ".".join(platform.python_version_tuple()[:2])
    version = torch.__version__.split("+")[0]
    return f"{os.cpu_count()} cores of {cpu}, {platform.system()}, Python {python}, torch {version}"

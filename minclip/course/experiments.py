"""Results of experiments that take too long for a notebook, as stored in data/experiments/."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..config import MinclipError
from ..weights.hub import data_folder


class Stored:
    """One part of data/experiments/`name`.json, which tools/experiments/`name`.py writes.

    `stored["a", "b"]` is the result at that place: mean and sample standard deviation over the seeds, two floats, or
    two arrays if each seed has a list; for a place above the results, the list of names below it.  `str(stored)` says
    how they were made.  Raises MinclipError for a file, part or place that doesn't exist.
    """

    def __init__(self, name: str, part: str) -> None:
        path = data_folder() / "experiments" / f"{name}.json"
        if not path.exists():
            raise MinclipError(
                f"{path} not found: it comes with the repository; `python tools/experiments/{name}.py` writes it"
            )
        file = json.loads(path.read_text(encoding="utf-8"))
        if part not in file["parts"]:
            raise MinclipError(f"{path} has no part {part!r}: choose from {', '.join(file['parts'])}")
        self.about = file["parts"][part]
        seeds = self.about["seeds"]
        more = "" if seeds == [0, 1, 2] else f" --seeds {' '.join(map(str, seeds))}"  # the command's default
        self.command = f"{file['command']} --part {part}{more}"

    def __getitem__(self, place: str | tuple[str, ...]) -> Any:
        found = self.about["results"]
        for name in (place,) if isinstance(place, str) else place:
            if name not in found:
                raise MinclipError(f"nothing is stored at {name!r}: choose from {', '.join(found)}")
            found = found[name]
        if "mean" not in found:
            return [*found]
        mean, spread = np.array(found["mean"]), np.array(found["std"])
        return (mean, spread) if mean.ndim else (float(mean), float(spread))

    @property
    def note(self) -> str:
        """Where the numbers come from, for the corner of a figure."""
        return f"stored: mean ± std of {len(self.about['seeds'])} seeds"

    def __str__(self) -> str:
        return f"{self.note} ({self.about['date']}, {self.about['cpu_minutes']:g} CPU minutes; {self.command})"


LIVE = "live: trained in this notebook, one seed"


def compare(rows: Sequence[tuple[str, str, str, str]]) -> None:
    """Shows a table of the paper's results and ours; a row is (what was measured, the paper, ours, why they differ)."""
    from IPython.display import Markdown, display  # only notebooks have it

    lines = ["| | the paper | ours | why they differ |", "|---|---|---|---|"]
    display(Markdown("\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])))

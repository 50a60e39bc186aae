"""The stored results of the experiments have seeds, a spread and a source, and the scripts still produce them."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted(path for path in (ROOT / "tools" / "experiments").glob("*.py") if path.stem != "common")


@pytest.fixture(scope="module", params=SCRIPTS, ids=lambda path: path.stem)
def script(request):
    sys.path.insert(0, str(request.param.parent))  # as when it is run by name
    yield importlib.import_module(request.param.stem)
    sys.path.pop(0)


@pytest.fixture
def stored(script):
    return json.loads((ROOT / "data" / "experiments" / f"{script.__name__}.json").read_text(encoding="utf-8"))


def leaves(results):
    for name, value in results.items():
        yield from [((name,), value)] if "mean" in value else (((name, *rest), leaf) for rest, leaf in leaves(value))


def test_every_figure_says_how_it_was_made(script, stored):
    assert stored["command"] == f"python tools/experiments/{script.__name__}.py"
    assert set(stored["parts"]) == set(script.PARTS)
    for part in stored["parts"].values():
        assert len(set(part["seeds"])) >= 3 and {"date", "machine", "cpu_minutes"} <= set(part)


def test_mean_and_spread_are_those_of_the_seeds(stored):
    for part in stored["parts"].values():
        for place, leaf in leaves(part["results"]):
            values = np.array(leaf["values"])
            assert len(values) == len(part["seeds"]), place
            np.testing.assert_allclose(values.mean(axis=0), leaf["mean"], atol=2e-5, err_msg=str(place))
            np.testing.assert_allclose(values.std(axis=0, ddof=1), leaf["std"], atol=2e-5, err_msg=str(place))


def test_a_spot_check_reproduces_stored_numbers(script, stored):
    """`spot_check()` computes some stored numbers of seed 0 again: (part, place in it, index or None) -> number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the runs that are stored
    try:
        found = script.spot_check()
    finally:
        torch.set_num_threads(threads)
    assert found
    for (part, *place, index), value in found.items():
        leaf = stored["parts"][part]["results"]
        for name in place:
            leaf = leaf[name]
        at_seed_0 = leaf["values"][stored["parts"][part]["seeds"].index(0)]
        expected = at_seed_0 if index is None else at_seed_0[index]
        assert value == pytest.approx(expected, abs=script.TOLERANCE), (part, place, index)

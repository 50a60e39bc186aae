"""Stored results of experiments in the notebooks: their numbers, their figures, and how they were made."""

import json

import pytest

from minclip.config import MinclipError
from minclip.course import plots
from minclip.course.experiments import Stored, compare

FILE = {
    "command": "python tools/experiments/some.py",
    "parts": {
        "curve": {
            "seeds": [0, 1, 2],
            "date": "2026-11-30",
            "machine": "2 cores",
            "cpu_minutes": 1.5,
            "results": {
                "one": {"mean": 0.5, "std": 0.1, "values": [0.4, 0.5, 0.6]},
                "two": {"by step": {"mean": [1.0, 2.0], "std": [0.0, 1.0], "values": [[1, 1], [1, 2], [1, 3]]}},
            },
        }
    },
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "some.json").write_text(json.dumps(FILE))
    monkeypatch.setenv("MINCLIP_DATA", str(tmp_path))


def test_a_stored_result_is_a_mean_and_a_spread_at_its_place():
    stored = Stored("some", "curve")
    assert stored["one"] == (0.5, 0.1)
    mean, spread = stored["two", "by step"]
    assert mean.tolist() == [1, 2] and spread.tolist() == [0, 1]
    assert stored["two"] == ["by step"]


def test_it_says_how_it_was_made():
    stored = Stored("some", "curve")
    for fact in ("3 seeds", "2026-11-30", "1.5 CPU minutes", "python tools/experiments/some.py --part curve"):
        assert fact in str(stored)


def test_the_command_names_seeds_that_are_not_its_default(tmp_path):
    more = {**FILE["parts"]["curve"], "seeds": [0, 1, 2, 3]}
    parts = {**FILE["parts"], "more": more}
    (tmp_path / "experiments" / "some.json").write_text(json.dumps({**FILE, "parts": parts}))
    assert Stored("some", "more").command.endswith("--part more --seeds 0 1 2 3")
    assert Stored("some", "curve").command.endswith("--part curve")


@pytest.mark.parametrize(
    ("place", "named"), [(("other", "curve"), "other.py"), (("some", "line"), "curve"), (("some", "curve", "x"), "one")]
)
def test_an_error_about_a_missing_result_names_the_existing_ones(place, named):
    with pytest.raises(MinclipError, match=named):
        Stored(*place[:2])[place[2:]]


def test_growth_draws_mean_and_spread_in_percent():
    axis = plots.growth([1, 2, 4], {"a": ([0.1, 0.2, 0.3], [0, 0.1, 0])}, note="stored: …").axes[0]
    assert axis.lines[0].get_ydata().tolist() == pytest.approx([10, 20, 30])
    band = axis.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((10, 30))
    assert axis.figure.texts[0].get_text() == "stored: …"


def test_the_table_has_a_row_for_each_comparison(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    compare([("factor", "4", "1.8", "less varied captions"), ("pairs", "400 million", "20,000", "size")])
    assert shown[0].data.splitlines()[2:] == [
        "| factor | 4 | 1.8 | less varied captions |",
        "| pairs | 400 million | 20,000 | size |",
    ]
    assert {line.count("|") for line in shown[0].data.splitlines()} == {5}

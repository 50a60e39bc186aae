"""What tests of the notebooks share: the tests of every exercise, and the names that a notebook's cells define."""

import importlib.util
from pathlib import Path

import pytest

COMMON = Path(__file__).parents[1] / "tools" / "experiments" / "common.py"


def experiment_cells(name):
    """What the cells of notebooks/`name`.ipynb with the tag "experiment" define, as the experiments see it."""
    spec = importlib.util.spec_from_file_location("experiments_common", COMMON)
    common = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(common)
    return common.from_notebook(name)


def exercises(solutions, wrong):
    """A class of tests, to be given a name that begins with Test.

    `solutions` are (check, solution), `wrong` are (check, answer, what its message says).
    """

    class Exercises:
        @pytest.mark.parametrize(("check", "solution"), solutions)
        def test_each_solution_is_right(self, check, solution, capsys):
            check(solution)
            assert capsys.readouterr().out == "right!\n"

        @pytest.mark.parametrize(("check", "answer", "message"), wrong)
        def test_a_wrong_answer_fails_and_the_message_names_the_mistake(self, check, answer, message):
            with pytest.raises(AssertionError, match=message):
                check(answer)

        @pytest.mark.parametrize("check", [check for check, _ in solutions])
        @pytest.mark.parametrize("stub", [lambda *arguments: None, lambda *arguments: ...])
        def test_an_untouched_stub_is_not_an_error(self, check, stub, capsys):
            check(stub)
            assert "not attempted" in capsys.readouterr().out

    return Exercises

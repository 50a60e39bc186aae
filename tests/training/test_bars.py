"""Progress bars in a terminal, and in a notebook's kernel, where what they leave is saved."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from minclip.training.bars import tqdm

CELLS = {
    "slow": "for _ in tqdm(range(4), 'packing'): time.sleep(0.3)\nprint('packed')",
    "quick": "for _ in tqdm(range(4), 'packing'): pass",
    "by hand": "with tqdm(total=9) as bar:\n    for _ in range(9): time.sleep(0.1); bar.update(); bar.set_postfix_str('loss 1')",
    "a note": "for i in tqdm(range(4)):\n    time.sleep(0.3)\n    if i == 2: tqdm.write('note: half')",
    "left early": "with tqdm(total=9) as bar:\n    time.sleep(0.6); bar.update(); bar.refresh()",
    "disabled": "for _ in tqdm(range(2), disable=True): time.sleep(0.3)",
    "captured": "with capture_output() as captured:\n    for _ in tqdm(range(3)): time.sleep(0.3)\nprint([captured.stdout, captured.stderr])",
}
BAR, NONE = {"data": {}, "metadata": {}, "output_type": "display_data"}, []


def printed(text):
    return {"name": "stdout", "output_type": "stream", "text": text + "\n"}


LEFT = [
    *([BAR, printed("packed")], NONE, [BAR], [BAR, printed("note: half")]),
    *([BAR], NONE, [printed("['', '']")]),
]


def test_a_bar_in_a_terminal_is_tqdms_own(capfd):
    assert list(tqdm(range(3), "packing")) == [0, 1, 2]
    out, err = capfd.readouterr()
    assert out == "" and "packing: 100%" in err


@pytest.mark.slow
def test_a_notebook_keeps_nothing_of_a_bar_and_nbval_compares_nothing(tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("nbval")
    start = "import time\nfrom IPython.utils.capture import capture_output\nfrom minclip.training.bars import tqdm"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in (start, *CELLS.values())])
    nbclient.NotebookClient(notebook).execute()
    assert dict(zip(CELLS, [cell.outputs for cell in notebook.cells[1:]])) == dict(zip(CELLS, LEFT))
    for cell in notebook.cells:  # as where the cell was quick when its outputs were stored
        cell.outputs = [output for output in cell.outputs if output != BAR]
    nbformat.write(notebook, tmp_path / "bars.ipynb")
    nbval = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "--nbval",
        "--nbval-current-env",
        "-p",
        "no:cacheprovider",
    ]
    env = dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2]))
    done = subprocess.run(
        [*nbval, "--rootdir", tmp_path, tmp_path], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0 and "8 passed" in done.stdout, done.stdout[:3000]

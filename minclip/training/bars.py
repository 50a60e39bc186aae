"""Progress bars that leave nothing in a saved notebook, where a widget would show an error when opened again."""

import io
import sys

import tqdm as original


class CellBar(original.tqdm):
    """A bar as text in a notebook cell's output, shown after half a second and removed at the end."""

    def __init__(self, *items: object, **options: object) -> None:
        super().__init__(*items, **options | {"file": io.StringIO(), "ascii": False, "leave": False, "delay": 0.5})

    def display(self, msg: str | None = None, pos: int | None = None) -> object:
        from IPython.display import display

        if not hasattr(self, "output"):
            self.output = display({}, raw=True, display_id=True)  # empty: nbval compares this and no update
        return self.output.update({"text/plain": str(self)} if msg is None else {}, raw=True)


in_notebook = bool(sys.modules.get("IPython")) and hasattr(sys.modules["IPython"].get_ipython(), "kernel")
tqdm = CellBar if in_notebook else original.tqdm

"""Cells without Jupyter: of a notebook's file, or of a page's examples, run as a kernel would run them.

    python -m tests.support.notebook FILE.ipynb|FILE.md

The real thing (nbclient, ipykernel and what they need) is 37 packages; cells are Python, and of IPython the
project uses `get_ipython` and `display`.
"""

import ast
import json
import re
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Cell:
    """What is shown in a cell, in order; an update replaces what has the same id."""

    def __init__(self) -> None:
        self.shown: list[dict[str, str]] = []
        self._ids: list[str | None] = []

    def display(
        self, bundle: dict[str, str], *, raw: bool, display_id: str | None = None, update: bool = False
    ) -> None:
        assert raw, "a bundle is shown as it is"
        if update:
            self.shown[self._ids.index(display_id)] = bundle
            return
        self.shown.append(bundle)
        self._ids.append(display_id)

    def taken(self) -> list[str]:
        """Returns the HTML of what is shown, and forgets it: the next cell begins."""
        found = [bundle["text/html"] for bundle in self.shown]
        self.shown, self._ids = [], []
        return found


@contextmanager
def in_a_cell(kernel: bool = True) -> Iterator[Cell]:
    """Makes this process look as if it ran a cell; without `kernel` as if it were a plain `ipython`."""
    cell = Cell()
    shell: Any = types.SimpleNamespace(events=types.SimpleNamespace(register=lambda *_: None))  # Ray asks
    if kernel:
        shell.kernel = object()
    ipython: Any = types.ModuleType("IPython")
    ipython.version_info = (9, 0)  # matplotlib asks
    ipython.get_ipython = lambda: shell
    ipython.display = types.SimpleNamespace(display=cell.display)
    before = sys.modules.get("IPython")
    sys.modules["IPython"] = ipython
    try:
        yield cell
    finally:
        del sys.modules["IPython"]
        if before is not None:
            sys.modules["IPython"] = before


def cells_of(path: Path) -> list[str]:
    """Returns the code of a notebook's cells, or of a page's examples in Python."""
    if path.suffix == ".md":
        return re.findall(r"^```python\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)
    cells = json.loads(path.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cell(source: str, names: dict[str, Any]) -> str | None:
    """Runs a cell; returns what its last expression shows: HTML if it has any, else text."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if not isinstance(last, ast.Expr):
        return None
    value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
    shown = getattr(value, "_repr_html_", lambda: None)()
    return repr(value) if shown is None and value is not None else shown


def main(path: Path) -> None:
    """Runs all cells; prints what each shows."""
    names: dict[str, Any] = {"__name__": "__main__"}
    with in_a_cell() as cell:
        for source in cells_of(path):
            shown = run_cell(source, names)
            for text in filter(None, [*cell.taken(), shown]):
                print(f"shown: {text}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""A notebook's cell without Jupyter: IPython's `get_ipython` and `display`, as a kernel has them."""

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch


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


@contextmanager
def in_a_cell(kernel: bool = True) -> Iterator[Cell]:
    """Makes this process look as if it ran a cell; without `kernel` as if it were a plain `ipython`."""
    cell = Cell()
    shell: Any = types.SimpleNamespace(kernel=object()) if kernel else types.SimpleNamespace()
    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    ipython.display = types.SimpleNamespace(display=cell.display)
    with patch.dict(sys.modules, {"IPython": ipython}):
        yield cell

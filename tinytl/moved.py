"""Dotted paths that README and docs named before the rooms: they work for one more release, with a warning.

Delete this file, and the three lines that use it, after version 0.2.
"""

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {
    "tinytl.checkpoint_function": ("tinytl.gradient_checkpoints.function", "CheckpointFunction"),
    "tinytl.checkpointing": ("tinytl.gradient_checkpoints.segment", "checkpoint_segment, CheckpointFunction"),
    "tinytl.flat_config": ("tinytl.config.flat", ""),
    "tinytl.group_norm": ("tinytl.networks.group_norm", "replace_bn_with_gn"),
    "tinytl.lite_residual": ("tinytl.networks.lite_residual", "LiteResidualModule, insert_lite_residual"),
    "tinytl.measure": ("tinytl.memory.measure", ""),
    "tinytl.paper_memory": ("tinytl.memory.paper", ""),
    "tinytl.planner": ("tinytl.config.plan", ""),
    "tinytl.trained": ("tinytl.runs.trained", ""),
}
"""Each removed module: where its content is, and which of its names `tinytl` itself offers."""

NAMES = {
    "tinytl.config": dict.fromkeys(("LrRatio", "TrainConfig"), "tinytl.config.train_config"),
    "tinytl.data": dict.fromkeys(("DataSplits", "ImageSet", "load_dataset"), "tinytl.data.load"),
    "tinytl.memory": {
        "max_batch_size": "tinytl.memory.largest_batch",
        "measure_memory": "tinytl.memory.measured_step",
        "predict_memories": "tinytl.memory.predict_many",
        **dict.fromkeys(("predict_memory", "resolve_plan"), "tinytl.memory.predict"),
    },
}
"""Each module that has become a room: the names that it offered, and where they are."""


def find_old_modules() -> None:
    """Makes `import tinytl.lite_residual` and the like find what has moved."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def names_moved_from(room: str) -> Callable[[str], Any]:
    """Returns a room's `__getattr__`, for the names that it offered when it was a module."""
    names = NAMES[room]

    def find(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        message = f"{room}.{name} has moved: {_import_of(names[name], name)}"
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        found = {known: getattr(importlib.import_module(new), known) for known, new in names.items()}
        vars(sys.modules[room]).update(found)  # one warning is enough
        return found[name]

    return find


def _import_of(new: str, name: str) -> str:
    return f"from {'tinytl' if name in sys.modules['tinytl'].__all__ else new} import {name}"


class _Finder(MetaPathFinder, Loader):
    """Asked last, for what no other finder has found."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        new, offered = MODULES[module.__name__]
        where = f"from tinytl import {offered}" if offered else f"import {new}"
        warnings.warn(f"{module.__name__} has moved: {where}", DeprecationWarning, stacklevel=2)
        content = vars(importlib.import_module(new))
        vars(module).update({name: value for name, value in content.items() if not name.startswith("__")})

"""Records when each process of a program reached which point, for `benchmarks.search.launch`.

Python imports a module of this name at its start if the folder is on PYTHONPATH: the program, and Ray's
workers, need no change. A line of TIMELINE (a file) is `[process, what, start, end]` in seconds of
`time.time()`; of an import or a function, only the first in a process counts.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

WATCHED = {
    "torch": (),
    "torchvision": (),
    "ray": (),
    "ray.tune": (),
    "optuna": (),
    "mlflow": (),
    "tuner.trial.trainable": (),
    "ray._private.worker": ("init",),
    "ray.tune.tuner": ("Tuner.fit",),
    "tinytl.data.load": ("load_dataset",),
    "tinytl.memory.predict": ("predict_memory",),
    "tinytl.runs.trainer": ("Trainer.__init__", "Trainer.train_epoch", "Trainer._step"),
    "tuner.cluster.start": ("Cluster.begin", "Cluster.dashboard_url"),
    "tuner.tracking.client": ("open_mlflow",),
    "tuner.study.prepare": ("prepare",),
    "tuner.study.run": ("run_study",),
    "tuner.study.searching": ("predict_first",),
    "tuner.study.ray_tune": ("run_trials",),
    "tuner.tracking.live": ("StudyTracking.__init__",),
}
"""Modules with a timed import, each with the functions with a timed first call; a missing name is skipped."""

_seen: set[str] = set()


def note(what: str, start: float, end: float) -> None:
    """Adds a line, once for each `what` of a process; the line is whole even if other processes write."""
    if what not in _seen:
        _seen.add(what)
        line = json.dumps([os.getpid(), what, start, end]) + "\n"
        file = os.open(os.environ["TIMELINE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, line.encode())
        os.close(file)


def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns `function`, with its first call noted; its start is noted at once, in case it is cut off."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        start = time.time()
        note(f"{name} starts", start, start)
        try:
            return function(*args, **kwargs)
        finally:
            note(name, start, time.time())

    return call


class Loader(importlib.abc.Loader):
    """Runs a module as its own loader does, and times that."""

    def __init__(self, own: importlib.abc.Loader, name: str) -> None:
        self.own, self.name = own, name

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """As the module's own loader."""
        return self.own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """As the module's own loader; then replaces its functions by timed ones."""
        start = time.time()
        self.own.exec_module(module)
        note(f"import {self.name}", start, time.time())
        for path in WATCHED[self.name]:
            *outer, last = path.split(".")
            holder: Any = module
            for part in outer:
                holder = getattr(holder, part, None)
            if hasattr(holder, last):
                setattr(holder, last, timed(path, getattr(holder, last)))


class Finder(importlib.abc.MetaPathFinder):
    """Finds what the other finders find, and times what WATCHED names."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Returns the spec of a watched module."""
        if name not in WATCHED:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = Loader(spec.loader, name)
                return spec
        return None


if "TIMELINE" in os.environ and Path(os.environ["TIMELINE"]).exists():
    sys.meta_path.insert(0, Finder())
    note("process " + " ".join(sys.orig_argv[1:3]), time.time(), time.time())

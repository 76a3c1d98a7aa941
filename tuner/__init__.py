"""The search: Optuna proposes, the memory model checks, Ray trains, MLflow records.

What a script or a notebook imports is here; everything else may move (docs/python.md):

    import tuner
    study = tuner.open_study("flowers")
    study.front[["trial", "accuracy_top1", "peak_memory_mib"]]
    study.best(under_mib=60).command
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinytl.errors import ConfigError
    from tuner.api.pair import Pair
    from tuner.api.study import Study, open_study

_HOMES = {
    "ConfigError": "tinytl.errors",
    "Pair": "tuner.api.pair",
    "Study": "tuner.api.study",
    "open_study": "tuner.api.study",
}
__all__ = ["ConfigError", "Pair", "Study", "open_study"]


def __getattr__(name: str) -> object:
    """Imports what is asked for, when it is asked for: `import tuner` itself is free."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tuner' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

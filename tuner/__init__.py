"""The search: Optuna proposes, the memory model checks, Ray trains, MLflow records.

What a script or a notebook imports is here; everything else may move (docs/python.md):

    import tuner
    study = tuner.run(dataset="imagefolder", data_dir="flowers", trials=24, name="flowers")
    study = tuner.open_study("flowers")
    study.front[["trial", "accuracy_top1", "peak_memory_mib"]]
    study.best(under_mib=60).command
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinytl.errors import ConfigError
    from tuner.api.comparison import StudyComparison, compare
    from tuner.api.pair import Pair
    from tuner.api.run import run
    from tuner.api.study import Study, open_study

_HOMES = {
    "ConfigError": "tinytl.errors",
    "Pair": "tuner.api.pair",
    "Study": "tuner.api.study",
    "StudyComparison": "tuner.api.comparison",
    "compare": "tuner.api.comparison",
    "open_study": "tuner.api.study",
    "run": "tuner.api.run",
}
__all__ = ["ConfigError", "Pair", "Study", "StudyComparison", "compare", "open_study", "run"]


def __getattr__(name: str) -> object:
    """Imports what is asked for, when it is asked for: `import tuner` itself is free."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tuner' has no attribute {name!r}")
    import warnings
    from importlib import import_module

    with warnings.catch_warnings():  # in a notebook, Optuna's import asks for widgets that nothing here uses
        warnings.filterwarnings("ignore", message="IProgress not found")
        return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

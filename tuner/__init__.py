"""The search: Optuna proposes, the memory model checks, Ray trains, MLflow records.

What a notebook imports is here; everything else may move:

    import tuner
    study = tuner.open_study("flowers")
    study.best.accuracy_top1, study.best.peak_memory_mib, study.best.params
    pandas.DataFrame(study.rows())
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuner.record.reading import StudyReading, open_study
    from tuner.record.trials import Trial

__all__ = ["StudyReading", "Trial", "open_study"]

_HOMES = {
    "StudyReading": "tuner.record.reading",
    "Trial": "tuner.record.trials",
    "open_study": "tuner.record.reading",
}


def __getattr__(name: str) -> object:
    """Imports what is asked for, when it is asked for: `import tuner` itself is free."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tuner' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""What Ray, Optuna and MLflow log: nothing, unless `--verbose` asks for it."""

import logging

LIBRARIES = ("ray", "ray.widgets.util", "mlflow", "optuna", "alembic", "urllib3.connectionpool")
"""Ray's widgets speak while Ray is imported, which sets up the logger above theirs."""

_verbose = False


def set_verbose(verbose: bool) -> None:
    """Decides what `apply_verbosity` does, from now on."""
    global _verbose
    _verbose = verbose


def is_verbose() -> bool:
    """Whether the libraries may log."""
    return _verbose


def apply_verbosity() -> None:
    """Silences the libraries' loggers, or lets them log. Call it after an import that sets them up."""
    for name in LIBRARIES:
        logging.getLogger(name).setLevel(logging.INFO if _verbose else logging.CRITICAL)

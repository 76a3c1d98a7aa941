"""Whether the search's packages are installed: `pip install tinytl-tuner` alone installs training only."""

from importlib.util import find_spec

from tinytl.errors import ConfigError

PACKAGES = ("ray", "optuna", "mlflow")


def check_installed() -> None:
    """Looks for the packages, and imports none.

    Raises:
        ConfigError: naming those that are missing, and the command that installs them.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ConfigError(f"the search needs {', '.join(missing)}: pip install 'tinytl-tuner[tuner]'")

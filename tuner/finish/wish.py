"""What `tuner finish` is asked for."""

import math
from dataclasses import dataclass

from tinytl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The flags of a call."""

    trial: str | None = None
    """None: the best."""
    under_mib: float | None = None
    """None: the study's own budget."""
    epochs: int | None = None
    """None: as many as are found to be worth it."""
    time_budget_s: float | None = None
    """Seconds after which no further length is tried; None: all that are worth it."""
    val_too: bool = False
    """Whether the model trains on validation images, too."""
    replace: bool = False
    """Whether a model that is there makes way for another."""
    register: str | None = None
    """A name in MLflow's registry of models."""
    tracking_uri: str | None = None
    """None: where the study is recorded."""

    def __post_init__(self) -> None:
        """Raises ConfigError for flags that contradict each other, or a time that is none."""
        budget_s = self.time_budget_s
        if budget_s is None:
            return
        if not (budget_s > 0 and math.isfinite(budget_s)):
            raise ConfigError(f"--time-budget {budget_s:g}: must be a number above 0")
        if self.epochs is not None:
            raise ConfigError(
                "--time-budget says how long to look for the best number of epochs, and --epochs names it: "
                "leave one of them out"
            )

"""What `tuner finish` is asked for."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Wish:
    """The flags of a call."""

    trial: str | None = None
    """None: the best."""
    under_mib: float | None = None
    """None: the study's own budget."""
    epochs: int | None = None
    """None: as many as are found to be worth it."""
    val_too: bool = False
    """Whether the model trains on validation images, too."""
    replace: bool = False
    """Whether a model that is there makes way for another."""
    register: str | None = None
    """A name in MLflow's registry of models."""
    tracking_uri: str | None = None
    """None: where the study is recorded."""

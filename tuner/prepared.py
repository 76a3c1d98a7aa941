"""A study that has passed its checks, and what it tries first. Imports neither torch nor ray."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search_spaces.space import SearchSpace
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits
from tuner.config import StudyConfig

if TYPE_CHECKING:
    from tinytl.networks.backbones.weights import Weights


@dataclass(frozen=True)
class StartingPoint:
    """Searched values of one configuration, and where it came from (the same text each time)."""

    params: Mapping[str, Any]
    source: str


@dataclass(frozen=True)
class PreparedStudy:
    """A study that has passed its checks."""

    config: StudyConfig
    name: str
    space: SearchSpace
    base: TrainConfig
    """What all trials share, number of classes included."""
    data: DataSplits
    weights: Mapping[str, "Weights"]
    """What each backbone of the space starts from."""
    searches_memory: bool
    """Whether peak memory is an objective; False if it is the same for every configuration."""
    starting_points: tuple[StartingPoint, ...] = ()
    """The given configurations, which are tried first."""
    notes: tuple[str, ...] = ()
    """What the user should know before it starts."""

    @property
    def folder(self) -> Path:
        """The study's own folder."""
        return folder_of(self.config, self.name)


def folder_of(config: StudyConfig, name: str) -> Path:
    """Returns the folder of a study of that name."""
    return (Path(config.runs_dir) / name).resolve()

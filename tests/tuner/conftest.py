"""What tests of studies that train share: colours to tell apart, and trials trained on them."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.cases import settled, tinted_images
from tests.support.s3_server import S3Server, s3_server
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import DataSplits
from tinytl.runs.progress import PlainProgress
from tinytl.runs.run import train_loaded
from tuner.record.trials import Trial


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server with an empty bucket."""
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


@pytest.fixture(scope="session")
def colors() -> DataSplits:
    """Three classes; 12 images to train on, 9 to validate, 9 to test."""
    train, val, test = tinted_images(12, 0), tinted_images(9, 1), tinted_images(9, 2)
    return DataSplits("colors", ("red", "green", "blue"), train, val, test, crop_scale_min=0.5, flip=True)


@pytest.fixture
def make_trial(colors: DataSplits, tmp_path: Path) -> Callable[..., Trial]:
    """Trains a trial of a study in `tmp_path`, in its own folder."""

    def make(name: str, **changes: object) -> Trial:
        return dataclasses.replace(train_trial(tmp_path / name, colors, **changes), name=name)

    return make


def train_trial(folder: Path, colors: DataSplits, **changes: object) -> Trial:
    """Trains a trial in a folder of its name, without test images, as a search does."""
    config = trial_config(**changes)
    silent = PlainProgress(lambda line: None)
    found = train_loaded(config, dataclasses.replace(colors, test=None), None, folder, silent)
    return Trial(
        name=folder.name,
        accuracy_top1=found["val_accuracy_top1"],
        balanced_accuracy=found["balanced_accuracy"],
        macro_f1=found["macro_f1"],
        peak_memory_mib=found["predicted_peak_mib"],
        epoch_time_s=1.0,
        params={"method": config.method},
    )


def trial_config(**changes: object) -> TrainConfig:
    """A configuration as a trial's `config.yaml` has it: with classes, and its plan settled."""
    return settled(**{"method": "FT-Last", "epochs": 2} | changes)

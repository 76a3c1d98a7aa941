"""The pictures of a study's data set, if they are still there and still the same.

No image is decoded to list them; a digest of the files' names and sizes, and of the bytes of some, says
whether they are those of the study. Imports neither torch nor ray.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinytl.config.train_config import TrainConfig
from tinytl.data.named_pictures import NamedPictures, as_judged, named_parts, without_broken_files
from tinytl.data.sets.digest import content_digest
from tinytl.data.splits import DataSplits
from tinytl.errors import ConfigError
from tinytl.runs.directory import RunDirectory, read_config_file
from tinytl.training.judgements import Judgements
from tuner.record import schema
from tuner.record.class_counts import read_class_counts
from tuner.record.reading import StudyReading


@dataclass(frozen=True, kw_only=True)
class StudyPictures:
    """The pictures of a study, by split."""

    config: TrainConfig
    """Of a trial: which data set, from where, without which pictures."""
    classes: tuple[str, ...]
    parts: Mapping[str, NamedPictures]

    def judged(self, labels: npt.NDArray[np.int64]) -> NamedPictures:
        """Returns the validation pictures in the order in which they were judged; their labels are known.

        Raises:
            ConfigError: if the labels are others.
        """
        return as_judged(self.parts["val"], labels, self.config)


def study_pictures(study: StudyReading) -> StudyPictures:
    """Returns the pictures of a study.

    Reads the names of all files, and the bytes of 1,024 per split. If the study was to skip files that do not
    decode, and there seem to be some, every file is decoded.

    Raises:
        ConfigError: if they are gone or have changed, or if no trial's folder says which they were.
    """
    config = _config_of(study)
    data, parts = named_parts(config)
    was = study.attributes.get(schema.IMAGES_DIGEST)
    now = None if was is None else _digest(data, config)
    if now != was and config.skip_broken:
        data, parts = without_broken_files(data, parts, config)
        now = _digest(data, config)
    if now != was:
        place = config.data_dir or config.dataset
        raise ConfigError(
            f"{place}: the pictures have changed since the study (digest {was} then, {now} now)"
        )
    return StudyPictures(config=config, classes=data.classes, parts=parts)


def known_classes(study: StudyReading, found: Judgements) -> tuple[str, ...]:
    """Returns the names of a study's classes without its data set; numbers, if nothing has kept them.

    `found`: what a trial said, so as many names at least.
    """
    highest = int(max(found.labels.max(), found.predicted.max()))
    n_classes = max(int(study.attributes.get(schema.CLASSES, 0)), highest + 1)
    with suppress(ConfigError):  # a damaged file must not hide what went wrong
        kept = read_class_counts(study.folder)
        if kept is not None and len(kept.names) >= n_classes:
            return tuple(kept.names)
    return tuple(f"class {number}" for number in range(n_classes))


def _digest(data: DataSplits, config: TrainConfig) -> str:
    try:
        return content_digest(data)
    except OSError as error:  # a file went after it was listed, or may not be read
        place = config.data_dir or config.dataset
        raise ConfigError(f"{place}: {error.filename}: {error.strerror}") from None


def _config_of(study: StudyReading) -> TrainConfig:
    # The newest first: a study that was resumed elsewhere has its data there.
    files = [RunDirectory(study.folder / trial.name).config_file for trial in reversed(study.complete)]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise ConfigError("no folder of a complete trial holds a config.yaml, which names the data set")
    return read_config_file(file)

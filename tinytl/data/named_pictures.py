"""Pictures of a split by row, with the names that lists and tables have for them. Works without torch."""

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinytl.config.train_config import TrainConfig
from tinytl.data.excluded import Names, names_of, read_excluded
from tinytl.data.load import list_dataset
from tinytl.data.pictures import BrokenPicture, decode_whole
from tinytl.data.sets.listing import without_broken
from tinytl.data.splits import DataSplits, ImageFiles, Split, parts_of, with_parts
from tinytl.errors import ConfigError


@dataclass(frozen=True)
class NamedPictures:
    """The pictures of a split, as they are stored: neither cut nor made smaller."""

    part: Split
    names: Names
    """`(N,)`: as in a list of pictures to exclude, relative to the data folder (`tinytl.data.excluded`)."""

    def __len__(self) -> int:
        return len(self.part)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """`(N,)`, numbers of classes."""
        return self.part.labels

    def file(self, row: int) -> str:
        """Returns a picture's name."""
        return os.fsdecode(bytes(self.names[row]))

    def picture(self, row: int, at_least: int | None = None) -> Image.Image | BrokenPicture:
        """Decodes a picture, see `decode_whole`."""
        if isinstance(self.part, ImageFiles):
            return decode_whole(self.part.path(row), at_least)
        return Image.fromarray(self.part.images[row])


def named_parts(
    config: TrainConfig, known: Collection[str] = (), report: Callable[[str], None] = lambda line: None
) -> tuple[DataSplits, dict[str, NamedPictures]]:
    """Returns the splits of `config` as listed, and the pictures of each split that there is, by its name.

    Decodes no file. A picture of arrays keeps the number that it has if none is left out. `known`, `report`:
    as in `list_dataset`.

    Raises:
        ConfigError: as `list_dataset`.
    """
    data = list_dataset(config, report=report, known=known)
    with_all = dataclasses.replace(config, exclude=None, min_per_class=0)
    whole = data if with_all == config else list_dataset(with_all)
    excluded = [] if config.exclude is None else list(read_excluded(config))
    listed, stays = np.array(excluded, dtype=np.bytes_), np.isin(whole.classes, data.classes)
    names = {}
    for name, part in parts_of(whole).items():
        own = names_of(name, part, config.data_dir)
        names[name] = own[stays[part.labels] & ~np.isin(own, listed)]
    return data, {name: NamedPictures(part, names[name]) for name, part in parts_of(data).items()}


def without_broken_files(
    data: DataSplits, named: Mapping[str, NamedPictures], config: TrainConfig
) -> tuple[DataSplits, dict[str, NamedPictures]]:
    """Returns what `named_parts` returned, without the files that do not decode. Decodes every file.

    Raises:
        ConfigError: naming those that do not, unless `config.skip_broken`.
    """
    whole = {name: _decodable(pictures, config) for name, pictures in named.items()}
    return with_parts(data, {name: pictures.part for name, pictures in whole.items()}), whole


def _decodable(pictures: NamedPictures, config: TrainConfig) -> NamedPictures:
    if not isinstance(pictures.part, ImageFiles):
        return pictures
    whole = without_broken(pictures.part, config)
    return NamedPictures(whole, pictures.names[np.isin(pictures.part.names, whole.names)])


def as_judged(pictures: NamedPictures, labels: npt.NDArray[np.int64], config: TrainConfig) -> NamedPictures:
    """Returns the pictures that a network of `config` judged, whose labels, `(N,)`, are known, in its order.

    If there are fewer labels, and the network was to skip files that do not decode, every file is decoded.

    Raises:
        ConfigError: if the labels are others: pictures have come, gone, or moved to another class.
    """
    found = pictures
    if len(labels) < len(pictures) and config.skip_broken:
        found = _decodable(pictures, config)
    if not np.array_equal(found.labels, labels):
        place = config.data_dir or config.dataset
        raise ConfigError(
            f"{place}: the pictures have changed since they were judged ({len(labels):,} then, "
            f"{len(found):,} now, or other classes): their names would be wrong"
        )
    return found

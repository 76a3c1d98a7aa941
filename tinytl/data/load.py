"""Data sets by name: checked cheaply, downloaded if asked for, loaded. Works without torch.

Each set has a file under `tinytl/data/sets/` with what it is and where it comes from.
"""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from tinytl.config.train_config import TrainConfig
from tinytl.data.excluded import check_enough_left, read_excluded, without_excluded, without_listed
from tinytl.data.sets import NAMED_SETS
from tinytl.data.sets.digest import content_digest
from tinytl.data.sets.digits import load_digits
from tinytl.data.sets.imagefolder import list_imagefolder, list_whole, load_imagefolder
from tinytl.data.sets.listing import in_memory_or_streamed, stored_side, without_broken
from tinytl.data.sets.named_set import NamedSet
from tinytl.data.small_classes import without_small_classes
from tinytl.data.splits import DataSplits, ImageFiles, ImageSet, Split, in_words, parts_of, stratified_split
from tinytl.errors import ConfigError
from tinytl.plural import counted

__all__ = [
    "DataSplits",
    "ImageFiles",
    "ImageSet",
    "Split",
    "check_data_dir",
    "download_dataset",
    "load_dataset",
    "load_whole_folder",
    "stratified_split",
]


def load_dataset(
    config: TrainConfig,
    max_resolution: int | None = None,
    report: Callable[[str], None] = lambda line: None,
    notice: Callable[[str], None] = lambda line: None,
    known: Collection[str] = (),
) -> DataSplits:
    """Loads the data set of `config` for inputs up to `max_resolution` pixels, unpacking its archives.

    `report` is called with a line before an archive is unpacked, `notice` before images are read. `known`:
    classes that `config.min_per_class` does not leave out, as a network has learned them.

    Raises:
        ConfigError: for a folder or archive that is missing, damaged or not the published one; for an image
            that does not decode, naming it; for another `num_classes` than the data set's; for a list of
            pictures to exclude that does not fit.
    """
    splits = list_dataset(config, max_resolution, report, known=known)
    if config.num_classes not in (None, len(splits.classes)):
        raise ConfigError(
            f"num_classes={config.num_classes}, but {splits.name} has {len(splits.classes)} classes: "
            "leave num_classes unset"
        )
    files = [part for part in (splits.train, splits.val, splits.test) if isinstance(part, ImageFiles)]
    if files:
        notice(f"reading {counted(sum(map(len, files)), 'image')}")
    loaded, as_files = in_memory_or_streamed(splits, config)
    return dataclasses.replace(loaded, digest=content_digest(as_files))


def list_dataset(
    config: TrainConfig,
    max_resolution: int | None = None,
    report: Callable[[str], None] = lambda line: None,
    *,
    known: Collection[str] = (),
) -> DataSplits:
    """Returns the splits that `load_dataset` would, before a file is decoded, and without their digest.

    Raises:
        ConfigError: as `load_dataset`, but not for what decoding finds.
    """
    side = stored_side(max_resolution or config.resolution)
    if config.dataset == "digits":
        splits = load_digits()
    elif config.dataset == "imagefolder":
        splits = load_imagefolder(config.data_dir, side)
    else:
        named = NAMED_SETS[config.dataset]
        splits = named.load(_folder_of(named, config), side, report)
    left = without_small_classes(without_excluded(splits, config), config.min_per_class, known)
    check_enough_left(left, config)
    return left if left is splits else _with_what_is_left(left)


def _with_what_is_left(splits: DataSplits) -> DataSplits:
    """Returns `splits` whose account ends with what is left of it."""
    left = f"{counted(len(splits.classes), 'class', 'classes')}, {in_words(parts_of(splits))}"
    return dataclasses.replace(splits, account=f"{splits.account}; this leaves {left}")


def load_whole_folder(config: TrainConfig, classes: Sequence[str]) -> ImageFiles | None:
    """Lists all images of the folder of classes `config.data_dir`, for a network that knows `classes`.

    Returns None for a published set, and for a folder that has splits. Classes that the network does not
    know are left out if they have fewer than `config.min_per_class` images.

    Raises:
        ConfigError: for a folder that is missing, or has a class that is none of `classes`; for images that
            do not decode, without `config.skip_broken`.
    """
    if config.dataset != "imagefolder" or config.data_dir is None:
        return None
    files = list_whole(config.data_dir, classes, stored_side(config.resolution), config.min_per_class)
    if files is not None and config.exclude is not None:
        kept, _ = without_listed({"all": files}, config, config.data_dir)
        left = kept["all"]
        assert isinstance(left, ImageFiles)
        files = left
    return None if files is None else without_broken(files, config)


def check_data_dir(config: TrainConfig) -> None:
    """Raises ConfigError if the data set's folder, or the list of pictures to exclude, cannot be right.

    Decodes no image.
    """
    if config.dataset == "imagefolder":
        list_imagefolder(config.data_dir, side=1)
    elif config.dataset != "digits":
        named = NAMED_SETS[config.dataset]
        named.check(_folder_of(named, config))
    elif config.data_dir is not None:
        raise ConfigError(
            f"--data-dir {config.data_dir} is not used by dataset {config.dataset}: "
            "add --dataset imagefolder for images of your own"
        )
    if config.exclude is not None:
        read_excluded(config)


def download_dataset(config: TrainConfig, report: Callable[[str], None] = print) -> None:
    """Downloads the archives of `config.dataset` into `config.data_dir`, which is created if missing.

    Files that are there already are left unchanged.

    Raises:
        ConfigError: for a set that cannot be downloaded, a connection that fails, or a wrong checksum.
    """
    named = NAMED_SETS.get(config.dataset)
    if named is None:
        raise ConfigError(f"--download: there is nothing to fetch for dataset {config.dataset}: leave it out")
    if config.data_dir is None:
        raise ConfigError(f"--download needs --data-dir, the folder to put {named.title} in")
    folder = Path(config.data_dir).expanduser()
    if named.is_there(folder):
        return
    if not named.downloads:
        raise ConfigError(f"--download: {named.title} cannot be fetched: {named.how_to_get}")
    for download in named.downloads:
        download.fetch(folder, report)


def _folder_of(named: NamedSet, config: TrainConfig) -> Path:
    if config.data_dir is None:
        raise ConfigError(
            f"dataset {named.name} needs --data-dir, a folder with {named.contents}; {named.how_to_get}"
        )
    folder = Path(config.data_dir).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"--data-dir {config.data_dir}: no such folder; {named.how_to_get}")
    return folder

"""The names of data sets, and other spellings of them. Imports nothing heavy."""

from collections.abc import Mapping

from tinytl.errors import choose

DATASETS = ("digits", "imagefolder", "cifar10", "cifar100", "cub200", "cars", "food101", "imagenet")
DATASET_ALIASES: Mapping[str, str] = {
    "cub2002011": "cub200",
    "cub": "cub200",
    "stanfordcars": "cars",
    "car196": "cars",
    "cars196": "cars",
    "imagenet1k": "imagenet",
    "ilsvrc2012": "imagenet",
}
"""Other spellings of data sets, in small letters and digits alone; `CIFAR-10` needs no entry."""


def dataset_name(given: str) -> str:
    """Returns the data set that `given` means, in any spelling. Raises ConfigError for an unknown one."""
    plain = "".join(letter for letter in str(given).lower() if letter.isalnum())
    return choose("dataset", DATASET_ALIASES.get(plain, plain if plain in DATASETS else given), DATASETS)

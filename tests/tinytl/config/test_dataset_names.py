import pytest

from tinytl.config.dataset_names import DATASET_ALIASES, DATASETS, dataset_name
from tinytl.data.sets import NAMED_SETS
from tinytl.errors import ConfigError


def test_each_name_can_be_loaded() -> None:
    assert set(DATASETS) == {"digits", "imagefolder", *NAMED_SETS}


def test_each_other_spelling_is_plain_and_leads_to_a_name() -> None:
    for alias, name in DATASET_ALIASES.items():
        assert alias == "".join(filter(str.isalnum, alias.lower())), f"{alias} would never be found"
        assert alias not in DATASETS
        assert dataset_name(alias) == name


@pytest.mark.parametrize(
    ("given", "name"),
    [
        (" Food-101 ", "food101"),
        ("ImageNet_1k", "imagenet"),
        ("CUB-200-2011", "cub200"),
        ("DIGITS", "digits"),
        ("CAR196", "cars"),
    ],
)
def test_case_dashes_and_blanks_do_not_count(given: str, name: str) -> None:
    assert dataset_name(given) == name


def test_an_unknown_one_is_shown_as_it_was_given() -> None:
    with pytest.raises(ConfigError, match=r"^unknown dataset 'Flowers-102': known: digits, imagefolder, "):
        dataset_name("Flowers-102")
    with pytest.raises(ConfigError, match=r"^unknown dataset 'cifar-11': did you mean 'cifar1"):
        dataset_name("cifar-11")

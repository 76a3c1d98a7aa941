import pytest

from tinytl.errors import ConfigError, NonFiniteLossError, choose, nearest


def test_choose_ignores_case() -> None:
    assert choose("method", "tinytl-l+b", ("FT-Last", "TinyTL-L+B")) == "TinyTL-L+B"


def test_choose_names_the_near_match_and_all_known() -> None:
    with pytest.raises(ConfigError) as caught:
        choose("norm", "batchnorm", ("batch_norm", "frozen_bn"))
    assert str(caught.value) == (
        "unknown norm 'batchnorm': did you mean 'batch_norm'? known: batch_norm, frozen_bn"
    )


def test_choose_without_a_near_match_gives_no_hint() -> None:
    with pytest.raises(ConfigError, match=r"^unknown norm 'xyz': known: batch_norm$"):
        choose("norm", "xyz", ["batch_norm"])


def test_a_user_mistake_is_a_value_error_and_divergence_is_not() -> None:
    assert issubclass(ConfigError, ValueError)
    assert not issubclass(NonFiniteLossError, ValueError)


def test_the_nearest_name_is_none_if_nothing_is_alike() -> None:
    assert nearest("TINYTL-LB", ["FT-Last", "TinyTL-L+B"]) == "TinyTL-L+B"
    assert nearest("xyz", ["FT-Last"]) is None
    assert nearest("lora", ["low"]) == "low" and nearest("lora", ["low"], cutoff=0.8) is None

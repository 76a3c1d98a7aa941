import pytest

from tinytl.config.flat import config_from_flat, flat_from_config
from tinytl.config.method_aliases import METHOD_ALIASES, alias_note, expand_method, own_name
from tinytl.config.names import METHODS
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "method"),
    [
        ("feature-extractor", "FT-Last"),
        ("finetune", "FT-Full"),
        ("norm+last", "FT-Norm+Last"),
        ("bias", "TinyTL-B"),
        ("low", "Last-5"),
        ("Low", "Last-5"),
        ("deep", "FT-Full"),
        ("ft-full", "FT-Full"),
    ],
)
def test_a_configuration_holds_the_method_s_own_name(given: str, method: str) -> None:
    config = config_from_flat({"method": given})
    assert config.method == method
    assert config_from_flat(flat_from_config(config)) == config
    assert config.lr_ratio == (LrRatio(late=0.6, early=0.4) if given == "deep" else LrRatio())


def test_every_alias_stands_for_a_configuration() -> None:
    for name, fields in METHOD_ALIASES.items():
        assert name not in METHODS
        assert config_from_flat(fields) == config_from_flat({"method": name})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"lr_ratio.late": 0.8}, LrRatio(late=0.8, early=0.4)),
        ({"lr_ratio.late": 1.0, "lr_ratio.early": 1.0}, LrRatio()),
        ({"lr_ratio.classifier": 2.0}, LrRatio(classifier=2.0, late=0.6, early=0.4)),
    ],
)
def test_ratios_that_are_given_stay(given: dict[str, float], expected: LrRatio) -> None:
    assert config_from_flat({"method": "deep"} | given).lr_ratio == expected
    assert config_from_flat(given | {"method": "deep"}).lr_ratio == expected


def test_without_a_method_nothing_is_expanded() -> None:
    base = TrainConfig(method="FT-Last")
    assert config_from_flat({"seed": 3}, base).method == "FT-Last"
    assert expand_method({"seed": 3}) == {"seed": 3}


@pytest.mark.parametrize(
    ("given", "hint", "known"),
    [
        ("finetun", "did you mean 'finetune'? ", (*METHODS, *METHOD_ALIASES)),
        ("lora", "", METHODS),
        ("TinyLT-B", "did you mean 'TinyTL-B'? ", METHODS),
    ],
)
def test_an_unknown_method_is_told_with_the_methods_own_names(
    given: str, hint: str, known: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_flat({"method": given})
    assert str(caught.value) == f"unknown method {given!r}: {hint}known: {', '.join(known)}"


def test_an_alias_of_a_method_alone_is_its_own_name() -> None:
    assert [own_name(name) for name in ("Finetune", "ft-full", "deep")] == ["FT-Full", "FT-Full", "deep"]


def test_what_an_alias_stands_for_is_a_sentence() -> None:
    assert alias_note("FT-Full") is None
    assert alias_note("scratch") is None
    assert alias_note("bias") == "method bias stands for TinyTL-B"
    assert alias_note("deep") == (
        "method deep stands for FT-Full with lr_ratio.late=0.6 and lr_ratio.early=0.4, if these are not given"
    )

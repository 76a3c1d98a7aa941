import dataclasses

import pytest

from tests.support.cases import ALL_CASES
from tinytl.config.flat import config_from_flat, field_names, flat_from_config, with_defaults
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.errors import ConfigError


@pytest.mark.parametrize("config", ALL_CASES.values(), ids=ALL_CASES)
def test_flat_round_trip(config: TrainConfig) -> None:
    assert config_from_flat(flat_from_config(config)) == config


def test_flat_dict_replaces_only_what_it_names() -> None:
    base = TrainConfig(method="FT-Full", lr_ratio=LrRatio(late=0.6), seed=3)
    config = config_from_flat({"lr_ratio.early": 0.4, "input_mean": [0.1, 0.2, 0.3]}, base)
    assert config == dataclasses.replace(
        base, lr_ratio=LrRatio(late=0.6, early=0.4), input_mean=(0.1, 0.2, 0.3)
    )


def test_flat_dict_takes_the_command_line_s_name() -> None:
    assert config_from_flat({"lite_kernel_size": 5}).kernel_size == 5


@pytest.mark.parametrize(("key", "near"), [("batchsize", "batch_size"), ("lr_ratio.lat", "lr_ratio.late")])
def test_flat_dict_refuses_an_unknown_key(key: str, near: str) -> None:
    with pytest.raises(ConfigError, match=f"^unknown parameter '{key}': did you mean '{near}'"):
        config_from_flat({key: 1})


def test_another_method_drops_what_sparse_alone_has() -> None:
    base = TrainConfig(method="Sparse", update_blocks=3, select="fisher", update_scheme="12.pw1")
    assert config_from_flat({"method": "TinyTL-B"}, base) == TrainConfig(method="TinyTL-B")
    for kept in ({"base_lr": 1.0}, {"resolution": 224}, {"update_blocks": 2, "update_scheme": "12.pw1"}):
        assert config_from_flat(kept, base).update_scheme == "12.pw1"
    budget = {"plan": "budget", "budget_mib": 20.0}
    for anew in ({"update_blocks": 2}, {"select": "last"}, {"backbone": "mobilenet_v2"}, budget):
        assert config_from_flat(anew, base).update_scheme is None


def test_field_names_are_the_flat_dict_s_keys() -> None:
    assert field_names() == list(flat_from_config(TrainConfig()))
    assert "lr_ratio" not in field_names()
    ratios = [f"lr_ratio.{f.name}" for f in dataclasses.fields(LrRatio)]
    assert field_names()[-len(ratios) :] == ratios


def test_what_an_older_version_wrote_is_filled_with_defaults() -> None:
    flat = flat_from_config(TrainConfig(moments="int8", lr_ratio=LrRatio(bias=0.6)))
    older = {k: v for k, v in flat.items() if k not in ("update_layers", "lr_ratio.weight", "data_seed")}
    assert with_defaults(older) == flat
    assert with_defaults({}) == flat_from_config(TrainConfig())


@pytest.mark.parametrize("name", ["checkpoint", "weights"])
def test_nothing_in_yaml_is_none(name: str) -> None:
    assert getattr(config_from_flat({name: None}), name) == "none"


def test_what_belonged_to_a_replaced_field_goes_with_it() -> None:
    base = TrainConfig(dataset="imagefolder", data_dir="/mine")
    assert config_from_flat({"dataset": "digits"}, base).data_dir is None
    assert config_from_flat({"dataset": "ImageFolder", "seed": 1}, base).data_dir == "/mine"
    assert config_from_flat({"dataset": "cifar10", "data_dir": "/cifar"}, base).data_dir == "/cifar"
    scratch = TrainConfig(method="Scratch", norm="group_norm")
    assert config_from_flat({"method": "FT-Last"}, scratch).weights == "imagenet"
    assert config_from_flat({"seed": 1}, scratch).weights == "none"

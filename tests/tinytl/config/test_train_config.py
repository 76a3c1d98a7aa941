import dataclasses
from typing import Any

import pytest

from tinytl.config.flat import config_from_flat, flat_from_config
from tinytl.config.names import (
    LITE_METHODS,
    METHOD_GROUPS,
    RANDOM_BRANCHES_LR_RATIO,
)
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.errors import ConfigError


@pytest.mark.parametrize("group", [f.name for f in dataclasses.fields(LrRatio)])
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), True])
def test_bad_ratios_name_their_group(group: str, bad: float) -> None:
    with pytest.raises(ConfigError, match=f"^lr_ratio.{group}={bad:g}" if bad != 1 else "=True"):
        LrRatio(**{group: bad})


@pytest.mark.parametrize(
    ("fields", "ratio"),
    [
        ({}, RANDOM_BRANCHES_LR_RATIO),
        ({"optimizer": "adamw"}, RANDOM_BRANCHES_LR_RATIO),
        ({"optimizer": "sgd"}, 1.0),
        ({"lite_weights": "lite.pt"}, 1.0),
        ({"lite_weights": "lite.pt", "lr_ratio": LrRatio(lite_residual=3.0)}, 3.0),
        ({"lr_ratio": LrRatio(lite_residual=1.0)}, 1.0),
    ],
)
@pytest.mark.parametrize("method", LITE_METHODS)
def test_branches_that_start_at_random_have_a_higher_rate(
    fields: dict[str, Any], ratio: float, method: str
) -> None:
    config = TrainConfig(method=method, **fields)
    assert config.filled_lr_ratio == dataclasses.replace(config.lr_ratio, lite_residual=ratio)
    assert config_from_flat(flat_from_config(config)) == config


def test_a_ratio_of_lite_residuals_means_what_it_trains() -> None:
    assert TrainConfig(method="TinyTL-L").lite_ratio(None) == RANDOM_BRANCHES_LR_RATIO
    assert TrainConfig(method="TinyTL-L", optimizer="sgd").lite_ratio(None) == 1.0
    assert TrainConfig(method="TinyTL-L").lite_ratio(1.0) == 1.0
    assert TrainConfig(method="TinyTL-B").lite_ratio(None) is None
    assert TrainConfig(method="TinyTL-B").lite_ratio(1.0) is None


def test_a_ratio_without_its_group_is_refused() -> None:
    TrainConfig(method="FT-Last", lr_ratio=LrRatio(lite_residual=None))
    with pytest.raises(ConfigError, match=r"lr_ratio\.lite_residual=16 has no effect"):
        TrainConfig(method="FT-Last", lr_ratio=LrRatio(lite_residual=16.0))


@pytest.mark.parametrize(
    "fields",
    [
        {"num_classes": 2, "resolution": 32, "n_groups": 1, "kernel_size": 1, "seed": 0, "epochs": 1},
        {"label_smoothing": 0.0, "dropout": 0, "weight_decay": 0, "crop_scale_min": 1.0, "flip": False},
        {"micro_batch_size": 8, "norm": "batch_norm"},
        {"batch_size": 1, "norm": "frozen_bn", "micro_batch_size": 1},
        {"batch_size": 1, "norm": "batch_norm", "resolution": 128},
        {"batch_size": 1, "norm": "batch_norm", "resolution": 64, "method": "FT-Full"},
        {"downsample_ratio": None, "input_mean": (-0.1, 0.0, 1.0)},
        {"plan": "budget", "budget_mib": 0.5, "stock_below_kib": 0.0},
        {"checkpoint": "depthwise", "engine": "lean"},
        {"checkpoint": "all", "engine": "stock", "plan": "smallest"},
    ],
)
def test_values_at_their_limits_are_accepted(fields: dict[str, Any]) -> None:
    config = TrainConfig(**fields)
    assert {name: getattr(config, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"method": "FT-Full", "resolution": 32}, True),
        ({"method": "FT-Full", "resolution": 33}, False),
        ({"method": "TinyTL-L", "resolution": 96}, True),  # a map of 3 pixels, pooled to 1
        ({"method": "TinyTL-L", "resolution": 97}, False),
        ({"method": "TinyTL-L", "resolution": 97, "downsample_ratio": None}, True),
        # The reference counts 8 pixels at the end of every image, and pools them by 8 to one, which is whole.
        ({"method": "TinyTL-L", "resolution": 1024, "downsample_ratio": 8}, False),
        (
            {
                "method": "TinyTL-L",
                "resolution": 1024,
                "downsample_ratio": 8,
                "kernel_clipping": "reference",
            },
            True,
        ),
        ({"method": "Last-3", "resolution": 97, "downsample_ratio": None}, False),
    ],
)
def test_pools_to_one_pixel(fields: dict[str, Any], expected: bool) -> None:
    assert TrainConfig(**fields).pools_to_one_pixel is expected


@pytest.mark.parametrize(("micro", "expected"), [(None, 8), (8, 8), (2, 2)])
def test_samples_in_memory(micro: int | None, expected: int) -> None:
    assert TrainConfig(batch_size=8, micro_batch_size=micro).samples_in_memory == expected


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().batch_size = 4  # type: ignore[misc]


def test_order_and_crops_have_the_run_s_seed_unless_they_have_their_own() -> None:
    assert TrainConfig(seed=4).order_seed == 4
    assert TrainConfig(seed=4, data_seed=0).order_seed == 0
    for bad in (-1, 1.5, 2**31):
        with pytest.raises(ConfigError, match="data_seed"):
            TrainConfig(data_seed=bad)  # type: ignore[arg-type]


def test_what_sparse_trains_is_said_in_one_way() -> None:
    config = TrainConfig(method="sparse", update_layers="pw2, PW1", bias_blocks=None)  # type: ignore[arg-type]
    assert (config.update_layers, config.bias_blocks) == ("pw1+pw2", "none")
    assert config.parameter_groups == ("classifier", "weight")
    assert TrainConfig(method="Sparse", bias_blocks=3).parameter_groups == METHOD_GROUPS["Sparse"]

import dataclasses

import pytest

from tests.support.cases import ALL_CASES, small
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.config.names import METHOD_GROUPS
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.training.param_groups import build_param_groups, group_of

N_FEATURES = {"efficientnet_lite0": 18, "mobilenet_v2": 19, "proxylessnas_mobile": 22}


@pytest.mark.parametrize("config", sampled(ALL_CASES.values(), 4), ids=ALL_CASES)
def test_every_trainable_parameter_is_in_exactly_one_group(config: TrainConfig) -> None:
    ratios = {group: 0.5 + i for i, group in enumerate(METHOD_GROUPS[config.method])}
    config = dataclasses.replace(config, base_lr=1e-3, lr_ratio=LrRatio(**ratios))
    net = build_model(config).net
    groups = build_param_groups(net, config)
    assert tuple(group["name"] for group in groups) == METHOD_GROUPS[config.method]
    assert [group["lr"] for group in groups] == [1e-3 * (0.5 + i) for i in range(len(groups))]
    grouped = [id(p) for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in net.parameters() if p.requires_grad)


@pytest.mark.parametrize("backbone", N_FEATURES)
def test_late_is_the_last_five_feature_blocks(backbone: str) -> None:
    config = small(backbone=backbone, method="FT-Full")
    net = build_model(config).net
    groups = {g["name"]: g["params"] for g in build_param_groups(net, config)}
    names = {id(p): name for name, p in net.named_parameters()}
    blocks = {
        group: {".".join(names[id(p)].split(".")[:2]) for p in params} for group, params in groups.items()
    }
    first_late = N_FEATURES[backbone] - 5
    assert blocks == {
        "classifier": {"classifier.1"},
        "late": {f"features.{i}" for i in range(first_late, N_FEATURES[backbone])},
        "early": {f"features.{i}" for i in range(first_late)},
    }


@pytest.mark.parametrize("bias_blocks", ["none", 0])
def test_without_biases_there_is_no_group_of_them(bias_blocks: int | str) -> None:
    config = small(method="Sparse", bias_blocks=bias_blocks)
    groups = {g["name"]: g["params"] for g in build_param_groups(build_model(config).net, config)}
    assert list(groups) == ["classifier", "weight"] and len(groups["weight"]) == 6


def test_the_users_report() -> None:
    ratios = LrRatio(classifier=1, late=0.6, early=0.4)
    config = small(method="FT-Full", norm="batch_norm", base_lr=1e-3, lr_ratio=ratios)
    groups = build_param_groups(build_model(config).net, config)
    assert {g["name"]: g["lr"] for g in groups} == {"classifier": 1e-3, "late": 6e-4, "early": 4e-4}


@pytest.mark.parametrize(
    ("name", "method", "group"),
    [
        ("classifier.1.bias", "TinyTL-B", "classifier"),
        ("classifier.1.weight", "FT-Last", "classifier"),
        ("features.5.conv.0.1.bias", "TinyTL-L+B", "bias"),
        ("features.12.conv.0.1.bias", "Sparse", "bias"),
        ("features.12.conv.0.0.weight", "Sparse", "weight"),
        ("features.12.conv.0.0.weight_part", "Sparse", "weight"),
        ("classifier.1.bias", "Sparse", "classifier"),
        ("features.5.main_branch.conv.0.1.bias", "TinyTL-L+B", "bias"),
        ("features.5.lite_residual.bn1.bias", "TinyTL-L+B", "lite_residual"),
        ("features.5.lite_residual.conv1.weight", "TinyTL-L", "lite_residual"),
        ("features.14.conv.0.1.bias", "FT-Full", "late"),
        ("features.13.conv.0.1.bias", "FT-Norm+Last", "early"),
        ("features.16.conv.0.1.bias", "Last-3", "late"),
        ("features.14.conv.0.1.bias", "Last-5", "late"),
        ("features.13.conv.0.1.bias", "Scratch", "early"),
    ],
)
def test_group_of(name: str, method: str, group: str) -> None:
    assert group_of(name, method, n_features=19) == group

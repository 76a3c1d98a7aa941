from collections.abc import Callable

import pytest

from tests.support.cases import ALL_CASES
from tests.support.sampled import sampled
from tinytl.build import build_model
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.networks.update_methods import apply_update_method_, is_norm

HEAD = {"classifier.1.weight", "classifier.1.bias"}


def _lite(name: str) -> bool:
    return ".lite_residual." in name


def _from_the_end(name: str, n_features: int) -> int:
    """Counts feature blocks from 1, the last."""
    return n_features - int(name.split(".")[1])


EXPECTED: dict[str, Callable[[str, set[str], int], bool]] = {
    # (name, names of all norms' parameters, number of feature blocks) -> whether it trains, the head apart
    "FT-Last": lambda name, norms, n: False,
    "FT-Norm+Last": lambda name, norms, n: name in norms,
    "FT-Full": lambda name, norms, n: True,
    "TinyTL-B": lambda name, norms, n: name.endswith(".bias"),
    "TinyTL-L": lambda name, norms, n: _lite(name),
    "TinyTL-L+B": lambda name, norms, n: (
        not name.endswith("lite_residual.final_bn.bias") if _lite(name) else name.endswith(".bias")
    ),
    "Last-3": lambda name, norms, n: _from_the_end(name, n) <= 3,
    "Last-5": lambda name, norms, n: _from_the_end(name, n) <= 5,
    "Sparse": lambda name, norms, n: (
        (2 <= _from_the_end(name, n) <= 7 and name.endswith(".conv.0.0.weight"))
        or (name.endswith(".bias") and _from_the_end(name, n) <= 7)
    ),
    "Scratch": lambda name, norms, n: True,
}


@pytest.mark.parametrize("config", sampled(ALL_CASES.values(), 4), ids=ALL_CASES)
def test_exactly_the_method_s_parameters_train(config: TrainConfig) -> None:
    net = build_model(config).net
    names = {name for name, _ in net.named_parameters()}
    norms = {
        f"{prefix}.{name}"
        for prefix, module in net.named_modules()
        if is_norm(module)
        for name, _ in module.named_parameters(recurse=False)
    }
    n_features = len(list(net.get_submodule("features").children()))
    rule = EXPECTED[config.method]
    expected = {name for name in names - HEAD if rule(name, norms, n_features)} | HEAD
    assert {name for name, p in net.named_parameters() if p.requires_grad} == expected


BLOCKS = {"efficientnet_lite0": 16, "mobilenet_v2": 17, "proxylessnas_mobile": 20}
NORM_LAYERS = {"efficientnet_lite0": 49, "mobilenet_v2": 52, "proxylessnas_mobile": 61}


@pytest.mark.parametrize("case", sampled([name for name in ALL_CASES if "frozen_bn" in name], 4))
def test_how_many_tensors_train(case: str) -> None:
    config = ALL_CASES[case]
    norms, lite = NORM_LAYERS[config.backbone], BLOCKS[config.backbone] - 1
    # A lite branch has two convolutions and two norms; the convolutions of the backbone have no biases.
    expected = {
        "FT-Last": 2,
        "FT-Norm+Last": 2 * norms + 2,
        "FT-Full": 3 * norms + 2,
        "TinyTL-B": norms + 2,
        "TinyTL-L": 6 * lite + 2,
        "TinyTL-L+B": 5 * lite + norms + 2,
        # A block is three convolutions with norms, the last feature is one.
        "Last-3": 3 * (3 + 3 + 1) + 2,
        "Last-5": 3 * (4 * 3 + 1) + 2,
        # A weight and three biases of each block, the bias of the last feature.
        "Sparse": 6 * (1 + 3) + 1 + 2,
    }[config.method]
    assert sum(p.requires_grad for p in build_model(config).net.parameters()) == expected


def test_a_method_undoes_the_one_before() -> None:
    net = build_model(ALL_CASES["TinyTL-L+B-frozen_bn-mobilenet_v2"]).net
    apply_update_method_(net, "FT-Full")
    apply_update_method_(net, "ft-last")
    assert {name for name, p in net.named_parameters() if p.requires_grad} == HEAD


def test_unknown_method() -> None:
    net = build_model(ALL_CASES["FT-Last-frozen_bn-mobilenet_v2"]).net
    with pytest.raises(ConfigError, match=r"^unknown method 'FT-Ful': did you mean 'FT-Full'"):
        apply_update_method_(net, "FT-Ful")
    with pytest.raises(AssertionError, match="TinyTL-L without lite residual modules"):
        apply_update_method_(net, "TinyTL-L")

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.cases import small
from tinytl.build import build_model, check_weights
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.networks.backbones import BACKBONES
from tinytl.networks.backbones.load_account import LoadAccount, Taken
from tinytl.networks.backbones.loading import load_weights_
from tinytl.networks.backbones.weights import Weights
from tinytl.networks.backbones.weights_file import WeightsFile


def _weights(main: Mapping[str, Tensor] | None, lite: Mapping[str, Tensor] | None = None) -> Weights:
    return Weights(
        backbone=None if main is None else WeightsFile(source="w.pt", state_dict=main),
        lite=None if lite is None else WeightsFile(source="lite.pt", state_dict=lite),
    )


def _net() -> nn.Module:
    net = nn.Module()
    net.features = nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4))
    net.classifier = nn.Linear(4, 2)
    return net


def _state(**changes: Tensor | None) -> dict[str, Tensor]:
    state = {
        "features.0.weight": torch.full((4, 3, 1, 1), 2.0),
        "features.1.weight": torch.full((4,), 3.0),
        "features.1.bias": torch.full((4,), 4.0),
        "features.1.running_mean": torch.full((4,), 5.0),
        "features.1.running_var": torch.full((4,), 6.0),
    }
    changed = state | {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in changed.items() if value is not None}


def test_account_of_loaded_new_and_dropped() -> None:
    net = _net()
    counter = torch.tensor(7)
    state = _state(
        classifier__weight=torch.zeros(2, 4), extra=torch.zeros(1), features__1__num_batches_tracked=counter
    )
    account = load_weights_(net, _weights(state), small())
    assert account == LoadAccount(
        backbone=Taken(
            source="w.pt", loaded=tuple(_state()), values=28, dropped=("classifier.weight", "extra")
        ),
        lite=None,
        new=("classifier.weight", "classifier.bias"),
    )
    own = net.state_dict()
    assert all(torch.equal(own[name], value) for name, value in _state().items())
    assert own["features.1.num_batches_tracked"] == counter
    assert own["classifier.weight"].any()


def test_a_wrong_shape_names_the_first_tensor_and_changes_nothing() -> None:
    net = _net()
    before = net.state_dict()["features.0.weight"].clone()
    state = _state(features__1__weight=torch.ones(5), features__1__bias=torch.ones(6))
    with pytest.raises(ConfigError) as caught:
        load_weights_(net, _weights(state), small())
    assert str(caught.value) == ("--weights w.pt: features.1.weight has shape (5,), the network needs (4,)")
    assert torch.equal(net.state_dict()["features.0.weight"], before)


def test_missing_tensors_are_counted() -> None:
    state = _state(features__1__bias=None, features__1__running_var=None)
    with pytest.raises(ConfigError) as caught:
        load_weights_(_net(), _weights(state), small())
    assert str(caught.value) == (
        "--weights w.pt: features.1.bias is not in the file (2 of 6 tensors are missing): "
        "is it for another backbone than mobilenet_v2?"
    )


def test_missing_statistics_are_frozen_bn_s_matter_alone() -> None:
    state = _state(features__1__running_mean=None, features__1__running_var=None)
    with pytest.raises(ConfigError) as caught:
        load_weights_(_net(), _weights(state), small(norm="frozen_bn"))
    assert str(caught.value) == (
        "--weights w.pt: features.1.running_mean is not in the file (of a network with group norm?), and "
        "norm=frozen_bn needs it: use norm group_norm (for the TinyTL authors' ...@ws+gn with "
        "weight_standardization) or batch_norm"
    )
    account = load_weights_(_net(), _weights(state), small(norm="batch_norm"))
    assert account.new[:2] == ("features.1.running_mean", "features.1.running_var")


def test_weights_without_statistics_may_need_standardisation() -> None:
    state = _state(features__1__running_mean=None, features__1__running_var=None)
    fields = {"norm": "group_norm", "method": "TinyTL-B"}
    asked = (
        "if that was trained with weight standardisation, as the TinyTL authors' ...@ws+gn was, set weight"
    )
    assert asked in str(load_weights_(_net(), _weights(state), small(**fields)))
    standardised = small(**fields, weight_standardization=True)
    for given, config in ((state, standardised), (_state(), small(**fields))):
        assert "standardisation" not in str(load_weights_(_net(), _weights(given), config))


def test_weights_of_another_backbone() -> None:
    given = BACKBONES["mobilenet_v2"].build(10).state_dict()
    net = BACKBONES["proxylessnas_mobile"].build(10)
    with pytest.raises(ConfigError, match=r"^--weights w.pt: features.*(has shape|is not in the file)"):
        load_weights_(net, _weights(given), small(backbone="proxylessnas_mobile"))


def _trained(**changes: Any) -> dict[str, Tensor]:
    """The tensors of a network with lite residuals, after some training."""
    state = build_model(small(**changes)).net.state_dict()
    generator = torch.Generator().manual_seed(0)
    return {
        name: t if not t.is_floating_point() else torch.rand(t.shape, generator=generator) / 10 + 0.05
        for name, t in state.items()
    }


NORMS = ("batch_norm", "frozen_bn", "group_norm")


@pytest.mark.parametrize("norm", NORMS)
def test_backbone_and_lite_residuals_come_back_from_a_checkpoint(norm: str) -> None:
    state = _trained(norm=norm)
    config = small(norm=norm)
    built = build_model(config, _weights(state, state))
    own, account = built.net.state_dict(), built.account
    assert account is not None and account.backbone is not None and account.lite is not None
    assert account.new == ("classifier.1.weight", "classifier.1.bias")
    assert len(account.lite.loaded) == 16 * (10 if norm == "batch_norm" else 6)
    assert account.backbone.dropped[-2:] == account.new
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], state[name]) for name in own if name not in account.new)


@pytest.mark.parametrize("file_norm", NORMS)
@pytest.mark.parametrize("norm", NORMS)
def test_lite_residuals_of_any_norm_fit_any_norm(file_norm: str, norm: str) -> None:
    lite = {n: v for n, v in _trained(norm=file_norm).items() if ".lite_residual." in n}
    built = build_model(small(norm=norm), _weights(None, lite))
    own, account = built.net.state_dict(), built.account
    assert account is not None and account.lite is not None
    parameters = {name for name in lite if name.endswith((".weight", ".bias"))}
    assert parameters <= set(account.lite.loaded) and len(parameters) == 96
    assert all(torch.equal(own[name], lite[name]) for name in parameters)
    of_batch = {name for name in lite if "running" in name}
    assert set(account.lite.dropped) == (of_batch if norm != "batch_norm" else set())
    reset = [name for name in account.new if ".lite_residual." in name]
    assert len(reset) == (64 if norm == "batch_norm" and file_norm != "batch_norm" else 0)


def test_one_file_for_both_drops_no_lite_residuals() -> None:
    state = _trained()
    both = WeightsFile(source="w.pt", state_dict=state)
    account = build_model(small(), Weights(backbone=both, lite=both)).account
    assert account is not None and account.backbone is not None
    assert account.backbone.dropped == ("classifier.1.weight", "classifier.1.bias")


@pytest.mark.parametrize("method", ["FT-Last", "TinyTL-L"])
def test_a_checkpoint_with_lite_residuals_gives_its_backbone_to_any_method(method: str) -> None:
    state = _trained()
    own = build_model(small(method=method), _weights(state)).net.state_dict()
    name = "features.5.conv.3.weight"
    mine = name if method == "FT-Last" else name.replace("5.", "5.main_branch.", 1)
    assert torch.equal(own[mine], state["features.5.main_branch.conv.3.weight"])
    if method == "TinyTL-L":
        assert not own["features.5.lite_residual.final_bn.weight"].any()


LITE_MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"n_groups": 4}, "(16, 4, 3, 3), the network needs (16, 8, 3, 3): try n_groups=4"),
    ({"expand": 1.5}, "(24, 8, 3, 3), the network needs (16, 8, 3, 3): try expand=1.5"),
    ({"kernel_size": 5}, "(16, 8, 5, 5), the network needs (16, 8, 3, 3): try kernel_size=5"),
    ({"downsample_ratio": None}, "(16, 8, 1, 1), the network needs (16, 8, 3, 3): try kernel_size=1"),
    (
        {"resolution": 128},
        "kernels shrink on small maps, so try another resolution or downsample_ratio than 64 and 2",
    ),
    ({"backbone": "efficientnet_lite0"}, "is it for another backbone than mobilenet_v2?"),
]


@pytest.mark.parametrize(("of_file", "message"), LITE_MISTAKES)
def test_lite_residuals_of_another_geometry_name_the_field(of_file: dict[str, Any], message: str) -> None:
    lite = _trained(**{"resolution": 64} | of_file)
    refused: list[Callable[[TrainConfig, Weights], object]] = [build_model, check_weights]
    for act in refused:
        with pytest.raises(ConfigError) as caught:
            act(small(resolution=64), _weights(None, lite))
        assert str(caught.value).startswith("--lite-weights lite.pt: features.")
        assert message in str(caught.value) and "\n" not in str(caught.value)


def test_lite_residuals_that_are_missing() -> None:
    lite = _trained()
    none = {name: value for name, value in lite.items() if ".lite_residual." not in name}
    with pytest.raises(ConfigError, match=r"^--lite-weights lite.pt: it holds no lite residuals"):
        build_model(small(), _weights(None, none))
    del lite["features.5.lite_residual.conv2.weight"]
    with pytest.raises(ConfigError) as caught:
        build_model(small(), _weights(None, lite))
    assert str(caught.value) == (
        "--lite-weights lite.pt: features.5.lite_residual.conv2.weight is not in the file "
        "(1 of 96 tensors are missing): is it for another backbone than mobilenet_v2?"
    )


@pytest.mark.parametrize("norm", NORMS)
def test_checking_gives_the_account_of_building(norm: str) -> None:
    weights = _weights(_trained(norm="batch_norm"))
    assert check_weights(small(norm=norm), weights) == build_model(small(norm=norm), weights).account

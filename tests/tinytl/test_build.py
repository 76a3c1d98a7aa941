import dataclasses
import math

import pytest
import torch
from torch import nn

from tests.support.cases import ALL_CASES, small
from tests.support.sampled import sampled
from tinytl.build import build_model, new_head_, set_engine_
from tinytl.config.names import LITE_METHODS
from tinytl.config.plan import ALL_STOCK_KIB
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.memory_efficient.block.stock import base_class
from tinytl.networks.backbones import BACKBONES
from tinytl.networks.backbones.weights import Weights
from tinytl.networks.backbones.weights_file import WeightsFile
from tinytl.networks.dropout import RowwiseDropout
from tinytl.networks.frozen_batch_norm import FrozenBatchNorm2d
from tinytl.networks.group_norm import GroupNorm
from tinytl.networks.lite_residual import LiteResidualModule


def _norms(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm))]


@pytest.mark.parametrize("config", sampled(ALL_CASES.values(), 4), ids=ALL_CASES)
def test_every_case_builds(config: TrainConfig) -> None:
    built = build_model(config)
    net = built.net
    assert built.account is None
    assert net.training
    lite = [m for m in net.modules() if isinstance(m, LiteResidualModule)]
    assert bool(lite) == (config.method in LITE_METHODS)

    kind = {"batch_norm": nn.BatchNorm2d, "frozen_bn": FrozenBatchNorm2d, "group_norm": GroupNorm}
    lite_kind = nn.BatchNorm2d if config.norm == "batch_norm" else GroupNorm
    in_lite = [norm for module in lite for norm in _norms(module.lite_residual)]
    assert len(in_lite) == 2 * len(lite)
    assert {base_class(norm) for norm in in_lite} <= {lite_kind}
    rest = [norm for norm in _norms(net) if not any(norm is other for other in in_lite)]
    assert {base_class(norm) for norm in rest} == {kind[config.norm]}

    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in net.parameters() if p.dim() == 4)
    head = net.get_submodule("classifier")
    assert isinstance(head, nn.Sequential)
    assert isinstance(head[0], RowwiseDropout) and head[0].p == config.dropout
    assert head[1].weight.shape == (3, 1280)


@pytest.mark.parametrize("case", sampled([name for name in ALL_CASES if "TinyTL-L+B" in name], 4))
def test_lite_residuals_start_as_nothing(case: str) -> None:
    config = ALL_CASES[case]
    torch.manual_seed(0)
    plain = build_model(dataclasses.replace(config, method="TinyTL-B")).net.eval()
    lite = build_model(config).net.eval()
    lite.load_state_dict(_under_lite_names(plain, lite), strict=False)
    x = torch.rand(2, 3, config.resolution, config.resolution)
    with torch.no_grad():
        assert torch.equal(lite(x), plain(x))


def _under_lite_names(plain: nn.Module, lite: nn.Module) -> dict[str, torch.Tensor]:
    own = lite.state_dict()
    renamed = {}
    for name, value in plain.state_dict().items():
        start, index, rest = name.split(".", 2)
        renamed[name if name in own else f"{start}.{index}.main_branch.{rest}"] = value
    assert renamed.keys() <= own.keys()
    return renamed


def test_weights_reach_the_main_branches_and_statistics_of_frozen_norms() -> None:
    source = BACKBONES["mobilenet_v2"].build(1000)
    for tensor in source.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    given = source.state_dict()
    main = WeightsFile(source="w.pt", state_dict=given)
    built = build_model(small(method="TinyTL-L"), Weights(backbone=main, lite=None))
    own = built.net.state_dict()
    for name in ("conv.0.0.weight", "conv.0.1.running_mean", "conv.3.weight"):
        assert torch.equal(own[f"features.7.main_branch.{name}"], given[f"features.7.{name}"])
    assert torch.equal(own["features.18.1.running_var"], given["features.18.1.running_var"])
    assert not own["features.7.lite_residual.final_bn.weight"].any()
    account = built.account
    assert account is not None and account.backbone is not None
    assert account.backbone.dropped == ("classifier.1.weight", "classifier.1.bias")
    new = set(account.new) - {*account.backbone.dropped}
    assert len(new) == 96 and all(".lite_residual." in name for name in new)


def test_the_file_named_in_the_config_is_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    given = BACKBONES["mobilenet_v2"].build(7).state_dict()
    torch.save(given, tmp_path / "weights.pt")
    net = build_model(small(method="FT-Last", weights=str(tmp_path / "weights.pt"))).net
    assert torch.equal(net.state_dict()["features.0.0.weight"], given["features.0.0.weight"])


def test_group_norm_takes_the_configured_size() -> None:
    net = build_model(small(norm="group_norm", gn_channel_per_group=4, method="TinyTL-L")).net
    assert net.get_submodule("features.0.1").num_groups == 32 // 4
    assert net.get_submodule("features.2.lite_residual.bn1").num_groups == 16 // 4


def test_lite_options_reach_the_branches() -> None:
    config = small(resolution=64, n_groups=4, expand=2.0, kernel_size=5, downsample_ratio=4)
    lite = build_model(config).net.get_submodule("features.2")
    assert isinstance(lite, LiteResidualModule)
    conv1 = lite.lite_residual.get_submodule("conv1")
    assert (conv1.groups, conv1.out_channels, conv1.kernel_size) == (4, 32, (5, 5))
    assert lite.downsample_ratio == 4


def test_names_of_lite_options_reach_the_branches() -> None:
    config = small(resolution=64, upsample_type="nearest", act_func="h_swish", kernel_size=5)
    lite = build_model(config).net.get_submodule("features.17")
    assert isinstance(lite, LiteResidualModule)
    assert lite.upsample_type == "nearest"
    assert base_class(lite.lite_residual.get_submodule("act")) is nn.Hardswish
    assert lite.lite_residual.get_submodule("conv1").kernel_size == (1, 1)
    wide = build_model(dataclasses.replace(config, kernel_clipping="reference")).net
    assert wide.get_submodule("features.17.lite_residual.conv1").kernel_size == (3, 3)


def test_scratch_takes_no_weights() -> None:
    config = small(method="Scratch", norm="group_norm")
    given = BACKBONES["mobilenet_v2"].build(7).state_dict()
    torch.manual_seed(0)
    built = build_model(config, Weights(backbone=WeightsFile(source="mine", state_dict=given), lite=None))
    torch.manual_seed(0)
    random = build_model(config).net.state_dict()
    assert built.account is None
    assert all(torch.equal(value, random[name]) for name, value in built.net.state_dict().items())
    assert not torch.equal(random["features.0.0.weight"], given["features.0.0.weight"])


def test_the_same_seed_builds_the_same_network() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        states.append(build_model(small()).net.state_dict()["features.3.main_branch.conv.0.0.weight"])
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_number_of_classes_must_be_known() -> None:
    with pytest.raises(ConfigError, match=r"^num_classes is not set"):
        build_model(small(num_classes=None))


def test_new_head_starts_small() -> None:
    net = BACKBONES["proxylessnas_mobile"].build(1000)
    torch.manual_seed(0)
    new_head_(net, 50, dropout=0.0)
    linear = net.get_submodule("classifier.1")
    assert linear.weight.std().item() == pytest.approx(0.01, rel=3 / math.sqrt(2 * 64_000))
    assert not linear.bias.any()


def test_all_stock_wraps_nothing_and_another_plan_makes_it_lean_again() -> None:
    lean = small(method="TinyTL-B", micro_batch_size=4, checkpoint="none", stock_below_kib=0.0)
    all_stock = dataclasses.replace(lean, stock_below_kib=ALL_STOCK_KIB)
    stock = [type(module) for module in build_model(dataclasses.replace(lean, engine="stock")).net.modules()]
    net = build_model(all_stock).net
    assert [type(module) for module in net.modules()] == stock
    set_engine_(net, lean)
    assert [type(module) for module in net.modules()] != stock
    set_engine_(net, all_stock)
    assert [type(module) for module in net.modules()] == stock

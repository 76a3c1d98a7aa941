"""Networks of torchvision and timm by name."""

import dataclasses
import sys

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from tinytl.build import build_model, check_weights
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.memory.largest_batch import max_batch_size
from tinytl.memory.predict import predict_memory
from tinytl.networks.backbones import backbone_of, is_named, needs_two_samples
from tinytl.networks.backbones.backbone import Backbone
from tinytl.networks.backbones.named import IMAGENET_MEAN, check_norms, named_backbone
from tinytl.networks.backbones.sequence import SequenceNet
from tinytl.networks.backbones.weights import RANDOM_WEIGHTS, Weights, input_normalization
from tinytl.networks.backbones.weights_file import WeightsFile
from tinytl.networks.lite_residual import LiteResidualModule

NETS = {
    "torchvision/mobilenet_v3_small": 11,
    "torchvision/shufflenet_v2_x0_5": 16,
    "torchvision/regnet_y_400mf": 16,
    "torchvision/mnasnet0_5": 16,
    "timm/mobilenetv2_035": 17,
    "timm/mobilenetv3_small_050": 11,
    "timm/mobilenetv4_conv_small_035": 12,
    "timm/ghostnet_050": 16,
    "timm/test_convnext": 9,
}
"""Small ones of several families, and how many blocks they have."""


def config_of(backbone: str, **fields: object) -> TrainConfig:
    given = {"resolution": 64, "batch_size": 4, "num_classes": 5, "weights": "none"} | fields
    return TrainConfig(backbone=backbone, **given)


def original(name: str) -> nn.Module:
    family, _, short = name.partition("/")
    if family == "timm":
        import timm

        return timm.create_model(short)
    import torchvision

    return torchvision.models.get_model(short)


@pytest.mark.parametrize("name", NETS)
def test_a_network_has_its_blocks_and_takes_its_publishers_weights(name):
    torch.manual_seed(0)
    net, theirs = backbone_of(name).build(1000), original(name)
    assert isinstance(net, SequenceNet) and len(net.blocks) == NETS[name]
    renamed = backbone_of(name).rename(theirs.state_dict())
    missing, unexpected = net.load_state_dict(renamed, strict=False)
    assert not missing and all("classifier" not in key for key in unexpected), (missing, unexpected)
    x = torch.randn(2, 3, 96, 96)
    assert torch.allclose(net.eval()(x), theirs.eval()(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("method", ["TinyTL-L+B", "FT-Full", "Last-3", "FT-Norm+Last"])
def test_methods_train_what_they_say_as_stock_does(name, method):
    norm = "group_norm" if method == "FT-Full" else "frozen_bn"
    grads = []
    for engine in ("stock", "lean"):
        torch.manual_seed(0)
        config = config_of(name, method=method, norm=norm, engine=engine, plan="fast", dropout=0.0)
        net = build_model(config).net.double()
        nn.init.normal_(net.classifier[-1].weight)
        lite = [module for module in net.modules() if isinstance(module, LiteResidualModule)]
        assert len(lite) == (NETS[name] - 1 if "-L" in method and "TinyTL" in method else 0)
        net.eval()
        net(torch.randn(2, 3, 64, 64, dtype=torch.float64)).square().sum().backward()
        grads.append({key: p.grad for key, p in net.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys() and len(grads[0]) > 2
    for key, theirs in grads[0].items():
        assert torch.allclose(grads[1][key], theirs, rtol=1e-7, atol=1e-9 * float(theirs.abs().max() + 1)), (
            key
        )


@pytest.mark.parametrize("name", ["torchvision/regnet_y_400mf", "timm/test_convnext"])
@pytest.mark.parametrize("plan", ["fast", "smallest"])
def test_memory_is_predicted_without_the_network(name, plan):
    config = config_of(name, method="TinyTL-B", plan="fast")
    fast = predict_memory(config)
    assert fast.peak_mib > 1
    if plan == "smallest":
        from tinytl.memory.predict import resolve_plan

        smallest = resolve_plan(config_of(name, method="TinyTL-B", plan="smallest"))
        assert predict_memory(smallest).peak_mib < fast.peak_mib


def test_sparse_is_for_inverted_residuals():
    net = build_model(config_of("timm/mobilenetv3_small_050", method="Sparse", update_blocks=2)).net
    trained = [name for name, p in net.named_parameters() if p.requires_grad and name.endswith("weight")]
    assert trained and not any(".se." in name for name in trained)
    with pytest.raises(ConfigError, match="update_blocks=40 is above the 11 blocks"):
        build_model(config_of("timm/mobilenetv3_small_050", method="Sparse", update_blocks=40))
    with pytest.raises(ConfigError, match="of which timm/test_convnext has none: choose another"):
        build_model(config_of("timm/test_convnext", method="Sparse"))


def test_weights_of_another_network_are_refused():
    other = WeightsFile(source="file.pth", state_dict=original("timm/ghostnet_050").state_dict())
    with pytest.raises(ConfigError, match="is it for another backbone than timm/mobilenetv2_035"):
        check_weights(config_of("timm/mobilenetv2_035"), Weights(backbone=other, lite=None))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("timm/mobilenetv3_smal_100", r"unknown backbone timm/mobilenetv3_smal_100: did you mean "),
        ("torchvision/mobilenetv2", r"did you mean mobilenet_v2,"),
        ("torchvision/qqqq", r"unknown backbone torchvision/qqqq: `tinytl list"),
        ("timm/mobilenetv2_050.nobody", r"timm has no such weights; it has lamb_in1k"),
        ("torchvision/vit_b_16", "its body is no sequence of blocks"),
        ("torchvision/squeezenet1_1", "does not end in a linear layer"),
        ("torchvision/vgg11", "it has no blocks"),
        ("torchvision/mobilenet_v2@wide", "after @ stands the width_mult of mobilenet_v2"),
        ("torchvision/mobilenet_v2@9", "from 0.05 to 4"),
        ("torchvision/resnet18@0.5", "after @ stands the width_mult"),
        ("timm/vovnet39a", "taken apart into blocks it does not run"),
    ],
)
def test_what_cannot_be_a_backbone_is_refused_in_one_line(name, why):
    with pytest.raises(ConfigError, match=why) as raised:
        named_backbone(name)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 200


@pytest.mark.parametrize("family", ["timm", "torchvision"])
def test_a_missing_package_names_the_command_that_installs_it(family, monkeypatch):
    for module in [key for key in sys.modules if key.partition(".")[0] == family]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, family, None)
    monkeypatch.setitem(sys.modules, f"{family}.models", None)
    with pytest.raises(
        ConfigError, match=rf"needs the package {family}: pip install 'tinytl-tuner\[{family}\]'"
    ):
        named_backbone(f"{family}/resnet34")


@pytest.mark.parametrize(
    "name",
    [
        "torchvision/efficientnet_b0",  # stochastic depth, as it is published
        "timm/mobilevit_xxs",  # its attention reads the rate of its dropout
    ],
)
def test_nothing_is_left_to_chance_while_it_trains(name):
    net = backbone_of(name).build(5)
    for module in net.modules():
        module.train(not isinstance(module, nn.BatchNorm2d))
    net.classifier.eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net(x), net(x))


def test_mobilenet_v2_has_a_width_and_takes_weights_under_other_names(caplog):
    theirs = mobilenet_v2(width_mult=0.35).state_dict()
    backbone = backbone_of("torchvision/mobilenet_v2@0.35")
    net = backbone.build(1000)
    net.load_state_dict(backbone.rename(theirs))
    assert not caplog.records and not backbone.imagenet
    others = {f"module.{i}": v for i, (k, v) in enumerate(theirs.items()) if not k.endswith("tracked")}
    found = backbone.rename(others)
    assert "matched by order and shape" in caplog.text
    own = net.state_dict()
    assert all(torch.equal(found[key], own[key]) for key in own if not key.endswith("tracked"))


def test_a_file_of_another_order_is_not_guessed():
    theirs = mobilenet_v2(width_mult=0.35).state_dict()
    others = {f"module.{i}": value for i, value in enumerate(reversed(theirs.values())) if value.dim()}
    backbone = backbone_of("torchvision/mobilenet_v2@0.35")
    assert backbone.rename(others).keys() == others.keys()


def test_names_and_what_their_weights_expect():
    assert isinstance(backbone_of("timm/mobilenetv2_050"), Backbone)
    assert is_named("timm/a") and not is_named("mobilenet_v2") and not is_named("other/a")
    assert backbone_of("torchvision/mobilenet_v3_small").input_mean == IMAGENET_MEAN
    assert backbone_of("timm/tf_efficientnet_lite0").input_mean == (0.5, 0.5, 0.5)
    assert "apache-2.0" in backbone_of("timm/mobilenetv2_050").licence
    config = TrainConfig(backbone="torchvision/efficientnet_b3", weights="none")
    assert "default, made for 300 px)" in str(input_normalization(config, RANDOM_WEIGHTS))
    assert backbone_of("timm/inception_v3").resolution == 299
    assert TrainConfig(backbone="TIMM/mobilenetv2_050").backbone == "timm/mobilenetv2_050"
    with pytest.raises(ConfigError, match="unknown backbone 'other/a'"):
        TrainConfig(backbone="other/a")


@pytest.mark.parametrize(
    ("name", "resolution", "needed"),
    [("timm/gcvit_xxtiny", 96, 224), ("timm/mixer_s32_224", 64, 224), ("timm/inception_v3", 32, 299)],
)
def test_a_size_that_a_network_does_not_take_is_refused_with_the_one_it_takes(name, resolution, needed):
    with pytest.raises(
        ConfigError, match=rf"takes no images of {resolution} px \(.*use --resolution {needed},"
    ):
        predict_memory(config_of(name, method="TinyTL-B", resolution=resolution))
    backbone_of(name).check_resolution(needed)


def test_batch_norm_behind_the_pooling_needs_two_images():
    config = config_of("timm/mobilenetv4_conv_small_035", norm="batch_norm", method="TinyTL-B")
    assert needs_two_samples(config)
    assert not needs_two_samples(config_of("timm/mobilenetv2_035", resolution=224))
    with pytest.raises(ConfigError, match="batch_size=1 with norm=batch_norm leaves one value a channel"):
        predict_memory(dataclasses.replace(config, batch_size=1))
    assert max_batch_size(config, 10) > 2


def test_a_batch_norm_of_another_class_is_refused_by_name():
    check_norms("timm/x", nn.Sequential(nn.BatchNorm2d(4), nn.BatchNorm1d(4), nn.GroupNorm(2, 4)))
    with pytest.raises(ConfigError, match="backbone timm/x: its 1 is a BatchNorm3d, a batch norm that"):
        check_norms("timm/x", nn.Sequential(nn.Identity(), nn.BatchNorm3d(4)))


def test_making_one_leaves_the_random_numbers_of_the_caller_alone():
    named_backbone.cache_clear()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    with torch.device("meta"):
        net = named_backbone("timm/mobilenetv2_035").build(7)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.is_meta for p in net.parameters()) and net.classifier[-1].out_features == 7

import pytest
import torch
from torch import Tensor, nn

from tests.support.sampled import sampled
from tinytl.commands import curated_backbones
from tinytl.commands.curated_backbones import CURATED, chosen, cost_lines
from tinytl.config.train_config import TrainConfig
from tinytl.memory.predict import predict_memory, resolve_plan
from tinytl.networks.backbones import backbone_of


@pytest.mark.parametrize("name", sampled(CURATED, 4))
def test_figures_are_those_of_the_network(name):
    with torch.device("meta"):
        net = backbone_of(name).build(1000).eval()
    macs = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        if isinstance(module, nn.Conv2d):
            macs += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            macs += output[0].numel() * module.in_features

    for module in net.modules():
        module.register_forward_hook(count)
    with torch.no_grad():
        net(torch.empty(1, 3, 224, 224, device="meta"))
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == CURATED[name].parameters_million
    assert round(macs / 1e6) == CURATED[name].macs_million


@pytest.mark.parametrize("name", sampled(CURATED, 12))
def test_mib_are_predicted(name):
    fields = {"resolution": 224, "batch_size": 8, "num_classes": 10, "weights": "none", "norm": "frozen_bn"}
    cost = CURATED[name]
    fast, smallest = (
        predict_memory(
            resolve_plan(TrainConfig(backbone=name, method="TinyTL-B", plan=plan, **fields))
        ).peak_mib
        for plan in ("fast", "smallest")
    )
    assert smallest == pytest.approx(cost.smallest_mib, rel=0.3)
    assert 0.7 * cost.smallest_mib < fast < 1.3 * cost.fast_mib  # what is fastest is measured: the machine's


def test_a_text_chooses_and_the_packages_others_are_counted():
    lines = cost_lines("mobilenetv3")
    assert [line.split()[0] for line in lines[1:4]] == [name for name in CURATED if "mobilenetv3" in name]
    assert "more of timm: timm/" in lines[-1] and lines[-1].endswith(", ...")
    assert cost_lines("qqq") == [f"none of the {len(CURATED)} curated networks has qqq in its name"]


def test_mobile_names_every_small_network():
    names = chosen("mobile")
    assert {"timm/ghostnet_100", "torchvision/shufflenet_v2_x1_0", "timm/convnext_atto"} <= names.keys()
    assert not {"torchvision/resnet18", "torchvision/convnext_tiny"} & names.keys()


def test_without_the_packages_the_curated_are_shown(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models", None)
    assert len(cost_lines("")) == 1 + len(CURATED)
    assert curated_backbones._names_of("timm") == []

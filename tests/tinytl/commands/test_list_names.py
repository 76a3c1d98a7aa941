import json

import pytest
import torch

from tinytl.__main__ import main
from tinytl.commands.list_names import BACKBONE_FACTS
from tinytl.config.dataset_names import DATASETS
from tinytl.config.method_aliases import METHOD_ALIASES
from tinytl.config.names import METHODS
from tinytl.networks.backbones import BACKBONES


def test_what_is_said_of_backbones_is_what_building_them_shows() -> None:
    shown = {}
    for name, backbone in BACKBONES.items():
        with torch.device("meta"):
            net = backbone.build(1000)
        parameters = sum(parameter.numel() for parameter in net.parameters())
        shown[name] = (parameters, len(net.get_submodule("features")), tuple(backbone.imagenet))
    assert shown == BACKBONE_FACTS


def test_every_name_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    assert main(["list", "--json"]) == 0
    tables = json.loads(capsys.readouterr().out)
    assert list(tables["backbone"]) == list(BACKBONES)
    assert list(tables["method"]) == list(METHODS)
    assert list(tables["dataset"]) == list(DATASETS)
    assert tables["method"]["Last-5"] == (
        "trains the last 5 feature blocks and head (groups classifier, late); also called low"
    )
    assert all(alias in text for alias in METHOD_ALIASES)
    for table in (tables["backbone"], tables["method"], tables["dataset"]):
        assert all(f"  {name:<20} {line}" in text.splitlines() for name, line in table.items())


def test_curated_backbones_are_listed_by_a_part_of_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--backbones", "shuffle"]) == 0
    assert "torchvision/shufflenet_v2_x1_0" in capsys.readouterr().out
    assert main(["list", "--backbones", "shuffle", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["torchvision/shufflenet_v2_x1_0"]["macs_million"] == 145
    assert main(["list", "--backbones"]) == 0
    assert "proxylessnas_mobile" in capsys.readouterr().out

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.cases import small
from tests.support.file_server import serve, whole
from tinytl.build import build_model
from tinytl.errors import ConfigError
from tinytl.networks.backbones import BACKBONES
from tinytl.networks.backbones.weights import Weights, input_normalization, read_weights
from tinytl.networks.stored_weights import whole_weights_

TENSORS = {"features.0.weight": torch.arange(6.0).reshape(2, 3)}


def test_none_reads_nothing() -> None:
    assert read_weights(small(weights="none")) == Weights(backbone=None, lite=None)


@pytest.mark.parametrize("name", ["imagenet", "imagenet_v1", "imagenet_v2"])
def test_imagenet_asks_the_backbone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    backbone = dataclasses.replace(BACKBONES["mobilenet_v2"], imagenet={name: lambda: TENSORS})
    monkeypatch.setitem(BACKBONES, "mobilenet_v2", backbone)
    main = read_weights(small(weights=name)).backbone
    assert main is not None
    assert main.state_dict is TENSORS
    assert (main.source, main.input_mean, main.input_std) == (name, backbone.input_mean, backbone.input_std)


def test_imagenet_where_none_are_published() -> None:
    message = r"^no ImageNet weights of proxylessnas_mobile .* or URL \(https://.*\.pth\), --weights none"
    with pytest.raises(ConfigError, match=message):
        read_weights(small(backbone="proxylessnas_mobile", weights="imagenet"))


def test_a_set_that_the_backbone_has_not() -> None:
    with pytest.raises(ConfigError) as caught:
        read_weights(small(backbone="efficientnet_lite0", weights="imagenet_v1"))
    assert str(caught.value) == ("--weights imagenet_v1: efficientnet_lite0 has no such set, it has imagenet")


@pytest.mark.parametrize(
    ("backbone", "theirs", "ours"),
    [
        ("mobilenet_v2", "features.3.conv.0.0.weight", "features.3.conv.0.0.weight"),
        ("efficientnet_lite0", "_blocks.3._bn1.weight", "features.4.conv.1.1.weight"),
        ("proxylessnas_mobile", "blocks.1.conv.depth_conv.bn.bias", "features.2.conv.1.1.bias"),
    ],
)
def test_files_in_others_layouts_get_the_network_s_names(
    tmp_path: Path, backbone: str, theirs: str, ours: str
) -> None:
    torch.save({"state_dict": {f"module.{theirs}": torch.ones(2)}}, tmp_path / "w.pt")
    path = str(tmp_path / "w.pt")
    weights = read_weights(small(backbone=backbone, weights=path, lite_weights=path))
    for file in (weights.backbone, weights.lite):
        assert file is not None and list(file.state_dict) == [ours] and file.source == path


def test_lite_residuals_come_from_a_url_and_name_their_flag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.save(TENSORS, tmp_path / "w.pt")
    with serve({"/w.pt": whole((tmp_path / "w.pt").read_bytes())}) as (url, _):
        lite = read_weights(small(lite_weights=f"{url}/w.pt")).lite
        assert lite is not None and lite.state_dict.keys() == TENSORS.keys()
        with pytest.raises(ConfigError, match=r"^--lite-weights http\S+ could not be downloaded \(404 "):
            read_weights(small(lite_weights=f"{url}/other.pt"))


MINE, THEIRS = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
DEFAULT_MEAN, DEFAULT_STD = BACKBONES["mobilenet_v2"].input_mean, BACKBONES["mobilenet_v2"].input_std


@pytest.mark.parametrize(
    ("fields", "carries", "expected"),
    [
        ({}, True, (THEIRS, THEIRS, "of {path}")),
        ({}, False, (DEFAULT_MEAN, DEFAULT_STD, "mobilenet_v2's default")),
        ({"input_mean": MINE, "input_std": MINE}, True, (MINE, MINE, "as given")),
        ({"input_mean": MINE}, True, (MINE, THEIRS, "input_mean as given, the other of {path}")),
        (
            {"input_std": MINE},
            False,
            (DEFAULT_MEAN, MINE, "input_std as given, the other mobilenet_v2's default"),
        ),
        (
            {"input_mean": (0.0, 0.0, 0.0)},
            True,
            ((0.0,) * 3, THEIRS, "input_mean as given, the other of {path}"),
        ),
    ],
)
def test_the_input_belongs_to_the_weights(
    tmp_path: Path, fields: dict[str, Any], carries: bool, expected: tuple[Any, Any, str]
) -> None:
    path = str(tmp_path / "w.pt")
    own = {"input_mean": THEIRS, "input_std": THEIRS} if carries else {}
    torch.save({"state_dict": TENSORS, **own}, path)
    config = small(weights=path, **fields)
    found = input_normalization(config, read_weights(config))
    assert (found.mean, found.std, found.source) == (*expected[:2], expected[2].format(path=path))


def test_the_input_of_no_weights() -> None:
    config = small(weights="none")
    found = input_normalization(config, read_weights(config))
    assert str(found) == ("mean 0.485 0.456 0.406, std 0.229 0.224 0.225 (mobilenet_v2's default)")


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_a_run_whose_weights_are_stored_starts_any_other(tmp_path: Path, form: str) -> None:
    config = small(method="Sparse", update_layers="pw1+dw", channel_ratio=0.5, frozen_weights=form)
    first = build_model(config).net
    torch.save({"net": first.state_dict()}, tmp_path / "best.pt")
    path = str(tmp_path / "best.pt")
    second = build_model(small(method="FT-Full", engine="stock", weights=path))
    assert second.account is not None and second.account.backbone is not None
    assert set(second.account.backbone.dropped) == {"classifier.1.weight", "classifier.1.bias"}
    whole_weights_(first)
    expected, found = first.state_dict(), second.net.state_dict()
    for name in second.account.backbone.loaded:
        assert torch.equal(found[name], expected[name]), name
    assert len(second.account.backbone.loaded) == sum(
        name.startswith("features.") and not name.endswith("num_batches_tracked") for name in found
    )


def test_a_damaged_stored_weight_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    torch.save({"features.0.0.frozen_weight": torch.ones(2, 3, 1, 1, dtype=torch.int8)}, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"^--weights \S+w\.pt: the tensors of features\.0\.0\.weight, "):
        read_weights(small(weights=str(tmp_path / "w.pt")))


def test_a_folder_has_a_file_per_network(tmp_path: Path) -> None:
    for name, ending in (("mobilenet_v2", ".pt"), ("torchvision/mnasnet0_5", ".pth")):
        path = tmp_path / f"{name}{ending}"
        path.parent.mkdir(exist_ok=True)
        torch.save(build_model(small(backbone=name)).net.state_dict(), path)
        weights = read_weights(small(backbone=name, weights=str(tmp_path))).backbone
        assert weights is not None and weights.source == str(path)
    with pytest.raises(ConfigError) as caught:
        read_weights(small(backbone="proxylessnas_mobile", weights=str(tmp_path)))
    assert str(caught.value) == (
        f"--weights {tmp_path}: the folder has no weights of proxylessnas_mobile: put "
        "proxylessnas_mobile.safetensors, .pth or .pt there, or name a file"
    )

import urllib.error
from pathlib import Path

import pytest
import torch

from tinytl.backbones import mobilenet_v2
from tinytl.errors import ConfigError


def test_parameters_and_output() -> None:
    net = mobilenet_v2.build().eval()
    assert sum(p.numel() for p in net.parameters()) == 3_504_872
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)


def test_imagenet_weights_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", offline)
    with pytest.raises(ConfigError) as caught:
        mobilenet_v2.imagenet_state_dict()
    message = str(caught.value)
    assert str(tmp_path / "checkpoints" / "mobilenet_v2-7ebf99e0.pth") in message
    assert "could not be downloaded (<urlopen error no route to host>)" in message
    assert "use --weights FILE, --weights none, or --backbone efficientnet_lite0" in message


def test_imagenet_weights_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints").mkdir()
    torch.save({"a": torch.ones(2)}, tmp_path / "checkpoints" / "mobilenet_v2-7ebf99e0.pth")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert mobilenet_v2.imagenet_state_dict()["a"].tolist() == [1.0, 1.0]

import hashlib
import sys
from pathlib import Path

import pytest
import requests
import torch
import torchvision

from tests.support.file_server import cut, serve, whole
from tinytl.errors import ConfigError
from tinytl.networks.backbones import BACKBONES, mobilenet_v2


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def published(tmp_path: Path) -> tuple[bytes, str]:
    """Weights as torchvision publishes them: the file, and its name with the checksum."""
    torch.save({"a": torch.ones(2000)}, tmp_path / "made.pth")
    content = (tmp_path / "made.pth").read_bytes()
    return content, f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"


def test_parameters_and_output() -> None:
    net = mobilenet_v2.build().eval()
    assert sum(p.numel() for p in net.parameters()) == 3_504_872
    assert net(torch.zeros(2, 3, 32, 32)).shape == (2, 1000)


def test_it_is_torchvision_s_network(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2(num_classes=7).double()
    for buffer in theirs.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    ours = mobilenet_v2.build(7).double()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for mode in (False, True):
        torch.manual_seed(1)
        expected = theirs.train(mode)(x)
        torch.manual_seed(1)
        assert torch.equal(ours.train(mode)(x), expected)
    assert [tuple(p.shape) for p in ours.parameters()] == [tuple(p.shape) for p in theirs.parameters()]


def test_names_of_the_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    urls: list[str] = []
    monkeypatch.setattr(mobilenet_v2, "_imagenet_state_dict", urls.append)
    for name in ("imagenet_v1", "imagenet_v2", "imagenet"):
        BACKBONES["mobilenet_v2"].imagenet[name]()
    sets = torchvision.models.MobileNet_V2_Weights
    assert urls == [sets.IMAGENET1K_V1.url, sets.IMAGENET1K_V2.url, sets.DEFAULT.url]
    for weights in sets:
        assert tuple(weights.transforms().mean) == mobilenet_v2.INPUT_MEAN
        assert tuple(weights.transforms().std) == mobilenet_v2.INPUT_STD


def test_imagenet_weights_without_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: object, **kwargs: object) -> None:
        raise requests.ConnectionError("no route to host")

    monkeypatch.setattr(requests, "get", offline)
    with pytest.raises(ConfigError) as caught:
        mobilenet_v2.imagenet_v2_state_dict()
    message = str(caught.value)
    assert str(cache / "mobilenet_v2-7ebf99e0.pth") in message
    assert "could not be downloaded (no route to host)" in message
    assert "use --weights FILE, --weights none, or --backbone efficientnet_lite0" in message


def test_weights_are_downloaded_once_into_torch_hub_s_cache(
    cache: Path, published: tuple[bytes, str]
) -> None:
    content, name = published
    with serve({f"/{name}": whole(content)}) as (url, asked):
        for _ in range(2):
            assert mobilenet_v2._imagenet_state_dict(f"{url}/{name}")["a"].sum() == 2000
    assert asked == [f"/{name}"]
    assert torch.hub.load_state_dict_from_url(f"http://nowhere/{name}", weights_only=True)["a"].sum() == 2000
    assert [path.name for path in cache.iterdir()] == [name]


@pytest.mark.parametrize("kind", ["cut", "other bytes"])
def test_a_damaged_download_is_not_kept(cache: Path, published: tuple[bytes, str], kind: str) -> None:
    content, name = published
    answer = cut(content, 1000) if kind == "cut" else whole(content[:-1] + b"x")
    with serve({f"/{name}": answer}) as (url, _), pytest.raises(ConfigError, match="could not be downloaded"):
        mobilenet_v2._imagenet_state_dict(f"{url}/{name}")
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("kind", ["truncated", "a bit flipped", "empty"])
def test_a_damaged_file_in_the_cache_is_named_and_kept(
    cache: Path, published: tuple[bytes, str], kind: str
) -> None:
    content, name = published
    middle = content.index(torch.ones(100).numpy().tobytes())
    flipped = content[: middle + 3] + b"\x40" + content[middle + 4 :]
    damaged = {"truncated": content[:-100], "a bit flipped": flipped, "empty": b""}[kind]
    (cache / name).write_bytes(damaged)
    if kind == "a bit flipped":  # torch.hub's own reading does not see it
        assert (
            torch.hub.load_state_dict_from_url(f"http://nowhere/{name}", check_hash=True)["a"].sum() != 2000
        )
    with pytest.raises(ConfigError) as caught:
        mobilenet_v2._imagenet_state_dict(f"http://nowhere/{name}")
    message = f"ImageNet weights of mobilenet_v2: {cache / name} is damaged: its SHA-256 begins with "
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("; delete it, and it will be downloaded again")
    assert (cache / name).read_bytes() == damaged

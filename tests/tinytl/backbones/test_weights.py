import dataclasses
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tinytl.backbones import BACKBONES
from tinytl.backbones.weights import LoadAccount, load_weights_, read_weights
from tinytl.errors import ConfigError

TORCH_FILE: dict[str, Tensor] = {"features.0.weight": torch.arange(6.0).reshape(2, 3)}


class _RunsCode:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.mkdir, ("executed",)


def test_none_reads_nothing() -> None:
    assert read_weights("mobilenet_v2", "none") is None


@pytest.mark.parametrize("wrap", [False, True])
def test_a_file_is_read_and_unwrapped(tmp_path: Path, wrap: bool) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"state_dict": TORCH_FILE, "epoch": 3} if wrap else TORCH_FILE, path)
    loaded = read_weights("mobilenet_v2", str(path))
    assert loaded is not None
    assert loaded.keys() == TORCH_FILE.keys()
    assert torch.equal(loaded["features.0.weight"], TORCH_FILE["features.0.weight"])


def test_imagenet_asks_the_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = dataclasses.replace(BACKBONES["mobilenet_v2"], imagenet_state_dict=lambda: TORCH_FILE)
    monkeypatch.setitem(BACKBONES, "mobilenet_v2", backbone)
    assert read_weights("mobilenet_v2", "imagenet") is TORCH_FILE


def test_imagenet_where_none_are_published() -> None:
    with pytest.raises(ConfigError, match=r"^no ImageNet weights of proxylessnas_mobile .* --weights none"):
        read_weights("proxylessnas_mobile", "imagenet")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere.pt: no such file \(nor one of the names imagenet, none"):
        read_weights("mobilenet_v2", str(tmp_path / "nowhere.pt"))


@pytest.mark.parametrize(
    "content", [{"a": 1}, [torch.ones(1)], torch.ones(1)], ids=["dict", "list", "tensor"]
)
def test_not_a_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ConfigError, match=r"w.pt: not a state dict \(a dict from names to tensors\)$"):
        read_weights("mobilenet_v2", str(tmp_path / "w.pt"))


def _damaged(kind: str, path: Path) -> bytes:
    torch.save({"a": torch.ones(1000)}, path, _use_new_zipfile_serialization=kind != "old, cut")
    whole = path.read_bytes()
    return {
        "empty": b"",
        "text": b"these are no weights " * 9,
        "head": whole[:500],
        "almost whole": whole[:-30],
        "old, cut": whole[:60],
        "pickle": pickle.dumps({"a": 1}, protocol=2),
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "text", "head", "almost whole", "old, cut", "pickle"])
def test_a_damaged_file_is_named_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "w.pt"
    path.write_bytes(_damaged(kind, path))
    with pytest.raises(ConfigError) as caught:
        read_weights("mobilenet_v2", str(path))
    assert str(caught.value).startswith(f"--weights {path}: not a file of tensors that torch can load")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"a": _RunsCode()}, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConfigError, match="not a file of tensors that torch can load"):
        read_weights("mobilenet_v2", "w.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["w.pt"]


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
    state = _state(classifier__weight=torch.zeros(2, 4), extra=torch.zeros(1))
    account = load_weights_(net, state, "w.pt")
    assert account == LoadAccount(
        loaded=tuple(_state()),
        new=("classifier.weight", "classifier.bias"),
        dropped=("classifier.weight", "extra"),
    )
    assert (
        str(account) == "5 tensors loaded, 2 (classifier.weight, ...) new, 2 (classifier.weight, ...) dropped"
    )
    own = net.state_dict()
    assert all(torch.equal(own[name], value) for name, value in _state().items())
    assert own["classifier.weight"].any()


def test_account_without_dropped() -> None:
    assert str(LoadAccount(("a",), (), ())) == "1 tensors loaded, 0 new, 0 dropped"


def test_a_wrong_shape_names_the_first_tensor_and_changes_nothing() -> None:
    net = _net()
    before = net.state_dict()["features.0.weight"].clone()
    state = _state(features__1__weight=torch.ones(5), features__1__bias=torch.ones(6))
    with pytest.raises(ConfigError) as caught:
        load_weights_(net, state, "w.pt")
    assert str(caught.value) == ("--weights w.pt: features.1.weight has shape (5,), the network needs (4,)")
    assert torch.equal(net.state_dict()["features.0.weight"], before)


def test_missing_tensors_are_counted() -> None:
    state = _state(features__1__bias=None, features__1__running_var=None)
    with pytest.raises(ConfigError) as caught:
        load_weights_(_net(), state, "w.pt")
    assert str(caught.value) == (
        "--weights w.pt: features.1.bias is not in the file (2 of 6 tensors are missing): "
        "is it for another backbone?"
    )


def test_weights_of_another_backbone() -> None:
    given = BACKBONES["mobilenet_v2"].build(10).state_dict()
    with pytest.raises(ConfigError, match=r"^--weights other: features.*(has shape|is not in the file)"):
        load_weights_(BACKBONES["proxylessnas_mobile"].build(10), given, "other")

import pytest
import torch

from tinytl.device import copy_into, gpu_emulated, has_graphs, resolve_device


def test_resolve_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    for available, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert resolve_device("auto") == torch.device(name)


def test_a_gpu_has_graphs_with_or_without_one_here() -> None:
    assert [has_graphs(name) for name in ("cpu", "cuda")] == [False, True]
    with gpu_emulated():
        assert has_graphs("cpu")


def test_copy_into_fills_a_tensor_where_it_is() -> None:
    target = torch.zeros(3)
    address = target.data_ptr()
    copy_into(target, torch.arange(3))
    assert target.tolist() == [0, 1, 2] and target.data_ptr() == address

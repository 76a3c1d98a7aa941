"""What a GPU's libraries hold is measured once per GPU and precision, and counts in predictions."""

import dataclasses
from pathlib import Path

import pytest
import torch

from benchmarks.gpu.emulated_path import followed_step
from tinytl.config.train_config import TrainConfig
from tinytl.memory import gpu_workspaces
from tinytl.memory.gpu_workspaces import (
    Workspaces,
    compared,
    constant_workspaces,
    known_workspaces,
    use_workspaces,
    workspaces,
)
from tinytl.memory.measure import MIB
from tinytl.memory.predict import predict_memory
from tinytl.memory.prediction import WORKSPACES

CONFIG = TrainConfig(
    weights="none", method="TinyTL-B", num_classes=10, resolution=64, batch_size=2, micro_batch_size=2,
    checkpoint="none", stock_below_kib=0.0, device="cuda",
)  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu_workspaces, "_KNOWN", {})
    monkeypatch.setattr(gpu_workspaces, "_MAY_ASK", [True])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU whose cuBLAS holds 8 MiB."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_workspaces, "device_name", lambda device: "a GPU")
    monkeypatch.setattr(gpu_workspaces, "cublas_workspace_bytes", lambda: 8 * MIB)
    monkeypatch.setattr(gpu_workspaces, "in_own_process", lambda function, *args: function(*args))


def never(*given: str) -> Workspaces:
    raise AssertionError(f"{given} was measured")


def test_without_a_gpu_nobody_knows_and_predictions_count_tensors_alone() -> None:
    assert workspaces("float32") is None
    assert WORKSPACES not in predict_memory(CONFIG).parts_mib


def test_what_a_gpu_of_the_cluster_said_counts_for_its_precision() -> None:
    before = predict_memory(CONFIG)
    use_workspaces({"float32": Workspaces(cublas_mib=8.0, cudnn_mib=2.5)})
    after = predict_memory(CONFIG)
    assert after.peak_mib == before.peak_mib + 10.5
    assert after.parts_mib == dict(before.parts_mib) | {WORKSPACES: 10.5}
    assert predict_memory(dataclasses.replace(CONFIG, precision="tf32")).peak_mib == before.peak_mib
    on_cpu = predict_memory(dataclasses.replace(CONFIG, device="cpu"))
    assert WORKSPACES not in on_cpu.parts_mib


@pytest.mark.usefixtures("gpu")
def test_workspaces_are_the_most_by_which_real_steps_exceed_their_predictions() -> None:
    asked: list[tuple[str, str]] = []

    def measured_mib(config: TrainConfig) -> float:
        asked.append((config.method, config.precision))
        return 8 + 100 + {"FT-Full": 30.0, "TinyTL-L+B": 4.0}[config.method]

    found = compared("tf32", measured_mib, lambda config: 100.0)
    assert found == Workspaces(cublas_mib=8.0, cudnn_mib=30.0)
    assert asked == [("FT-Full", "tf32"), ("TinyTL-L+B", "tf32")]
    less = compared("float32", lambda config: 90.0, lambda config: 100.0)
    assert less == Workspaces(cublas_mib=8.0, cudnn_mib=0.0)


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_is_here_is_asked_for_cublas_alone_and_its_kernels_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert workspaces("float32") == workspaces("bfloat16") == Workspaces(cublas_mib=8.0, cudnn_mib=None)
    assert known_workspaces().keys() == {"float32", "bfloat16"}
    monkeypatch.setattr(gpu_workspaces, "_KNOWN", {})  # another process
    monkeypatch.setattr(gpu_workspaces, "in_own_process", never)
    assert workspaces("float32") == Workspaces(cublas_mib=8.0)


@pytest.mark.usefixtures("gpu")
def test_constants_are_measured_once_per_precision_and_again_if_the_file_is_damaged(tmp_path: Path) -> None:
    first, second = (Workspaces(cublas_mib=8.0, cudnn_mib=mib) for mib in (1.0, 2.0))
    assert constant_workspaces("float32", lambda precision: first) == first
    assert constant_workspaces("bfloat16", lambda precision: second) == second
    assert constant_workspaces("float32", never) == first
    for kept in tmp_path.rglob("gpu_workspaces_*.json"):
        kept.write_text(kept.read_text()[:20])
    assert constant_workspaces("float32", lambda precision: second) == second
    assert known_workspaces() == {}  # they are for another machine


@pytest.mark.parametrize("reference", gpu_workspaces._REFERENCES, ids=lambda config: config.method)
def test_on_the_path_of_a_gpu_the_references_are_predicted_so_that_a_difference_is_a_workspace(
    reference: TrainConfig,
) -> None:
    small = dataclasses.replace(reference, resolution=64, batch_size=2, micro_batch_size=2)
    assert predict_memory(small).peak_mib == pytest.approx(followed_step(small).peak_mib, rel=1e-3)


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_has_no_room_is_no_obstacle_and_is_not_asked_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def full(*given: object) -> int:
        asked.append("cuBLAS")
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore")

    monkeypatch.setattr(gpu_workspaces, "cublas_workspace_bytes", full)
    assert workspaces("float32") is None and workspaces("tf32") is None
    assert asked == ["cuBLAS"]
    assert constant_workspaces("tf32", full) is None
    line = (
        "the GPU does not say what cuBLAS and cuDNN hold (CUDA out of memory. Tried to allocate 2 GiB): not "
        "counted"
    )
    assert caplog.messages == [line] * 2


@pytest.mark.usefixtures("gpu")
def test_a_study_that_began_without_goes_on_without() -> None:
    use_workspaces({})
    assert workspaces("float32") is None
    use_workspaces(None)
    assert workspaces("float32") == Workspaces(cublas_mib=8.0)


def test_the_stream_of_recordings_has_a_workspace_of_its_own() -> None:
    recorded = dataclasses.replace(CONFIG, cuda_graph=True)
    before = predict_memory(recorded).peak_mib
    use_workspaces({"float32": Workspaces(cublas_mib=8.0, cudnn_mib=2.5)})
    assert predict_memory(recorded).peak_mib == before + 2 * 8.0 + 2.5

"""A GPU is asked once for what each operation allocates inside. Here a rule answers in its place."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.gpu.emulated_path import follow
from tests.support.cases import small
from tests.support.sampled import sampled
from tinytl.config.plan import lean_plan
from tinytl.memory import followed_steps, gpu_scratch, gpu_workspaces, predict_many
from tinytl.memory.curve import memory_curve
from tinytl.memory.fake_step import FakeStep
from tinytl.memory.gpu_scratch import call_of, made, may_learn, scratch_bytes_of
from tinytl.memory.gpu_workspaces import Workspaces, use_workspaces
from tinytl.memory.predict import predict_memory, resolve_plan
from tinytl.memory.predict_many import predict_memories

CPU = torch.device("cpu")
CONFIG = lean_plan(small(method="TinyTL-B", norm="frozen_bn", resolution=64, batch_size=8, device="cuda"))


class Asked:
    """What stands in for the GPU, and the calls of each time that it was asked."""

    def __init__(self) -> None:
        self.times: list[list[str]] = []

    def __call__(self, calls: Sequence[str]) -> dict[str, int]:
        self.times.append(list(calls))
        return {call: as_its_input(call) for call in calls}


def as_its_input(call: str) -> int:
    """What a convolution needs that turns the layout of its input."""
    return int(made(call, CPU)[1][0].nbytes)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """A GPU of which nothing is known yet."""
    asked = Asked()
    monkeypatch.setattr(gpu_scratch, "_KNOWN", {})
    monkeypatch.setattr(gpu_scratch, "_NO_ROOM", set())
    monkeypatch.setattr(gpu_scratch, "_MAY_ASK", [True])
    monkeypatch.setattr(gpu_scratch, "_may_ask", lambda: gpu_scratch._MAY_ASK[0])
    monkeypatch.setattr(gpu_scratch, "device_name", lambda device: "a GPU")
    monkeypatch.setattr(gpu_scratch, "in_own_process", lambda ask, calls: asked(calls))
    monkeypatch.setattr(gpu_workspaces, "_KNOWN", {})
    monkeypatch.setattr(gpu_workspaces, "_MAY_ASK", [True])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    followed_steps.PREDICTED.clear()
    use_workspaces({"float32": Workspaces(cublas_mib=8.0)})
    return asked


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "name", ["convolution", "convolution_backward", "sum", "var_mean", "native_batch_norm"]
)
def test_a_call_says_all_that_is_needed_to_run_it(name: str, dtype: torch.dtype) -> None:
    func = gpu_scratch._ASKED[name]
    with FakeTensorMode():
        x = torch.empty(4, 8, 32, 32, dtype=dtype).to(memory_format=torch.channels_last)
        weight = torch.empty(8, 1, 3, 3, dtype=dtype)
        by_conv = ([1, 1], [1, 1], [1, 1], False, [0, 0], 8)
        args, kwargs = {
            "convolution": ((x, weight, None, *by_conv), {}),
            "convolution_backward": ((x, x, weight, None, *by_conv, [True, True, False]), {}),
            "sum": ((x, [2, 3]), {"dtype": torch.float32}),
            "var_mean": ((x, [2, 3]), {"correction": 0}),
            "native_batch_norm": ((x, None, None, None, None, True, 0.1, 1e-5), {}),
        }[name]
        call = call_of(func, args, kwargs, tf32=True)
        expected = func(*args, **kwargs)
    assert call is not None
    assert call == call_of(func, args, kwargs, tf32=True) != call_of(func, args, kwargs, tf32=False)
    again, real_args, real_kwargs = made(call, CPU)
    assert again is func and real_args[0].stride() == x.stride()
    found = again(*real_args, **real_kwargs)
    for one, other in zip(*((t if isinstance(t, tuple) else (t,)) for t in (found, expected)), strict=True):
        assert (one is None) == (other is None)
        assert one is None or (one.shape, one.dtype) == (other.shape, other.dtype)


def test_small_operations_and_those_that_allocate_nothing_inside_are_not_asked() -> None:
    large, little = torch.empty(1 << 16), torch.empty(8)
    assert call_of(torch.ops.aten.sum.dim_IntList, (little, [0]), {}, tf32=False) is None
    assert call_of(torch.ops.aten.mul.Tensor, (large, large), {}, tf32=False) is None


METHODS = [("TinyTL-L+B", "frozen_bn"), ("TinyTL-B", "group_norm"), ("FT-Full", "batch_norm")]


@pytest.mark.parametrize(
    ("engine", "method", "norm"),
    sampled([(engine, *kind) for engine in ("lean", "stock") for kind in METHODS], 4),
)
def test_a_real_step_on_a_gpu_s_path_makes_the_calls_that_a_fake_one_asks_for(
    engine: str, method: str, norm: str
) -> None:
    config = lean_plan(small(method=method, norm=norm, engine=engine, resolution=64, batch_size=8))
    on_gpu = dataclasses.replace(config, device="cuda", precision="tf32")
    found = FakeStep(on_gpu).run(on_gpu).calls
    assert len(found) > 20
    if engine == "stock":  # on a CPU, its norms are other operations than on a GPU
        found = {call for call in found if "convolution" in call}
        assert found <= follow(on_gpu).calls
    else:
        assert found == follow(on_gpu).calls


def test_what_a_gpu_said_is_in_a_prediction_as_in_a_real_step_that_is_followed(asked: Asked) -> None:
    use_workspaces({})
    tensors = predict_memory(CONFIG)
    use_workspaces({"float32": Workspaces(cublas_mib=8.0)})
    found = predict_memory(CONFIG)
    followed = follow(CONFIG)
    expected = followed.prediction({call: as_its_input(call) for call in followed.calls})
    assert found.peak_mib == pytest.approx(expected.peak_mib + 8.0, rel=1e-3)
    assert found.peak_mib > tensors.peak_mib + 8.0 + 0.1
    assert sum(found.parts_mib.values()) == pytest.approx(found.peak_mib)
    assert not found.calls_not_known and len(asked.times) == 1


def test_a_gpu_is_asked_once_for_all_plans_and_never_again(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_plan = small(
        method="TinyTL-B", norm="frozen_bn", resolution=64, batch_size=4, device="cuda",
        checkpoint="none", stock_below_kib=0.0,  # enough plans are left
    )  # fmt: skip
    first = memory_curve(open_plan)
    smallest = dataclasses.replace(open_plan, batch_size=3, plan="smallest")
    planned = resolve_plan(smallest)
    assert len(asked.times) == 2 and not set(asked.times[0]) & set(asked.times[1])
    predict_memory(dataclasses.replace(open_plan, batch_size=5))
    assert len(asked.times) == 3
    monkeypatch.setattr(gpu_scratch, "_KNOWN", {})  # another process
    followed_steps.PREDICTED.clear()
    assert memory_curve(open_plan) == first and resolve_plan(smallest) == planned
    assert len(asked.times) == 3


@pytest.mark.slow  # two processes begin
def test_processes_that_predict_ask_no_gpu_but_the_one_that_began_them_does(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_many, "WORTH_A_PROCESS", 2)
    configs = [dataclasses.replace(CONFIG, batch_size=n, micro_batch_size=n) for n in (2, 3, 4, 5)]
    found = predict_memories(configs, processes=2)
    assert len(asked.times) == 1 and not any(prediction.calls_not_known for prediction in found)
    followed_steps.PREDICTED.clear()
    assert [predict_memory(config) for config in configs] == found
    assert len(asked.times) == 1


def test_the_peak_of_the_second_run_counts_and_a_call_without_room_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The counters of an allocator that gave 700 bytes more than the outputs hold."""
    counted = {"requested_bytes.all.peak": 1000, "requested_bytes.all.current": 300}
    done: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: done.append("reset"))
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda: done.append("read") or counted)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: done.append("emptied"))

    def runs(x: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
        done.append("ran")
        if dims == [1]:
            raise torch.OutOfMemoryError
        return x.sum(dims)

    x, func = torch.empty(4, 1 << 14), gpu_scratch._ASKED["sum"]
    calls = [str(call_of(func, (x, [dim]), {}, tf32=False)) for dim in (0, 1)]
    monkeypatch.setattr(gpu_scratch, "_ASKED", {"sum": runs})
    assert gpu_scratch.ask_gpu(calls, "cpu") == {calls[0]: 700}
    assert done == ["ran", "reset", "ran", "read", "emptied", "ran", "emptied"]


def test_what_there_was_no_room_for_is_left_out_and_not_asked_again(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(calls: Sequence[str]) -> Mapping[str, int]:
        return {call: 1 for call in calls if call != "large"}

    assert scratch_bytes_of(["large", "small"], no_room) == {"small": 1}
    assert not may_learn(["large"])
    assert scratch_bytes_of(["large", "other"], no_room) == {"other": 1}
    assert caplog.messages == ["the GPU had no room to say what 1 of 2 operations allocate: not counted"]


def test_a_gpu_that_fails_is_no_obstacle_and_is_not_asked_again(
    asked: Asked, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(calls: Sequence[str]) -> Mapping[str, int]:
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    assert scratch_bytes_of(["one"], fails) == {} and not may_learn(["one"])
    assert scratch_bytes_of(["one"]) == {} and asked.times == []
    assert caplog.messages == [
        "the GPU does not say what its kernels allocate (CUDA out of memory.): not counted"
    ]


def test_a_damaged_file_is_as_none(asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scratch_bytes_of(["one"], lambda calls: {"one": 5}) == {"one": 5}
    for damaged in ("[]", '{"bytes": {"one": null}}', "{"):
        (file,) = tmp_path.rglob("gpu_scratch_*.json")
        monkeypatch.setattr(gpu_scratch, "_KNOWN", {})
        file.write_text(damaged)
        assert scratch_bytes_of(["one"], lambda calls: {"one": 7}) == {"one": 7}


def test_a_study_that_began_on_a_gpu_is_told_if_none_is_here(
    asked: Asked, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_scratch, "_may_ask", lambda: False)
    assert predict_memory(CONFIG).calls_not_known
    assert predict_memory(dataclasses.replace(CONFIG, num_classes=5)).peak_mib > 8.0
    assert caplog.messages == [
        "no GPU is here to say what its kernels allocate, as one did before: not counted"
    ]

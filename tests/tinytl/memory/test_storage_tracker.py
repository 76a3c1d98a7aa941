import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.gradient_checkpoints.segment import checkpoint_segment
from tinytl.memory.measure import MIB
from tinytl.memory.storage_tracker import StorageTracker


def test_tracker_follows_storages() -> None:
    tracker = StorageTracker(on_cpu=False)
    kept = torch.zeros(100)  # 400 bytes: a block of 512, as on a GPU
    tracker.add_existing("parameters", [kept, kept[:3]])
    with tracker.modules, tracker:
        large = torch.zeros(1000)  # 4096 with its rounding
        view = large[:10]
        del large
        late = torch.zeros(128)  # 512
        del view
        small_one = torch.zeros(1)
    prediction = tracker.prediction()
    assert prediction.peak_mib * MIB == 512 + 4096 + 512
    assert {part: mib * MIB for part, mib in prediction.parts_mib.items() if mib} == {
        "parameters": 512,
        "temporary": 4608,
    }
    assert prediction.peak_at == "input or loss forward"
    assert late.numel() + small_one.numel() == 129


def test_tracker_names_the_place() -> None:
    class _Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Linear(8, 4096, bias=False), nn.Linear(4096, 1, bias=False))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.features(x)

    tracker, net = StorageTracker(), _Net()
    with torch.no_grad(), tracker.modules, tracker:
        net(torch.zeros(4, 8))
    assert re.fullmatch(r"features\.[01] forward", tracker.prediction().peak_at)


class Wide(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat(1, 1000).view(len(x), 1000, -1).sum(1)


def test_the_peak_of_a_second_run_is_placed() -> None:
    segment = checkpoint_segment.insert_checkpoint(nn.Sequential(Wide(), nn.Linear(8, 8)))
    net, x = nn.Sequential(segment, nn.Linear(8, 1)), torch.zeros(4, 8)
    tracker = StorageTracker()
    with tracker.modules, tracker:
        net(x).sum().backward()
    assert tracker.prediction().peak_at == "0.0 backward"
    assert tracker.modules.again == []


NORMS = {
    "batch norm": lambda x, w: F.batch_norm(x, x.new_zeros(6), x.new_ones(6), w, w, training=True),
    "frozen batch norm": lambda x, w: F.batch_norm(x, x.new_zeros(6), x.new_ones(6), w, w),
    "group norm": lambda x, w: F.group_norm(x, 3, w, w),
}


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("norm", NORMS)
def test_a_norm_of_fake_tensors_allocates_what_a_real_one_does(norm, memory_format, trained) -> None:
    def traced(device: str) -> tuple[object, ...]:
        x = torch.ones(2, 6, 5, 4, device=device).contiguous(memory_format=memory_format).requires_grad_()
        weight = torch.ones(6, device=device, requires_grad=trained)
        tracker = StorageTracker(on_cpu=False)
        tracker.add_existing("parameters", [x, weight])
        with tracker:
            y = NORMS[norm](x, weight)
            y.backward(torch.empty_like(y))
        prediction = tracker.prediction()
        return y.stride(), x.grad.stride(), weight.grad is None, prediction.peak_mib, prediction.parts_mib

    real = traced("cpu")
    with FakeTensorMode():
        assert traced("cuda") == real

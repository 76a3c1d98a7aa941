import pytest
import torch
from torch import nn

from tinytl.memory.measure import MIB, PeakMeter, process_peak_mib, state_tensors, storage_bytes

FLOATS_PER_MIB = MIB // 4


def _net_and_optimizer() -> tuple[nn.Module, torch.optim.Optimizer]:
    net = nn.Linear(FLOATS_PER_MIB, 1, bias=False)  # 1 MiB
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    net.weight.grad = torch.zeros_like(net.weight)
    optimizer.step()
    return net, optimizer


def test_peak_is_what_was_there_and_what_came_on_top() -> None:
    net, optimizer = _net_and_optimizer()  # weight, gradient, two moments: 4 MiB, and a step counter
    batch = [torch.zeros(FLOATS_PER_MIB // 2)]
    other = torch.zeros(FLOATS_PER_MIB)
    with PeakMeter(net, optimizer, batch) as meter:
        for mib in (1, 3, 2):
            freed = torch.empty(mib * FLOATS_PER_MIB)
            del freed
    assert meter.peak_mib == pytest.approx(4.5 + 3, abs=1e-5)
    assert other.numel() == FLOATS_PER_MIB


def test_what_is_kept_adds_up() -> None:
    net, optimizer = _net_and_optimizer()
    with PeakMeter(net, optimizer, []) as meter:
        kept = [torch.empty(FLOATS_PER_MIB) for _ in range(3)]
    assert len(kept) == 3
    assert meter.peak_mib == pytest.approx(4 + 3, abs=1e-5)


def test_what_was_read_within_a_step_counts() -> None:
    net, optimizer = _net_and_optimizer()
    with PeakMeter(net, optimizer, []) as meter:
        kept = torch.empty(2 * FLOATS_PER_MIB)
        meter.read_so_far()
        more = torch.empty(3 * FLOATS_PER_MIB)
        del kept, more
        meter.read_so_far()
    assert meter.peak_mib == pytest.approx(4 + 5, abs=1e-5)


def test_a_disabled_meter_measures_nothing() -> None:
    with PeakMeter(*_net_and_optimizer(), [], enabled=False) as meter:
        torch.empty(FLOATS_PER_MIB)
    assert not hasattr(meter, "peak_mib")


def test_an_error_passes_through() -> None:
    with pytest.raises(KeyError, match="inside"), PeakMeter(*_net_and_optimizer(), []):
        raise KeyError("inside")


def test_each_storage_is_counted_once() -> None:
    base = torch.zeros(10)
    assert storage_bytes([base, base[2:], base.view(2, 5), torch.zeros(3, dtype=torch.uint8)]) == 43


def test_state_tensors() -> None:
    net = nn.BatchNorm2d(2)
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    assert len(state_tensors(net, optimizer)) == 2 + 3
    net(torch.randn(2, 2, 3, 3)).sum().backward()
    assert len(state_tensors(net, optimizer)) == 2 + 3 + 2
    optimizer.step()
    assert len(state_tensors(net, optimizer)) == 2 + 3 + 2 + 2 * 3


def test_the_process_is_larger_than_any_tensor() -> None:
    before = process_peak_mib()
    assert before > 50
    torch.zeros(64 * FLOATS_PER_MIB)
    assert process_peak_mib() >= before

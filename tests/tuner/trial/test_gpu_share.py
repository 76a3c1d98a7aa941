from types import SimpleNamespace

import pytest
import torch

from tuner.cluster.resources import MARGIN, share_of
from tuner.trial import gpu_share
from tuner.trial.gpu_share import CUDA_CONTEXT_MIB, GpuShare, assigned_gpus, keep_to_share

TOTAL_MIB = 16 * 1024


@pytest.fixture
def bounded(monkeypatch):
    """A GPU of 16 GiB; lists the parts to which this process was bounded."""
    parts = []
    total = SimpleNamespace(total_memory=TOTAL_MIB * 2**20)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: total)
    # torch's own check of the device runs.
    monkeypatch.setattr(torch.cuda.memory, "_lazy_init", lambda: None)
    monkeypatch.setattr(
        torch._C, "_cuda_setMemoryFraction", lambda part, device: parts.append(part), raising=False
    )
    return parts


def given(monkeypatch, share):
    monkeypatch.setattr(gpu_share, "assigned_gpus", lambda: share)


def test_a_process_is_bounded_to_its_share_less_cudas_own(bounded, monkeypatch):
    given(monkeypatch, 0.25)
    share = keep_to_share(torch.device("cuda"))
    assert share == GpuShare(TOTAL_MIB / 4 - CUDA_CONTEXT_MIB)
    assert bounded == [pytest.approx(0.25 - CUDA_CONTEXT_MIB / TOTAL_MIB)]


@pytest.mark.parametrize("peak_mib", [40.0, 1000.0, 7000.0, 14_000.0])
def test_a_share_that_follows_from_memory_has_room_for_the_trial_and_its_margin(
    bounded, monkeypatch, peak_mib
):
    given(monkeypatch, share_of(peak_mib, TOTAL_MIB))
    share = keep_to_share(torch.device("cuda"))
    assert share is None or share.allowed_mib >= peak_mib * (1 + MARGIN)


@pytest.mark.parametrize(("device", "share"), [("cpu", 0.5), ("cuda", 1.0), ("cuda", 2.0), ("cuda", 0.0)])
def test_a_cpu_and_whole_gpus_are_not_bounded(bounded, monkeypatch, device, share):
    given(monkeypatch, share)
    assert keep_to_share(torch.device(device)) is None
    assert not bounded


def test_only_what_the_share_had_room_for_is_a_neighbours_fault():
    share, full = GpuShare(1000.0), torch.cuda.OutOfMemoryError("CUDA out of memory.")
    assert share.neighbours_fault(full, 1000.5) is None
    assert "needed 900 MiB and its share of the GPU gives it 1,000" in share.neighbours_fault(full, 900.0)
    assert share.neighbours_fault(MemoryError(), 900.0) is None  # the host's
    unused = "CUDA out of memory. 120.00 MiB is reserved by PyTorch but unallocated"
    assert share.neighbours_fault(torch.cuda.OutOfMemoryError(unused), 900.0) is None


def test_outside_of_ray_nothing_is_assigned():
    assert assigned_gpus() == 0.0

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from tinytl.memory.storage_tracker import StorageTracker

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

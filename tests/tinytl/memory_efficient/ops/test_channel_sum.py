import pytest
import torch

from tinytl.memory_efficient.ops import channel_sum as of_channels
from tinytl.memory_efficient.ops.channel_sum import channel_sum
from tinytl.memory_efficient.ops.measured_scratch import memory_profile, peak_of_events


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_it_is_the_sum_over_all_but_channels(form: torch.memory_format, dtype: torch.dtype) -> None:
    x = torch.randn(9, 5, 7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x.to(dtype).contiguous(memory_format=form)
    assert channel_sum(x).dtype is dtype
    torch.testing.assert_close(channel_sum(x), x.double().sum((0, 2, 3)).to(dtype))
    assert torch.equal(channel_sum(x[:0]), torch.zeros(5, dtype=dtype))
    torch.testing.assert_close(channel_sum(x[:, :, 0, 0]), x[:, :, 0, 0].double().sum(0).to(dtype))


def test_16_bits_need_a_copy_of_a_few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(8, 16, 32, 32).to(torch.bfloat16)
    monkeypatch.setattr(of_channels, "AT_A_TIME_BYTES", x[:2].nbytes)
    with memory_profile() as events:
        channel_sum(x)
    assert peak_of_events(events) < 2 * x[:2].nbytes + 4096

import torch
from torch import nn

from tinytl.gradient_checkpoints.recompute import KeepStatistics, Surroundings, owner
from tinytl.networks.frozen_batch_norm import FrozenBatchNorm2d


def test_only_statistics_that_would_move_are_copied():
    net = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2).eval(), FrozenBatchNorm2d(2).train())
    net.append(nn.BatchNorm2d(2, track_running_stats=False)).append(
        nn.InstanceNorm2d(2, track_running_stats=True)
    )
    before = {name: (buffer, buffer.clone()) for name, buffer in net.named_buffers()}
    kept = KeepStatistics(net)
    for _ in range(2):
        with kept:
            copied = {name for name, buffer in net.named_buffers() if buffer is not before[name][0]}
            net(torch.randn(3, 2, 4, 4))
        assert {name.partition(".")[0] for name in copied} == {"0", "4"}
        for name, buffer in net.named_buffers():
            assert buffer is before[name][0] and torch.equal(buffer, before[name][1])


def test_statistics_return_after_an_error():
    norm = nn.BatchNorm1d(3)
    before = dict(norm.named_buffers())
    try:
        with KeepStatistics(norm):
            norm(torch.zeros(1))
    except ValueError:
        pass
    assert all(buffer is before[name] for name, buffer in norm.named_buffers())


def test_surroundings_return_as_often_as_asked():
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16):
        then = Surroundings([torch.zeros(1)])
    first = torch.rand(())
    for _ in range(2):
        outside = torch.get_rng_state()
        with then.restored():
            assert torch.equal(torch.rand(()), first) and torch.is_autocast_enabled("cpu")
        assert torch.equal(torch.get_rng_state(), outside) and not torch.is_autocast_enabled("cpu")
        torch.rand(())


def test_owner():
    net = nn.ReLU()
    assert owner(net) is owner(net.forward) is net
    assert owner(torch.exp) is owner(lambda x: x) is None

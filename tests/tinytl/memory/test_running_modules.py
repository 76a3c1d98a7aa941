import re

import torch
from torch import nn

from tinytl.gradient_checkpoints.segment import checkpoint_segment
from tinytl.memory.storage_tracker import StorageTracker


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


def test_a_module_that_returns_its_input_is_no_place() -> None:
    net = nn.Sequential(nn.Linear(8, 8), nn.Sequential(nn.Identity()), nn.Linear(8, 1))
    tracker, seen = StorageTracker(), []
    kept: list[torch.Tensor] = []
    net[0].register_forward_hook(lambda _module, _inputs, y: kept.append(y))
    with tracker.modules, tracker:
        loss = net(torch.zeros(4, 8)).sum()
        kept[0].register_hook(lambda _: seen.append(tracker.modules.place()))
        loss.backward()
    assert seen == ["0 backward"]

import json

import pytest
import torch
from torch import nn

from benchmarks.memory import net_peer_ways, net_peers
from benchmarks.memory.net_peers import Measured, missing, time_limit


class TinyBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.norm(self.conv(x)).relu()


def tiny_net(_: str) -> nn.Module:
    blocks = [TinyBlock() for _ in range(4)]
    return nn.Sequential(nn.Conv2d(3, 8, 3), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    monkeypatch.setattr(net_peers, "build", tiny_net)
    monkeypatch.setattr(net_peers, "RESOLUTION", 32)
    return Measured("tiny", "everything", {})


def test_a_row_says_what_a_step_needs_and_whether_its_budget_is_kept(measured: Measured):
    stock = measured.row("stock")
    assert stock["peak_mib"] > stock["kept_mib"] > 0
    assert stock["gradient_error"] == 0
    fit = measured.row("fit 0.5")
    assert fit["budget_mib"] == pytest.approx(stock["peak_mib"] - stock["kept_mib"] / 2, abs=0.001)
    assert fit["mib_kept"] and fit["gradient_error"] < 1e-4
    again = measured.row("checkpoint")
    assert again["kept_mib"] < stock["kept_mib"]
    assert json.dumps([stock, fit, again])


def test_a_way_that_fails_or_refuses_says_so(measured: Measured, monkeypatch: pytest.MonkeyPatch):
    measured.row("stock")
    measured.known["stock"] |= {"peak_mib": 0.01, "kept_mib": 0.0}
    assert "0.01" in measured.row("fit 0.5")["refused"]
    monkeypatch.setitem(net_peer_ways.EAGER_WAYS, "checkpoint", lambda net: 1 / 0)
    assert measured.row("checkpoint")["failed"].startswith("ZeroDivisionError")


def test_the_last_quarter_trains_from_its_first_block_on():
    net = net_peer_ways.freeze_(tiny_net(""), "last quarter")
    assert [name for name, p in net.named_parameters() if p.requires_grad] == [
        *(f"4.{name}" for name in ("conv.weight", "conv.bias", "norm.weight", "norm.bias")),
        *("7.weight", "7.bias"),
    ]


def test_rows_that_are_there_are_not_missing():
    row = {"net": "timm/ghostnet_100", "freeze": "everything", "way": "stock"}
    known, ways = missing([row], row["net"], row["freeze"])
    assert known == {"stock": row}
    assert "stock" not in ways and "compile 0.3" in ways and "inductor" not in ways


def test_what_takes_too_long_is_stopped():
    with pytest.raises(TimeoutError), time_limit(1):
        while True:
            pass

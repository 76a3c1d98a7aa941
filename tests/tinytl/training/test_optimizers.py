import subprocess
import sys
from functools import partial

import pytest
import torch
from torch import nn

from tests.support.places import ROOT
from tinytl.training.optimizers import SGD, Adam, AdamW

KINDS = {
    "adam": (Adam, torch.optim.Adam),
    "adamw": (AdamW, torch.optim.AdamW),
    "sgd": (partial(SGD, momentum=0.9), partial(torch.optim.SGD, momentum=0.9)),
}
WITHOUT_COMPILER = """
import sys, torch
from tinytl.training.int8_adam import Int8Adam
from tinytl.training.optimizers import SGD, Adam, AdamW

for kind in (Adam, AdamW, SGD, Int8Adam):
    weight = torch.nn.Parameter(torch.ones(5000))
    optimizer = kind([weight], 0.1)
    (weight**2).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
    assert weight[0] < 1
print("torch._dynamo" in sys.modules)
"""


def test_no_optimiser_loads_the_compiler() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_COMPILER],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "False\n")


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_are_those_of_torch(kind: str, fused: bool) -> None:
    torch.manual_seed(0)
    nets, optimizers = [], []
    for build in KINDS[kind]:
        net = nn.Linear(6, 3)
        if nets:
            net.load_state_dict(nets[0].state_dict())
        nets.append(net)
        optimizers.append(build(net.parameters(), 0.1, weight_decay=0.01, fused=fused))
    for _ in range(3):
        x = torch.randn(4, 6)
        for net, optimizer in zip(nets, optimizers, strict=True):
            net(x).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))
    optimizers[1].load_state_dict(optimizers[0].state_dict())
    assert nets[0].weight.grad is None

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensor, FakeTensorMode

from tests.support.places import ROOT
from tinytl.memory.light_fake_mode import LightFakeMode

LIGHT = """
import sys
from tinytl.config.train_config import TrainConfig
from tinytl.memory.predict import predict_memory, resolve_plan

shared = dict(num_classes=4, weights="none", resolution=64)
for method in ("TinyTL-B", "TinyTL-L+B", "FT-Full"):
    predict_memory(TrainConfig(backbone="mobilenet_v2", method=method, **shared))
    resolve_plan(TrainConfig(method=method, plan="smallest", batch_size=4, **shared))
print(*sorted({"torch._dynamo", "torch._inductor", "sympy", "triton"} & sys.modules.keys()))
"""


def test_predictions_load_no_compiler() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIGHT], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stderr, done.stdout.split()) == (0, "", [])


def test_tensors_of_a_light_mode_are_those_of_a_whole_one() -> None:
    found = []
    for mode in (FakeTensorMode(), LightFakeMode()):
        with mode:
            x = torch.randint(0, 9, (2, 3, 8, 8)).to(torch.float32, memory_format=torch.channels_last)
            mean = torch.tensor((1.0, 2.0, 3.0)).view(1, 3, 1, 1) * 255
            made = [x, mean, x.sub_(mean), torch.zeros(3, dtype=torch.int8), torch.rand(4) >= 0.5]
            made += [torch.empty_strided((2, 3), (1, 2)), torch.full((2,), 7), nn.Conv2d(3, 4, 3).weight]
            y = torch.relu(nn.Conv2d(3, 4, 3, padding=1)(x))
            made += [y, y.mean((2, 3)), torch.linalg.norm(y), torch.cat([y, y])]
        assert all(isinstance(tensor, FakeTensor) for tensor in made)
        found.append([(t.shape, t.stride(), t.dtype, t.device) for t in made])
    assert found[0] == found[1]


def test_a_light_mode_becomes_a_whole_one_for_what_it_does_not_know() -> None:
    with LightFakeMode() as mode:
        x = torch.empty(4)
        assert not hasattr(mode, "fake_tensor_converter")
        with pytest.raises(DynamicOutputShapeException):
            torch.nonzero(x)
        assert hasattr(mode, "fake_tensor_converter")
        assert (x + 1).shape == (4,)
    assert torch.empty(2).sum().device.type == "cpu"
    assert not isinstance(torch.empty(2), FakeTensor)

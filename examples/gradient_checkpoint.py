"""Gradient checkpoints on MobileNetV2, in the two ways of the report: the memory of a training step.

python examples/gradient_checkpoint.py [--batch-sizes 1 8] [--resolution 224]
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))

from tinytl import checkpoint_segment
from tinytl.gradient_checkpoints.function import CheckpointFunction
from tinytl.memory.measure import PeakMeter


class ByFunction(nn.Module):
    """A segment under `CheckpointFunction`: its inputs first, then the parameters that want gradients."""

    def __init__(self, segment: nn.Module) -> None:
        super().__init__()
        self.segment = segment

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the segment's input, and recomputes the segment in backward."""
        return CheckpointFunction.apply(self.segment, 1, x, *self.segment.parameters())


WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "no checkpoint": lambda segment: segment,
    "checkpoint_segment": checkpoint_segment.insert_checkpoint,
    "CheckpointFunction": ByFunction,
}


def step_peak_mib(way: Callable[[nn.Module], nn.Module], batch_size: int, resolution: int) -> float:
    """Returns the peak of a step of full fine-tuning with `way` at every inverted residual, in MiB."""
    torch.manual_seed(0)
    net = torchvision.models.mobilenet_v2(num_classes=10)
    for index in range(1, len(net.features) - 1):
        net.features[index] = way(net.features[index])
    optimizer = torch.optim.Adam(net.parameters(), 3e-4, fused=True)
    images, labels = torch.randn(batch_size, 3, resolution, resolution), torch.arange(batch_size) % 10
    for _ in range(2):  # the first step makes the optimiser's state
        with PeakMeter(net, optimizer, (images, labels)) as meter:
            nn.functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    return meter.peak_mib


def main() -> None:
    """Prints a line for each batch size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--resolution", type=int, default=224)
    args = parser.parse_args()
    print("batch   " + "   ".join(f"{name:>18}" for name in WAYS) + "   (MiB)")
    for batch_size in args.batch_sizes:
        peaks = [step_peak_mib(way, batch_size, args.resolution) for way in WAYS.values()]
        print(f"{batch_size:>5}   " + "   ".join(f"{peak:>18.1f}" for peak in peaks))


if __name__ == "__main__":
    main()

"""A training loop of plain PyTorch within a memory budget, on a network of torchvision.

python examples/any_network.py [--net mobilenet_v3_small] [--budget-mib 40] [--steps 20]
"""

import argparse
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision

sys.path.insert(0, str(Path(__file__).parents[1]))

from tinytl import fit_budget
from tinytl.memory.measure import PeakMeter


def main() -> None:
    """Trains biases and head on random images; prints what a step needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="mobilenet_v3_small")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--budget-mib", type=float, default=40)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    torch.manual_seed(0)
    net = torchvision.models.get_model(args.net, num_classes=10).eval()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    images = torch.randn(args.batch_size, 3, args.resolution, args.resolution)
    labels = torch.arange(args.batch_size) % 10

    fit = fit_budget(net, images, args.budget_mib)
    print(f"recompute: {fit.execution.recompute}, micro-batches of {fit.micro_batch_size}")
    print(f"predicted: {fit.prediction.peak_mib:.1f} MiB {fit.prediction.what_sets_it()}")

    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], 1e-3, fused=True)
    for step in range(args.steps):
        with PeakMeter(net, optimizer, (images, labels), enabled=step == args.steps - 1) as meter:
            loss = 0.0
            for part, of_part in zip(
                images.split(fit.micro_batch_size), labels.split(fit.micro_batch_size), strict=True
            ):
                share = F.cross_entropy(net(part), of_part, reduction="sum") / len(images)
                share.backward()
                loss += share.item()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    print(f"measured:  {meter.peak_mib:.1f} MiB (allocator); loss {loss:.3f} after {args.steps} steps")


if __name__ == "__main__":
    main()

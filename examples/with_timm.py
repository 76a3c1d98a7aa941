"""timm's training script, in short, within a memory budget: Mixup, AdamW, a schedule, an average of weights.

python examples/with_timm.py [--net mobilenetv4_conv_small] [--budget-mib 40] [--updates 4]
"""

import argparse
import sys
from pathlib import Path

import timm
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, dispatch_clip_grad
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from tinytl import fit_budget, make_memory_efficient_, max_batch_size, predict_step
from tinytl.memory.measure import PeakMeter


def optimizer_of(parameters: object) -> torch.optim.Optimizer:
    """Returns what `--opt adamw` of timm's script makes."""
    return create_optimizer_v2(parameters, opt="adamw", lr=1e-3, weight_decay=0.0)


def main() -> None:
    """Trains biases and head on random images; prints what a step needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="mobilenetv4_conv_small")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--budget-mib", type=float, default=24)
    parser.add_argument("--updates", type=int, default=4)
    args = parser.parse_args()
    torch.manual_seed(0)
    net = timm.create_model(args.net, num_classes=10).eval()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.endswith("bias") or name.startswith("classifier"))
    loss_of = SoftTargetCrossEntropy()
    images = torch.empty(args.batch_size, 3, args.resolution, args.resolution)
    step = {"optimizer": optimizer_of, "loss": lambda logits: loss_of(logits, torch.empty(len(logits), 10))}
    print(f"stock:     {predict_step(net, images, **step).peak_mib:.1f} MiB (predicted)")

    print(make_memory_efficient_(net))
    fit = fit_budget(net, images, args.budget_mib, **step)
    print(f"a pass of {max_batch_size(net, args.budget_mib, images, **step)} images would fit")

    print(f"recompute: {fit.execution.recompute}, micro-batches of {fit.micro_batch_size}")
    print(f"predicted: {fit.prediction.peak_mib:.1f} MiB {fit.prediction.what_sets_it()}")
    mixup = Mixup(mixup_alpha=0.8, num_classes=10)
    optimizer = optimizer_of([p for p in net.parameters() if p.requires_grad])
    scheduler, _ = create_scheduler_v2(optimizer, num_epochs=1, updates_per_epoch=args.updates)
    average = ModelEmaV3(net, decay=0.99)  # a copy of its own, beside the step
    for update in range(args.updates):
        images, targets = mixup(*next_batch(args.batch_size, args.resolution))
        parts = list(
            zip(images.split(fit.micro_batch_size), targets.split(fit.micro_batch_size), strict=True)
        )
        with PeakMeter(net, optimizer, (images, targets), enabled=update == args.updates - 1) as meter:
            for part, of_part in parts:
                loss = loss_of(net(part), of_part) * len(part) / len(images)
                loss.backward()
            dispatch_clip_grad([p for p in net.parameters() if p.requires_grad], 1.0)
            optimizer.step()
            optimizer.zero_grad()
        average.update(net, step=update)
        scheduler.step_update(update + 1)
    print(f"measured:  {meter.peak_mib:.1f} MiB (allocator); {args.updates} updates")


def next_batch(size: int, resolution: int) -> tuple[Tensor, Tensor]:
    """Returns what a loader would."""
    return torch.randn(size, 3, resolution, resolution), torch.randint(0, 10, (size,))


if __name__ == "__main__":
    main()

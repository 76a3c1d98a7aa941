"""A Lightning module within a memory budget: `pip install lightning`.

python examples/with_lightning.py [--net efficientnet_b0] [--budget-mib 40] [--precision bf16-mixed]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import lightning
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parents[1]))

from tinytl import fit_budget, make_memory_efficient_, max_batch_size, predict_step
from tinytl.memory.measure import PeakMeter

MIXED = {"32-true": None, "bf16-mixed": torch.bfloat16}


class Classifier(lightning.LightningModule):
    """Trains what of `net` needs a gradient."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: list[Tensor], index: int) -> Tensor:
        """Returns the loss."""
        images, labels = batch
        return F.cross_entropy(self.net(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns Adam."""
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], 1e-3)


class Meter(lightning.Callback):
    """Measures the last pass and the optimiser's step behind it."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: list[Tensor], index: int) -> None:
        """Begins."""
        last = index == trainer.num_training_batches - 1
        self.meter = PeakMeter(module, trainer.optimizers[0], batch, enabled=last)
        self.meter.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        """Ends."""
        self.meter.__exit__(None, None, None)


def main() -> None:
    """Trains biases and head on random images; prints what a step needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="efficientnet_b0")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--budget-mib", type=float, default=40)
    parser.add_argument("--updates", type=int, default=3)
    parser.add_argument("--precision", default="32-true", choices=MIXED)
    args = parser.parse_args()
    lightning.seed_everything(0, verbose=False)
    net = torchvision.models.get_model(args.net, num_classes=10).eval()  # Lightning keeps the mode
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.endswith("bias") or name.startswith("classifier"))
    images = torch.randn(args.batch_size, 3, args.resolution, args.resolution)
    data = [(image, index % 10) for index, image in enumerate(images)] * args.updates
    step = {"optimizer": torch.optim.Adam, "autocast": MIXED[args.precision]}
    print(f"stock:     {predict_step(net, images, **step).peak_mib:.1f} MiB (predicted)")

    print(make_memory_efficient_(net))
    fit = fit_budget(net, images, args.budget_mib, whole_in_memory=False, **step)
    print(f"a pass of {max_batch_size(net, args.budget_mib, images, **step)} images would fit")

    print(f"recompute: {fit.execution.recompute}, micro-batches of {fit.micro_batch_size}")
    print(f"predicted: {fit.prediction.peak_mib:.1f} MiB {fit.prediction.what_sets_it()}")
    callback = Meter()
    trainer = lightning.Trainer(
        accelerator="cpu",
        precision=args.precision,
        accumulate_grad_batches=-(-args.batch_size // fit.micro_batch_size),
        gradient_clip_val=1.0,
        max_epochs=1,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(net), DataLoader(data, batch_size=fit.micro_batch_size))
    print(f"measured:  {callback.meter.peak_mib:.1f} MiB (allocator); {trainer.global_step} updates")


if __name__ == "__main__":
    main()

"""transformers.Trainer within a memory budget: `pip install transformers accelerate`.

python examples/with_transformers.py [--net mobilenet_v2] [--budget-mib 40] [--bf16]
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).parents[1]))

from tinytl import fit_budget, make_memory_efficient_, max_batch_size, predict_step
from tinytl.memory.measure import PeakMeter
from tinytl.networks.frozen_batch_norm import freeze_bn_

RESNET_18 = {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}
EFFICIENTNET_B0 = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}
NETS = {
    "mobilenet_v2": ("MobileNetV2", {}),
    "resnet18": ("ResNet", RESNET_18),
    "convnext_tiny": ("ConvNext", {}),
    "efficientnet_b0": ("EfficientNet", EFFICIENTNET_B0),
}


class Meter(transformers.TrainerCallback):
    """Measures the last update."""

    def __init__(self, batch: dict[str, torch.Tensor]) -> None:
        self.batch = batch

    def on_step_begin(self, args: Any, state: Any, control: Any, **of: Any) -> None:
        """Begins."""
        last = state.global_step == state.max_steps - 1
        self.meter = PeakMeter(of["model"], of["optimizer"], self.batch.values(), enabled=last)
        self.meter.__enter__()

    def on_step_end(self, *_: Any, **of: Any) -> None:
        """Ends."""
        self.meter.__exit__(None, None, None)


def main() -> None:
    """Trains biases and head on random images; prints what a step needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--net", default="mobilenet_v2", choices=NETS)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--budget-mib", type=float, default=40)
    parser.add_argument("--updates", type=int, default=3)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    family, settings = NETS[args.net]
    config = getattr(transformers, f"{family}Config")(num_labels=10, **settings)
    net = getattr(transformers, f"{family}ForImageClassification")(config)
    net.accepts_loss_kwargs = False  # its loss is a batch's mean: the trainer divides it by the micro-batches
    freeze_bn_(net)  # the trainer calls net.train()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.endswith("bias") or name.startswith("classifier"))
    images = torch.randn(args.batch_size, 3, args.resolution, args.resolution)
    batch = {"pixel_values": images, "labels": torch.arange(args.batch_size) % 10}

    step = {"autocast": torch.bfloat16 if args.bf16 else None}  # the loss is the output's
    print(f"stock:     {predict_step(net, batch, **step).peak_mib:.1f} MiB (predicted)")

    print(make_memory_efficient_(net))
    fit = fit_budget(net, batch, args.budget_mib, **step)
    print(f"a batch of {max_batch_size(net, args.budget_mib, batch, **step)} images would fit")

    print(f"recompute: {fit.execution.recompute}, micro-batches of {fit.micro_batch_size}")
    print(f"predicted: {fit.prediction.peak_mib:.1f} MiB {fit.prediction.what_sets_it()}")
    callback = Meter(batch)
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            folder,
            per_device_train_batch_size=fit.micro_batch_size,
            gradient_accumulation_steps=-(-args.batch_size // fit.micro_batch_size),
            max_steps=args.updates,
            bf16=args.bf16,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
        )
        data = [{"pixel_values": image, "labels": index % 10} for index, image in enumerate(images)]
        trained = transformers.Trainer(net, arguments, train_dataset=data, callbacks=[callback]).train()
    print(f"measured:  {callback.meter.peak_mib:.1f} MiB (allocator); loss {trained.training_loss:.3f}")


if __name__ == "__main__":
    main()

"""What two processes compute together, against one with the whole batch: started by torchrun, prints JSON.

python -m torch.distributed.run --standalone --nproc-per-node 2 -m benchmarks.gpu.two_ranks cuda
"""

import json
import sys

import torch
from torch import Tensor

from tinytl.build import build_model
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.device import resolve_device
from tinytl.training.data_parallel import ALONE, Ranks, joined_ranks
from tinytl.training.step import build_optimizer, random_batch, step_of


def after_a_step(config: TrainConfig, ranks: Ranks) -> list[Tensor]:
    """Returns what a step with this process's share leaves: the trained parameters, and the loss."""
    device = resolve_device(config.device)
    torch.manual_seed(0)
    net = build_model(config).net.to(device)
    images, labels = random_batch(config, device)
    share = ranks.share(config.batch_size)
    step = step_of(config, net, build_optimizer(net, config), device)
    loss, _ = step(images[share], labels[share], ranks=ranks, batch_size=config.batch_size)
    return [*(p.detach() for p in net.parameters() if p.requires_grad), loss]


def main() -> None:
    """Prints the largest difference of a step's result, over the largest of its tensor."""
    config = lean_plan(
        TrainConfig(
            backbone="mobilenet_v2", weights="none", method="TinyTL-L+B", norm="group_norm", num_classes=10,
            resolution=64, batch_size=8, optimizer="sgd", base_lr=0.1, device=sys.argv[1],
        )
    )  # fmt: skip
    with joined_ranks(config) as ranks:
        together, alone = (after_a_step(config, these) for these in (ranks, ALONE))
        off = [
            float((one - other).abs().max() / other.abs().max().clamp(min=1e-12))
            for one, other in zip(together, alone, strict=True)
        ]
        if ranks.is_first:
            print(json.dumps({"off_most": max(off), "tensors": len(off)}))


if __name__ == "__main__":
    main()

"""Evaluates a network on labelled images."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinytl.data.batches import eval_batches
from tinytl.data.splits import Split
from tinytl.training.data_parallel import ALONE, Ranks
from tinytl.training.mixed_precision import MixedPrecision


@torch.no_grad()
def evaluate(
    net: nn.Module,
    normalize: Callable[[Tensor], Tensor],
    images: Split,
    *,
    resolution: int,
    batch_size: int,
    precision: MixedPrecision,
    ranks: Ranks = ALONE,
    workers: int | None = None,
) -> tuple[float, float]:
    """Returns top-1 accuracy (a fraction) and mean cross entropy on `images`.

    Leaves `net` in evaluation mode. Several processes share the images and return the same figures. `workers`
    processes decode files.
    """
    net.eval()
    device = precision.device
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    share = images
    if ranks.world_size > 1:
        share = images.take(np.arange(ranks.rank, len(images), ranks.world_size))
    for batch, labels in eval_batches(
        share, batch_size=batch_size, resolution=resolution, device=device, workers=workers
    ):
        with precision.autocast():
            logits = net(normalize(batch))
        correct += (logits.argmax(1) == labels).sum()
        loss_sum += F.cross_entropy(logits.float(), labels, reduction="sum")
    ranks.sum_(correct, loss_sum)
    return int(correct.item()) / len(images), loss_sum.item() / len(images)

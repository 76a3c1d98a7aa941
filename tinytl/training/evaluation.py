"""Evaluates a network on labelled images."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinytl.data.batches import eval_batches
from tinytl.data.splits import Split
from tinytl.training.data_parallel import ALONE, Ranks
from tinytl.training.mixed_precision import MixedPrecision


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
    share = images
    if ranks.world_size > 1:
        share = images.take(np.arange(ranks.rank, len(images), ranks.world_size))
    batches = eval_batches(
        share, batch_size=batch_size, resolution=resolution, device=precision.device, workers=workers
    )
    correct, loss_sum = hits_and_loss(net, normalize, batches, precision)
    ranks.sum_(correct, loss_sum)
    return int(correct.item()) / len(images), loss_sum.item() / len(images)


@torch.no_grad()
def hits_and_loss(
    net: nn.Module,
    prepare: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    precision: MixedPrecision,
) -> tuple[Tensor, Tensor]:
    """Returns the number of right predictions and the summed cross entropy over batches, as tensors.

    A batch is what `prepare` makes the input of `net` from, and labels. Leaves `net` in evaluation mode.
    """
    net.eval()
    correct = torch.zeros((), dtype=torch.int64, device=precision.device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=precision.device)
    for batch, labels in batches:
        with precision.autocast():
            logits = net(prepare(batch))
        correct += (logits.argmax(1) == labels).sum()
        loss_sum += F.cross_entropy(logits.float(), labels, reduction="sum")
    return correct, loss_sum

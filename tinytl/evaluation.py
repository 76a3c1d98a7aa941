"""Judging a network on labelled images."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinytl.batches import eval_batches
from tinytl.data import ImageSet
from tinytl.data_parallel import ALONE, Ranks
from tinytl.mixed_precision import MixedPrecision


@torch.no_grad()
def evaluate(
    net: nn.Module,
    normalize: Callable[[Tensor], Tensor],
    images: ImageSet,
    *,
    resolution: int,
    batch_size: int,
    precision: MixedPrecision,
    ranks: Ranks = ALONE,
) -> tuple[float, float]:
    """Returns top-1 accuracy (a fraction) and mean cross entropy on `images`.

    Leaves `net` in evaluation mode. Several processes share the batches and return the same.
    """
    net.eval()
    device = precision.device
    correct = torch.zeros((), dtype=torch.int64, device=device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    batches = eval_batches(images, batch_size=batch_size, resolution=resolution)
    for turn, (batch, labels) in enumerate(batches):
        if turn % ranks.world_size != ranks.rank:
            continue
        labels = labels.to(device)
        with precision.autocast():
            logits = net(normalize(batch.to(device)))
        correct += (logits.argmax(1) == labels).sum()
        loss_sum += F.cross_entropy(logits.float(), labels, reduction="sum")
    ranks.sum_(correct, loss_sum)
    return int(correct.item()) / len(images), loss_sum.item() / len(images)

"""Evaluates a network on labelled images."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinytl.data.batches import eval_batches
from tinytl.data.splits import Split
from tinytl.training.data_parallel import ALONE, Ranks
from tinytl.training.judgements import Judgements
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
) -> Judgements:
    """Returns what `net` says of `images`.

    Leaves `net` in evaluation mode. Several processes share the images and return the same. `workers`
    processes decode files.
    """
    own = np.arange(ranks.rank, len(images), ranks.world_size)
    share = images.take(own) if ranks.world_size > 1 else images
    batches = eval_batches(
        share, batch_size=batch_size, resolution=resolution, device=precision.device, workers=workers
    )
    found = judge(net, normalize, batches, precision)
    if ranks.world_size > 1:
        whole = torch.zeros(found.shape[0], len(images), dtype=found.dtype, device=found.device)
        whole[:, torch.from_numpy(own).to(found.device)] = found
        ranks.sum_(whole)
        found = whole
    return judgements_of(found, images.labels)


@torch.no_grad()
def judge(
    net: nn.Module,
    prepare: Callable[[Tensor], Tensor],
    batches: Iterable[tuple[Tensor, Tensor]],
    precision: MixedPrecision,
) -> Tensor:
    """Returns `(3, N)`, float64, on the network's device, over the N images of all batches: the predicted
    class, its probability, and the cross entropy.

    A batch is what `prepare` makes the input of `net` from, and labels. Leaves `net` in evaluation mode.
    """
    net.eval()
    found = [torch.zeros(3, 0, dtype=torch.float64, device=precision.device)]
    for batch, labels in batches:
        with precision.autocast():
            logits = net(prepare(batch))
        predicted, logits = logits.argmax(1), logits.float()
        loss = F.cross_entropy(logits, labels, reduction="none")
        found.append(torch.stack([predicted.double(), logits.softmax(1).amax(1).double(), loss.double()]))
    return torch.cat(found, dim=1)


def judgements_of(found: Tensor, labels: np.ndarray) -> Judgements:
    """Returns what `judge` found of the images with these `labels`, read from the device."""
    predicted, confidence, losses = found.cpu().numpy()
    return Judgements(
        labels=labels,
        predicted=predicted.astype(np.int64),
        confidence=confidence.astype(np.float32),
        losses=losses.astype(np.float32),
    )

"""What a network gives its classifier for whole images, as it stands."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tinytl.data.batches import eval_batches
from tinytl.data.splits import Split


@torch.no_grad()
def features_before_head(
    net: nn.Module,
    normalize: Callable[[Tensor], Tensor],
    images: Split,
    *,
    resolution: int,
    batch_size: int,
    device: torch.device,
    workers: int | None = None,
    dtype: torch.dtype | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> tuple[Tensor, Tensor]:
    """Returns what goes into the classifier of `net`, `(N, C)`, and labels `(N,)`, in the images' order.

    `net` is in evaluation mode, on `device`. `workers` processes decode files. `dtype`: that of
    the features, if not what the network gives. `advance` is called with the number of images of each batch.

    Raises:
        ConfigError: naming a file that does not decode.
    """
    head = net.get_submodule("classifier")
    net.classifier = nn.Identity()
    features, labels = [], []
    try:
        for batch, of_batch in eval_batches(
            images, batch_size=batch_size, resolution=resolution, device=device, workers=workers
        ):
            features.append(net(normalize(batch)).to(dtype))
            labels.append(of_batch)
            advance(len(of_batch))
    finally:
        net.classifier = head
    return torch.cat(features), torch.cat(labels)

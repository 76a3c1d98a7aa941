"""The memory at which CUDA graphs read a micro-batch, masks and learning rates, and write sums."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tinytl.config.train_config import TrainConfig
from tinytl.device import copy_into
from tinytl.networks.dropout import RowwiseDropout, dropouts_of
from tinytl.training.mixing import first_class


@dataclass(frozen=True, kw_only=True)
class StaticBuffers:
    """What graphs read and write, besides the network and its optimiser's state, always at one place."""

    images: Tensor
    """`(M, 3, R, R)` uint8, channels_last: a micro-batch."""
    labels: Tensor
    """`(M,)` int64, or `(M, C)` float32 if pictures are mixed."""
    masks: Mapping[RowwiseDropout, Tensor]
    """`(M, C)` bool, for each module that drops features."""
    lrs: Sequence[Tensor]
    """Learning rate of each parameter group."""
    loss_sum: Tensor
    n_correct: Tensor

    @classmethod
    def of(
        cls, config: TrainConfig, net: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
    ) -> "StaticBuffers":
        """Makes those of a planned `config`, of zeros and the first class; masks drop nothing."""
        n, side = config.samples_in_memory, config.resolution
        images = torch.zeros((n, 3, side, side), dtype=torch.uint8, device=device)
        return cls(
            images=images.contiguous(memory_format=torch.channels_last),
            labels=first_class(config, n, device),
            masks={
                module: torch.ones((n, module.features), dtype=torch.bool, device=device)
                for module in dropouts_of(net)
            },
            lrs=[torch.zeros((), device=device) for _ in optimizer.param_groups],
            loss_sum=torch.zeros((), device=device),
            n_correct=torch.zeros((), dtype=torch.int64, device=device),
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All of them."""
        own = [self.images, self.labels, self.loss_sum, self.n_correct]
        return [*own, *self.masks.values(), *self.lrs]

    @property
    def sums(self) -> tuple[Tensor, Tensor]:
        """The summed loss and the number of hits."""
        return self.loss_sum, self.n_correct

    def take(self, images: Tensor, labels: Tensor) -> None:
        """Copies a micro-batch of the device."""
        self.images.copy_(images)
        self.labels.copy_(labels)

    def draw_masks(self) -> None:
        """Draws the masks that a pass without a graph would draw."""
        for module, mask in self.masks.items():
            copy_into(mask, module.draw(len(mask)))

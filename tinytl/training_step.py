"""One optimiser step, the same code for training, for measuring memory, and for predicting it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinytl.backbones import BACKBONES
from tinytl.config import TrainConfig
from tinytl.param_groups import build_param_groups

SGD_MOMENTUM = 0.9


class InputNormalizer:
    """Turns uint8 images `(N, 3, H, W)` into the float input that the backbone's weights expect."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        backbone = BACKBONES[config.backbone]
        mean, std = config.input_mean or backbone.input_mean, config.input_std or backbone.input_std
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1) * 255

    def __call__(self, images: Tensor) -> Tensor:
        """Returns `(image / 255 - mean) / std`, channels_last, with one float copy and no second."""
        floats = images.to(torch.float32, memory_format=torch.channels_last)
        return floats.sub_(self.mean).div_(self.std)


def build_optimizer(net: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Returns the optimiser of `config` over its named parameter groups.

    Fused implementations: they need no temporaries the size of the parameters, on CPU and GPU.
    """
    groups = build_param_groups(net, config.method, config.base_lr, config.lr_ratio)
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, config.base_lr, momentum=SGD_MOMENTUM, weight_decay=config.weight_decay, fused=True
        )
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, config.base_lr, weight_decay=config.weight_decay, fused=True)


def training_step(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    normalize: InputNormalizer,
    images: Tensor,
    labels: Tensor,
    *,
    micro_batch_size: int,
    label_smoothing: float,
    after_forward: Callable[[], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Takes the gradient of the batch's mean loss, a micro-batch at a time, and one optimiser step.

    Args:
        net: in training mode; gradients unset, as this function leaves them.
        optimizer: over the net's trainable parameters.
        normalize: from uint8 to the net's input.
        images: `(N, 3, H, W)` uint8.
        labels: `(N,)` int64.
        micro_batch_size: samples in memory at a time; the last slice may be smaller.
        label_smoothing: share of the target spread over all classes.
        after_forward: called between the forward and the backward pass of each micro-batch.

    Returns:
        The summed loss and the number of correct predictions of the batch, as tensors.
    """
    loss_sum = torch.zeros((), device=images.device)
    correct = torch.zeros((), dtype=torch.int64, device=images.device)
    for start in range(0, len(labels), micro_batch_size):
        rows = slice(start, start + micro_batch_size)
        target = labels[rows]
        logits = net(normalize(images[rows]))
        loss = F.cross_entropy(logits, target, label_smoothing=label_smoothing, reduction="sum")
        if after_forward is not None:
            after_forward()
        (loss / len(labels)).backward()
        loss_sum += loss.detach()
        correct += (logits.detach().argmax(1) == target).sum()
        del logits, loss  # or their graph would live through the next micro-batch's forward pass
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss_sum, correct

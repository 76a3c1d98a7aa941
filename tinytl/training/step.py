"""One optimiser step, the same code for training, for measuring memory, and for predicting it."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinytl.build import memory_format
from tinytl.config.plan import releases_gradients
from tinytl.config.train_config import TrainConfig
from tinytl.memory_efficient.lean_blocks import prepares_input
from tinytl.networks.backbones import backbone_of
from tinytl.networks.dropout import skip_rows
from tinytl.training.class_weights import unit_weights
from tinytl.training.data_parallel import ALONE, Ranks
from tinytl.training.int8_adam import Int8Adam, is_coded, lay_out_codes_
from tinytl.training.mixed_precision import MixedPrecision
from tinytl.training.mixing import first_class
from tinytl.training.optimizers import SGD, Adam, AdamW
from tinytl.training.param_groups import build_param_groups
from tinytl.training.released_gradients import gradients_released


class InputNormalizer:
    """Turns uint8 images `(N, 3, H, W)` into the float input that the backbone's weights expect."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        backbone = backbone_of(config.backbone)
        mean, std = config.input_mean or backbone.input_mean, config.input_std or backbone.input_std
        self.memory_format = memory_format(config)
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1) * 255

    def __call__(self, images: Tensor) -> Tensor:
        """Returns `(image / 255 - mean) / std`, with one float copy and no second."""
        floats = images.to(torch.float32, memory_format=self.memory_format)
        return floats.sub_(self.mean).div_(self.std)


def build_optimizer(net: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Returns the optimiser of `config` over its named parameter groups.

    Fused implementations: they need no temporaries the size of the parameters, on CPU and GPU.
    """
    groups = build_param_groups(net, config)
    if config.optimizer == "sgd":
        sgd = SGD(
            groups, config.base_lr, momentum=config.momentum, weight_decay=config.weight_decay, fused=True
        )
        if config.precision == "float16" and config.momentum:
            # Fused SGD creates its buffers without filling them, and loss scaling may skip the step that
            # fills them.
            for group in sgd.param_groups:
                for parameter in group["params"]:
                    sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        return sgd
    if config.moments == "int8":
        decoupled = config.optimizer == "adamw"
        return Int8Adam(groups, config.base_lr, weight_decay=config.weight_decay, decoupled=decoupled)
    kind = AdamW if config.optimizer == "adamw" else Adam
    return kind(groups, config.base_lr, weight_decay=config.weight_decay, fused=True)


def lay_out_moments_(optimizer: torch.optim.Optimizer) -> None:
    """Lays moments out as their parameters: those of a checkpoint may come from another memory format, and
    fused optimisers walk both by address.
    """
    for parameter, moments in optimizer.state.items():
        if is_coded(moments):
            lay_out_codes_(parameter, moments)
            continue
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                if value.stride() != parameter.stride():
                    moments[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def training_step(
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    normalize: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    micro_batch_size: int,
    label_smoothing: float,
    class_weights: Tensor | None = None,
    precision: MixedPrecision | None = None,
    ranks: Ranks = ALONE,
    batch_size: int | None = None,
    keeps_gradients: bool = False,
    releases_gradients: bool = False,
    after_forward: Callable[[], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Takes the gradient of the batch's mean loss, a micro-batch at a time, and one optimiser step.

    Args:
        net: in training mode; gradients unset or zero, as after this function.
        optimizer: over the net's trainable parameters.
        normalize: from `images` to the net's input.
        images: `(N, 3, H, W)` uint8, this process's share of the batch; N may be 0 if there are others. For
            a classifier alone: what goes into it, `(N, C)`.
        labels: `(N,)` int64, or `(N, C)` float32: the share of each class in each picture, rows sum to 1.
        micro_batch_size: samples in memory at a time; the last slice may be smaller.
        label_smoothing: share of the target spread over all classes, of whatever classes a picture has.
        class_weights: `(C,)`, what multiplies the loss of each class; None: nothing. A picture of several
            classes has the weight of each for its share.
        precision: of the forward pass; default float32.
        ranks: the processes that share the batch.
        batch_size: samples of the batch in all processes; default N.
        keeps_gradients: whether gradients stay as tensors of zeros.
        releases_gradients: whether the optimiser takes gradients as backward makes them, and frees them, if
            one pass makes them in each process; not with loss scaling.
        after_forward: called between the forward and the backward pass of each micro-batch.

    Returns:
        The summed loss and the number of correct predictions of the whole batch, as tensors. For a picture
        of several classes, the one with the largest share is correct.
    """
    precision = precision or MixedPrecision("float32", images.device)
    batch_size = len(labels) if batch_size is None else batch_size
    loss_sum = torch.zeros((), device=images.device)
    correct = torch.zeros((), dtype=torch.int64, device=images.device)
    share = ranks.share(batch_size)
    skip_rows(net, share.start)  # dropout is that of one process with the whole batch
    one_pass = ranks.world_size <= batch_size <= ranks.world_size * micro_batch_size
    released = releases_gradients and one_pass
    with gradients_released(optimizer, ranks) if released else nullcontext():
        for start in range(0, len(labels), micro_batch_size):
            rows = slice(start, start + micro_batch_size)
            add_gradients(
                net,
                normalize,
                images[rows],
                labels[rows],
                (loss_sum, correct),
                batch_size=batch_size,
                label_smoothing=label_smoothing,
                class_weights=class_weights,
                precision=precision,
                after_forward=after_forward,
            )
    skip_rows(net, batch_size - share.stop)
    ranks.sum_(loss_sum, correct)
    if not released:
        ranks.sum_gradients_(net)
        precision.step(optimizer)
        optimizer.zero_grad(set_to_none=not keeps_gradients)
    return loss_sum, correct


def add_gradients(
    net: nn.Module,
    normalize: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    sums: tuple[Tensor, Tensor],
    *,
    batch_size: int,
    label_smoothing: float,
    class_weights: Tensor | None,
    precision: MixedPrecision,
    after_forward: Callable[[], None] | None = None,
) -> None:
    """Adds one micro-batch's part of the gradient of the batch's mean loss.

    Adds its loss and its number of hits to `sums`, two scalars on the device. All else as in `training_step`.
    """
    with precision.autocast(), prepares_input(net, normalize) as prepare:
        logits = net(prepare(images))
        if labels.is_floating_point():
            loss = _loss_of_shares(logits, labels, label_smoothing, class_weights)
        elif class_weights is None:
            loss = F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="sum")
        else:  # by the image's class: PyTorch's `weight` also weights the classes that smoothing spreads to
            losses = F.cross_entropy(logits, labels, label_smoothing=label_smoothing, reduction="none")
            loss = (losses * class_weights[labels]).sum()
    if after_forward is not None:
        after_forward()
    precision.backward(loss / batch_size)
    loss_sum, correct = sums
    loss_sum += loss.detach()
    classes = labels.argmax(1) if labels.is_floating_point() else labels
    correct += (logits.detach().argmax(1) == classes).sum()


def _loss_of_shares(
    logits: Tensor, shares: Tensor, label_smoothing: float, class_weights: Tensor | None
) -> Tensor:
    """Returns the summed loss of pictures of several classes: the sum of what each class alone would give,
    weighted and smoothed, times its share.
    """
    if class_weights is not None:
        shares = shares * class_weights
    # By hand: PyTorch spreads the smoothed part without the picture's weight.
    spread = shares.sum(1, keepdim=True) * (label_smoothing / shares.shape[1])
    return F.cross_entropy(logits, shares * (1 - label_smoothing) + spread, reduction="sum")


def step_of(
    config: TrainConfig, net: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Returns `training_step` as a planned `config` sets it, of images, labels and `after_forward`."""
    return partial(
        training_step,
        net,
        optimizer,
        InputNormalizer(config, device),
        micro_batch_size=config.samples_in_memory,
        label_smoothing=config.label_smoothing,
        class_weights=unit_weights(config, device),
        precision=MixedPrecision(config.precision, device),
        releases_gradients=releases_gradients(config),
    )


def random_batch(config: TrainConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns a batch of random images `(N, 3, H, W)`, uint8, channels_last, all of the first class."""
    shape = (config.batch_size, 3, config.resolution, config.resolution)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    labels = first_class(config, config.batch_size, device)
    return images.contiguous(memory_format=torch.channels_last), labels

"""What each convolution gains if it trains alone, beside the head.

Each trains for some steps, from the same start, on the same batches. Its gain is the probability that the
network then gives to the right class of validation images, on average, less that of the head alone: an
accuracy without the steps of hits and misses, which a few images would make coarse.
Source: MCUNetV3, Lin et al. 2022, section 3.2 (contribution analysis).
"""

import dataclasses
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from tinytl.config.train_config import TrainConfig
from tinytl.data.batches import eval_batches, train_batches
from tinytl.data.load import DataSplits
from tinytl.data.splits import Split
from tinytl.errors import ConfigError
from tinytl.networks.backbones.weights import Weights
from tinytl.networks.update_scheme import Layer, convolution, layers_of, scheme_of_parts, whole
from tinytl.selection.scored_network import (
    BATCH_SIZE,
    HEAD_IMAGES,
    fitted_network,
    of_scores,
    some_images,
)
from tinytl.training.optimizers import Adam
from tinytl.training.step import InputNormalizer, training_step

STEPS = 48
"""Steps for which each convolution trains."""
IMAGES_A_STEP = 8
VALIDATION_IMAGES = 256
"""Images on which gains are judged, at most."""
RESOLUTION = 64
"""Pixels at which they are compared, whatever a run has: so one comparison serves all of them."""
LR = 3e-4


def contributions(config: TrainConfig, data: DataSplits, weights: Weights) -> dict[str, float]:
    """Returns the gain of each convolution, a difference of probabilities; needs some minutes.

    Raises:
        ConfigError: for a data set without validation images.
    """
    if not len(data.val):
        raise ConfigError("select=contribution needs validation images: use select fisher or last")
    config = dataclasses.replace(config, resolution=RESOLUTION)
    layers = layers_of(config)
    config = of_scores(config, scheme_of_parts(map(whole, layers), config))
    device = torch.device("cpu")
    train = some_images(data.train, STEPS * IMAGES_A_STEP, config.seed)
    judged = some_images(data.val, VALIDATION_IMAGES, config.seed)
    images = some_images(data.train, HEAD_IMAGES, config.seed)
    net, normalize, _ = fitted_network(config, weights, images, device)
    start = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    batches = list(_batches(train, config, device))

    def judge(layer: Layer | None) -> float:
        net.load_state_dict(start)
        _train(net, normalize, layer, batches)
        return _probability(net, normalize, judged, config, device)

    alone = judge(None)
    return {layer.name: judge(layer) - alone for layer in layers}


def _batches(images: Split, config: TrainConfig, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    return chain.from_iterable(
        train_batches(
            images, batch_size=IMAGES_A_STEP, resolution=config.resolution, crop_scale_min=1.0, flip=False,
            seed=config.seed, epoch=epoch, drop_single=True, device=device, workers=0,
        )
        for epoch in range(-(-STEPS * IMAGES_A_STEP // len(images)))
    )  # fmt: skip


def _train(
    net: nn.Module, normalize: InputNormalizer, layer: Layer | None, batches: list[tuple[Tensor, Tensor]]
) -> None:
    """Trains the head, and the convolution of `layer` if there is one."""
    net.requires_grad_(False)
    head = net.get_submodule("classifier").requires_grad_(True)
    trained = list(head.parameters())
    if layer is not None:
        trained.append(convolution(net, layer.name).get_parameter("weight"))
        trained[-1].requires_grad_(True)
    optimizer = Adam(trained, LR, fused=True)
    for images, labels in batches[:STEPS]:
        training_step(
            net, optimizer, normalize, images, labels, micro_batch_size=len(labels), label_smoothing=0.0
        )


@torch.no_grad()
def _probability(
    net: nn.Module, normalize: InputNormalizer, images: Split, config: TrainConfig, device: torch.device
) -> float:
    """Returns the mean probability that `net` gives to the right class."""
    batches = eval_batches(
        images, batch_size=BATCH_SIZE, resolution=config.resolution, device=device, workers=0
    )
    total = 0.0
    for batch, labels in batches:
        given = net(normalize(batch)).softmax(1)
        total += float(given.gather(1, labels[:, None]).sum())
    return total / len(images)

"""The network in which convolutions are compared: pretrained, with a head that knows the user's classes.

A new head is random, and gradients through it say nothing. So it is fitted first, to the features of some
images: a regression on what the frozen network makes of them.
"""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinytl.build import build_model
from tinytl.config.train_config import TrainConfig
from tinytl.data.splits import Split
from tinytl.features.compute import features_before_head
from tinytl.networks.backbones.weights import InputNormalization, Weights
from tinytl.networks.update_scheme import UpdateScheme, layers_of
from tinytl.training.step import InputNormalizer

HEAD_IMAGES = 256
"""Images to whose features a head is fitted, at most."""
BATCH_SIZE = 32
_DECAY = 1e-3
_ITERATIONS = 50


def of_scores(config: TrainConfig, scheme: UpdateScheme) -> TrainConfig:
    """Returns a configuration for comparing convolutions: one sample at a time, everything repeatable, on the
    CPU, so that the choice does not depend on a GPU, and a driver holds none.

    Batch norm keeps its statistics meanwhile: of one sample it has none.
    """
    return dataclasses.replace(
        config,
        norm="frozen_bn" if config.norm == "batch_norm" else config.norm,
        plan="fast",
        budget_mib=None,
        micro_batch_size=1,
        checkpoint="none",
        stock_below_kib=0.0,
        engine="lean",
        memory_format=None,
        dropout=0.0,
        weight_standardization=False,
        frozen_weights="float32",
        precision="float32",
        device="cpu",
        update_scheme=scheme.text(layers_of(config)),
    )


def fitted_network(
    config: TrainConfig, weights: Weights, images: Split, device: torch.device
) -> tuple[nn.Module, InputNormalizer, InputNormalization]:
    """Returns the network of `config` in evaluation mode, with a head fitted to `images`, and what normalises
    its input.

    Args:
        config: as `of_scores` returns it, `num_classes` set.
        weights: of the backbone.
        images: training images; the first `HEAD_IMAGES` are used.
        device: of the network.
    """
    torch.manual_seed(config.seed)
    built = build_model(config, weights)
    net = built.net.to(device).eval()
    known = built.normalization
    config = dataclasses.replace(config, input_mean=known.mean, input_std=known.std)
    normalize = InputNormalizer(config, device)
    features, labels = features_before_head(
        net, normalize, images, resolution=config.resolution, batch_size=BATCH_SIZE, device=device, workers=0
    )
    _fit_head_(net, features, labels)
    return net, normalize, known


def some_images(split: Split, n: int, seed: int) -> Split:
    """Returns up to `n` images of a split, drawn by `seed`, from each class in turn."""
    rng = np.random.default_rng(seed)
    of_class = [rng.permutation(np.flatnonzero(split.labels == label)) for label in np.unique(split.labels)]
    longest = max(len(rows) for rows in of_class)
    turns = [rows[turn] for turn in range(longest) for rows in of_class if turn < len(rows)]
    return split.take(np.array(turns[:n], dtype=np.int64))


def _fit_head_(net: nn.Module, features: Tensor, labels: Tensor) -> None:
    """Fits the linear layer of the classifier by logistic regression."""
    linear = net.get_submodule("classifier")[-1]  # type: ignore[index]
    assert isinstance(linear, nn.Linear)
    scale = features.std() + 1e-6  # so that one decay suits every backbone
    weight = torch.zeros_like(linear.weight, requires_grad=True)
    bias = torch.zeros_like(linear.bias, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        found = F.cross_entropy(F.linear(features / scale, weight, bias), labels)
        found = found + _DECAY * weight.square().sum()
        found.backward()
        return found

    with torch.enable_grad():
        optimizer.step(loss)
    with torch.no_grad():
        linear.weight.copy_(weight / scale)
        linear.bias.copy_(bias)

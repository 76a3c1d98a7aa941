"""From a configuration to a network: the one place where the order of surgery is stated."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from tinytl.config.names import LITE_METHODS
from tinytl.config.plan import inserts_checkpoints, is_all_stock, is_planned, lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.gradient_checkpoints.segment import insert_checkpoints_
from tinytl.memory_efficient import Execution, make_memory_efficient_, undo_memory_efficient_
from tinytl.memory_efficient.block.unit import Recompute
from tinytl.networks.backbones import backbone_of, needs_two_samples
from tinytl.networks.backbones.load_account import LoadAccount
from tinytl.networks.backbones.loading import fit_weights, load_weights_
from tinytl.networks.backbones.weights import (
    RANDOM_WEIGHTS,
    InputNormalization,
    Weights,
    input_normalization,
    read_weights,
)
from tinytl.networks.dropout import RowwiseDropout
from tinytl.networks.frozen_batch_norm import freeze_bn_
from tinytl.networks.group_norm import replace_bn_with_gn
from tinytl.networks.lite_residual import LiteResidualModule, insert_lite_residual
from tinytl.networks.stored_weights import store_frozen_weights_
from tinytl.networks.update_methods import apply_update_method_
from tinytl.networks.update_scheme import scheme_of
from tinytl.networks.weight_standardization import standardize_weights_

RECOMPUTE: Mapping[str, Recompute] = {"none": "none", "depthwise": "depthwise", "all": "block"}
"""What a lean block recomputes, for each `checkpoint`."""


@dataclass(frozen=True)
class Built:
    """A network ready to train, the account of its weights (None: all random), and the input it expects."""

    net: nn.Module
    account: LoadAccount | None
    normalization: InputNormalization


def build_model(config: TrainConfig, weights: Weights | None = None) -> Built:
    """Builds the network of `config`, in training mode, on the current device.

    Order: backbone -> lite residuals -> norms -> new head -> weights -> what trains -> weight standardisation
    -> how frozen weights are stored -> engine. Random parts come from torch's global generator: seed it for a
    repeatable network.

    Args:
        config: with `num_classes` set. What it leaves open under plan `fast` runs lean;
            `tinytl.memory.predict.resolve_plan` looks for what is faster.
        weights: the result of `read_weights(config)`, if it was already read. Scratch uses none.

    Raises:
        ConfigError: for weights that cannot be read or do not fit, `n_groups` that does not divide, or a plan
            that predictions must resolve first (`tinytl.memory.predict.resolve_plan`).
    """
    if config.plan == "fast":
        config = lean_plan(config)
    if not is_planned(config):
        raise ConfigError(
            f"plan={config.plan} is open: tinytl.memory.predict.resolve_plan(config) settles it"
        )
    if config.method == "Scratch":  # a search gives every trial of a backbone the same weights
        weights = RANDOM_WEIGHTS
    weights = weights or read_weights(config)
    net = _surgery(config)
    random = weights.backbone is None and weights.lite is None
    account = None if random else load_weights_(net, weights, config)
    apply_update_method_(net, config.method, scheme_of(config) if config.method == "Sparse" else None)
    if config.weight_standardization:
        standardize_weights_(net)
    store_frozen_weights_(net, config.frozen_weights)
    net.train()
    set_engine_(net, config)
    return Built(net, account, input_normalization(config, weights))


def check_weights(config: TrainConfig, weights: Weights) -> LoadAccount:
    """Checks that `weights` fit the network of `config`, without allocating it.

    Raises:
        ConfigError: as `build_model`.
    """
    with torch.device("meta"):
        return fit_weights(_surgery(config), weights, config)[1]


def _surgery(config: TrainConfig) -> nn.Module:
    """Returns the network of `config` with random parameters."""
    if config.num_classes is None:
        raise ConfigError("num_classes is not set: give the number of classes")
    backbone = backbone_of(config.backbone)
    backbone.check_resolution(config.resolution)
    if config.norm == "batch_norm" and config.batch_size == 1 and needs_two_samples(config):
        raise ConfigError(
            f"batch_size=1 with norm=batch_norm leaves one value a channel somewhere in {config.backbone}: "
            "use a larger batch, or norm frozen_bn or group_norm"
        )
    net = backbone.build(1000)
    if config.method in LITE_METHODS:
        insert_lite_residual(
            net,
            downsample_ratio=config.downsample_ratio,
            upsample_type=config.upsample_type,
            expand=config.expand,
            max_kernel_size=config.kernel_size,
            act_func=config.act_func,
            n_groups=config.n_groups,
            resolution=config.resolution if config.kernel_clipping == "map" else None,
        )
    _set_norm_(net, config)
    new_head_(net, config.num_classes, config.dropout)
    return net


def memory_format(config: TrainConfig) -> torch.memory_format:
    """Returns how maps and weights lie in memory: channels_last unless `config` says otherwise."""
    return torch.contiguous_format if config.memory_format == "contiguous" else torch.channels_last


def set_engine_(net: nn.Module, config: TrainConfig) -> None:
    """Makes `net` run as a planned `config` says: its engine, how weights lie in memory, and what backward
    recomputes.

    May be called again for another plan, but a network with checkpoints does not lose them.
    """
    assert config.stock_below_kib is not None
    form = memory_format(config)
    for tensor in (*net.parameters(), *net.buffers()):  # not net.to(...): fake tensors cannot be swapped
        if tensor.dim() == 4 and not tensor.is_contiguous(memory_format=form):
            tensor.data = tensor.data.contiguous(memory_format=form)
    if is_all_stock(config):  # lean modules that only call their own classes' forward take time
        undo_memory_efficient_(net)
    else:
        recompute = RECOMPUTE[config.checkpoint]
        how = Execution(
            recompute=recompute, slice_mib=config.slice_mib, stock_below_kib=config.stock_below_kib
        )
        make_memory_efficient_(net, how)
    if inserts_checkpoints(config):
        insert_checkpoints_(net)


def _set_norm_(net: nn.Module, config: TrainConfig) -> None:
    if config.norm == "batch_norm":
        return
    if config.norm == "group_norm":
        replace_bn_with_gn(net, config.gn_channel_per_group)
        return
    # A lite branch is new: it has no statistics to freeze, and batch statistics would tie samples together.
    for module in net.modules():
        if isinstance(module, LiteResidualModule):
            replace_bn_with_gn(module.lite_residual, config.gn_channel_per_group)
    freeze_bn_(net)


def new_head_(net: nn.Module, num_classes: int, dropout: float) -> None:
    """Replaces `net.classifier` by dropout and a small random linear layer for `num_classes`."""
    old = net.get_submodule("classifier")
    assert isinstance(old, nn.Sequential) and isinstance(old[-1], nn.Linear)
    linear = nn.Linear(old[-1].in_features, num_classes)
    nn.init.normal_(linear.weight, std=0.01)
    nn.init.zeros_(linear.bias)
    net.classifier = nn.Sequential(RowwiseDropout(dropout, linear.in_features), linear)

"""The memory figure of the TinyTL paper, by its authors' formula and conventions: for its tables only.

It counts what an ideal engine would keep, not the memory that training needs; `tinytl.memory` predicts that.
Source: mit-han-lab/tinyml `tinytl/utils/memory_cost_profiler.py`.
"""

import dataclasses
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from tinytl.build import new_head_
from tinytl.config.train_config import TrainConfig
from tinytl.networks.backbones import backbone_of
from tinytl.networks.group_norm import replace_bn_with_gn
from tinytl.networks.lite_residual import LiteResidualModule, insert_lite_residual
from tinytl.networks.update_methods import apply_update_method_, is_norm
from tinytl.networks.update_scheme import (
    convolution,
    layers_of,
    parts_of_scheme,
    scheme_of,
    scheme_of_parts,
    whole,
)

MB = 1e6
FLOAT_BYTES = 4
FROZEN_BYTES = 1
"""Frozen parameters are counted as if quantised to 8 bits."""
MASK_BYTES = 1 / 8
"""ReLU and ReLU6 are counted with one bit per element."""
SMOOTH_ACTIVATIONS = (nn.Hardswish, nn.Hardsigmoid, nn.Tanh, nn.Sigmoid)
"""Counted with one float per element."""
_COUNTED_FIELDS = (
    "backbone method num_classes batch_size resolution n_groups downsample_ratio expand kernel_size act_func"
).split()


def paper_memory(config: TrainConfig) -> float:
    """Returns the paper's figure for `config` (`num_classes` set) in MB (1e6 bytes).

    Conventions of the authors: the peak over modules of (scratch + kept so far + residual), times the batch,
    plus parameters; no gradients and no optimiser; lite residuals are in every method, with kernels shrunk
    against a map of 128 for any image; normalisation is free unless its weight trains. Of a convolution that
    trains in part (Sparse), so much of the input and of the weight is counted: they had no such method.
    """
    assert config.num_classes is not None
    counted = {key: getattr(config, key) for key in _COUNTED_FIELDS}
    if config.method == "Sparse":
        counted["update_scheme"] = scheme_of(config).text(layers_of(config))
    return _paper_memory(TrainConfig(**counted, norm="group_norm"))


@lru_cache(maxsize=1024)
def _paper_memory(config: TrainConfig) -> float:
    with torch.device("meta"):
        net = backbone_of(config.backbone).build(1000)
        insert_lite_residual(
            net,
            downsample_ratio=config.downsample_ratio,
            upsample_type="nearest",
            expand=config.expand,
            max_kernel_size=config.kernel_size,
            act_func=config.act_func,
            n_groups=config.n_groups,
        )
        replace_bn_with_gn(net)
        assert config.num_classes is not None
        new_head_(net, config.num_classes, dropout=0.0)
        shares: dict[nn.Module, float] = {}
        scheme = None
        if config.method == "Sparse":
            parts = parts_of_scheme(scheme_of(config), config)
            shares = {convolution(net, p.layer.name): len(p.channels) / p.layer.channels for p in parts}
            scheme = scheme_of_parts((whole(part.layer) for part in parts), config)
            scheme = dataclasses.replace(scheme, bias_from=scheme_of(config).bias_from)
        apply_update_method_(net, config.method, scheme)
        activations = _activation_bytes(net.eval(), config, shares)
    parameters: float = sum(
        p.numel() * (FLOAT_BYTES if p.requires_grad else FROZEN_BYTES) for p in net.parameters()
    )
    for conv, share in shares.items():
        weight = conv.get_parameter("weight")
        parameters -= (1 - share) * weight.numel() * (FLOAT_BYTES - FROZEN_BYTES)
    return (activations * config.batch_size + parameters) / MB


def _activation_bytes(net: nn.Module, config: TrainConfig, shares: Mapping[nn.Module, float]) -> float:
    """Peak of one sample over the leaf modules, in the order in which they run; `shares`: of the modules that
    train in part.

    Shapes are enough: norms pass on what they are given, and lite residuals are upsampled by nearest pixels.
    On the meta device the formulas of norms and of bilinear upsampling run in Python.
    """
    kept = peak = residual = 0.0
    before_head = any(
        p.requires_grad for name, p in net.named_parameters() if not name.startswith("classifier.")
    )

    def visit(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal kept, peak
        x = inputs[0].numel() * FLOAT_BYTES
        scratch = keep = 0.0
        weight = getattr(module, "weight", None)
        if isinstance(module, nn.Conv2d):
            scratch = x + output.numel() * FLOAT_BYTES // module.groups
        elif isinstance(module, nn.Linear):
            scratch = x + output.numel() * FLOAT_BYTES
        elif is_norm(module):
            scratch = x
        elif isinstance(module, (nn.ReLU, nn.ReLU6)):
            scratch = x
            keep = inputs[0].numel() * MASK_BYTES if before_head else 0.0
        elif isinstance(module, SMOOTH_ACTIVATIONS):
            scratch = x
            keep = x if before_head else 0.0
        if weight is not None and weight.requires_grad:
            keep = x * shares.get(module, 1.0)
        peak = max(peak, scratch + kept + residual)
        kept += keep

    def enter_shortcut(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal residual
        residual = inputs[0].numel() * FLOAT_BYTES

    def leave_shortcut(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal residual
        residual = 0.0

    for module in net.modules():
        block = module.main_branch if isinstance(module, LiteResidualModule) else module
        if isinstance(module, LiteResidualModule) and getattr(block, "use_res_connect", False):
            module.register_forward_pre_hook(enter_shortcut)
            module.register_forward_hook(leave_shortcut)
        elif next(module.children(), None) is None:
            module.register_forward_hook(visit)
        if is_norm(module):
            module.forward = _passed_on
    with torch.no_grad():
        net(torch.empty(1, 3, config.resolution, config.resolution))
    return peak


def _passed_on(x: Tensor) -> Tensor:
    return x

"""Lean forwards for modules that stay what they are: same object, parameters, names and `isinstance`.

A module is made lean by giving it a subclass of its own class, so `state_dict`, `copy.deepcopy`, pickling,
train/eval switches and later changes of `requires_grad` work as before. Undoing it is one assignment. Each
forward decides what it keeps.
"""

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from tinytl.gradient_checkpoints.segment import set_class_beneath_
from tinytl.memory_efficient.block.reading import (
    any_conv_spec,
    average_pool_spec,
    conv_spec,
    max_pool_spec,
    uses_batch_statistics,
)
from tinytl.memory_efficient.block.spec import Execution
from tinytl.memory_efficient.block.stock import base_class, standardizes_weight
from tinytl.memory_efficient.block.structure import activation_name
from tinytl.memory_efficient.lean_functions import FUNCTIONS, functions_of
from tinytl.memory_efficient.ops.activation import lean_activation, lean_leaky_relu
from tinytl.memory_efficient.ops.any_convolution import lean_any_conv
from tinytl.memory_efficient.ops.convolution import lean_conv2d
from tinytl.memory_efficient.ops.depthwise import taps_are_leaner
from tinytl.memory_efficient.ops.dropout import lean_dropout
from tinytl.memory_efficient.ops.frozen_norm import FrozenNorm, lean_frozen_norm
from tinytl.memory_efficient.ops.group_norm import lean_group_norm
from tinytl.memory_efficient.ops.pooling import (
    lean_adaptive_average_pool,
    lean_average_pool,
    lean_max_pool,
)
from tinytl.memory_efficient.ops.precision import autocast_dtype
from tinytl.memory_efficient.ops.standardization import lean_standardized
from tinytl.memory_efficient.ops.stored_convolution import lean_stored_conv2d
from tinytl.networks.group_norm import group_norm
from tinytl.networks.stored_weights import StoredWeight, stored_form, trained_part
from tinytl.networks.surgery import with_mixin


class Lean(nn.Module):
    """What all lean modules share; `stock_class` is the class they had."""

    stock_class: type[nn.Module]
    lean_execution = Execution()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Gives each lean class of a stock class a forward with the signature of the stock one."""
        super().__init_subclass__(**kwargs)
        stock = vars(cls).get("stock_class")
        if stock is not None:
            cls.__module__ = stock.__module__  # torch.fx looks into no module of torch.nn
            setattr(cls, "forward", _unless_recorded(cls.forward, stock.forward))  # noqa: B010

    def __prepare_scriptable__(self) -> nn.Module:
        """Refuses `torch.jit.script`, which reads source."""
        raise RuntimeError(
            "torch.jit.script cannot read lean modules: give the net its own forward back with "
            "undo_memory_efficient_, or use torch.jit.trace"
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickles and copies as the stock class plus the name of what makes it lean."""
        return _restore, (self.stock_class, type(self).__mro__[1]), vars(self)

    def forward(self, x: Tensor) -> Tensor:
        """Runs lean if that is possible now, else as the stock class does."""
        if x.numel() * x.element_size() <= self.lean_execution.stock_below_kib * 2**10:
            return self.stock_forward(x)
        return self.lean_forward(x)

    def stock_forward(self, x: Tensor) -> Tensor:
        """Runs as the stock class does."""
        return cast(Tensor, self.stock_class.forward(self, x))

    def lean_forward(self, x: Tensor) -> Tensor:
        """Computes the same, keeping less."""
        raise NotImplementedError


class LeanCode(Lean):
    """A module whose own code calls activations or pooling as functions: these are lean."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """Runs the class's own code."""
        with functions_of(self):
            return self.stock_class.forward(self, *inputs, **named)


class LeanConv2d(Lean):
    """Keeps its input only if its weight trains; a stored weight is made anew in backward."""

    def forward(self, x: Tensor) -> Tensor:
        """Runs lean, small or not, if stock would need much memory: a float copy of a stored weight until
        backward, or what torch's kernel for the weight's gradient holds.
        """
        assert isinstance(self, nn.Conv2d)
        if isinstance(self, StoredWeight):
            return self.lean_forward(x) if x.numel() else super().forward(x)
        weight = self.weight
        if weight.requires_grad and self.groups > 1 and x.dim() == 4 and x.numel():
            if taps_are_leaner(x, x, weight, self.groups, self.stride[1]):
                return self.lean_forward(x)
        return super().forward(x)

    def stock_forward(self, x: Tensor) -> Tensor:
        """Runs as the stock class does, but of a standardised weight it keeps only the weight itself."""
        if not standardizes_weight(self):
            return super().stock_forward(x)
        assert isinstance(self, nn.Conv2d)
        return self._conv_forward(x, lean_standardized(self.weight), self.bias)

    def lean_forward(self, x: Tensor) -> Tensor:
        """Convolves `(N, C, H, W)`."""
        assert isinstance(self, nn.Conv2d)
        if isinstance(self, StoredWeight):
            stored = stored_form(vars(self))
            if x.dim() != 4 or mistyped(x, stored.dtype):
                return self.stock_forward(x)
            return lean_stored_conv2d(x, stored, trained_part(self), self.bias, conv_spec(self))
        if x.dim() != 4 or mistyped(x, self.weight.dtype):
            return self.stock_forward(x)
        weight = lean_standardized(self.weight) if standardizes_weight(self) else self.weight
        return lean_conv2d(x, weight, self.bias, conv_spec(self))


class LeanAnyConv(Lean):
    """Of one or three dimensions: keeps its input only if its weight trains."""

    def lean_forward(self, x: Tensor) -> Tensor:
        """Convolves `(N, C, ...)`."""
        assert isinstance(self, nn.Conv1d | nn.Conv3d)
        if x.dim() != self.weight.dim() or mistyped(x, self.weight.dtype):
            return self.stock_forward(x)
        return lean_any_conv(x, self.weight, self.bias, any_conv_spec(self))


class LeanConvTranspose(Lean):
    """Keeps its input only if its weight trains."""

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """Runs lean, but for an output of a given size."""
        if output_size is not None:
            return cast(Tensor, self.stock_class.forward(self, x, output_size))
        return super().forward(x)

    def lean_forward(self, x: Tensor) -> Tensor:
        """Convolves `(N, C, ...)`."""
        assert isinstance(self, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
        spec = any_conv_spec(self)
        large = any(added >= step for added, step in zip(spec.output_padding or (), spec.stride, strict=True))
        if large or x.dim() != self.weight.dim() or mistyped(x, self.weight.dtype):
            return self.stock_forward(x)
        return lean_any_conv(x, self.weight, self.bias, spec)


class LeanBatchNorm2d(Lean):
    """With running statistics, keeps its input only if its weight trains."""

    def lean_forward(self, x: Tensor) -> Tensor:
        """Scales and shifts `(N, C, H, W)`, or runs stock if the batch's statistics are used."""
        assert isinstance(self, nn.BatchNorm2d)
        if uses_batch_statistics(self) or x.dim() != 4 or x.shape[1] != self.num_features:
            return self.stock_forward(x)
        assert self.running_mean is not None and self.running_var is not None
        norm = FrozenNorm(self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        return lean_frozen_norm(x, norm)


class LeanBatchNormAct2d(LeanBatchNorm2d):
    """As `LeanBatchNorm2d`; then timm's module drops and activates, by children that may be lean."""

    def lean_forward(self, x: Tensor) -> Tensor:
        """Scales, shifts and activates `(N, C, H, W)`, or runs stock if the batch's statistics are used."""
        assert isinstance(self, nn.BatchNorm2d)
        if uses_batch_statistics(self) or x.dim() != 4 or x.shape[1] != self.num_features:
            return self.stock_forward(x)
        drop, act = self.get_submodule("drop"), self.get_submodule("act")
        return cast(Tensor, act(drop(super().lean_forward(x))))


class LeanBatchNorm1d(Lean):
    """Of vectors, sequences or volumes: with running statistics, keeps its input if its weight trains."""

    def lean_forward(self, x: Tensor) -> Tensor:
        """Scales and shifts `(N, C, ...)`, or runs stock if the batch's statistics are used."""
        assert isinstance(self, nn.BatchNorm1d | nn.BatchNorm3d)
        known = (5,) if isinstance(self, nn.BatchNorm3d) else (2, 3)
        if uses_batch_statistics(self) or x.dim() not in known or x.shape[1] != self.num_features:
            return self.stock_forward(x)
        assert self.running_mean is not None and self.running_var is not None
        norm = FrozenNorm(self.running_mean, self.running_var, self.weight, self.bias, self.eps)
        return lean_frozen_norm(x.reshape(*x.shape[:2], -1, 1), norm).reshape(x.shape)


class LeanGroupNorm(Lean):
    """Keeps its input and two numbers per group."""

    def stock_forward(self, x: Tensor) -> Tensor:
        """Runs as the stock class does, without a fault that torch had."""
        assert isinstance(self, nn.GroupNorm)
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def lean_forward(self, x: Tensor) -> Tensor:
        """Normalises `(N, C, H, W)`; other shapes, and autocast, as the stock class does."""
        assert isinstance(self, nn.GroupNorm)
        if x.dim() != 4 or torch.is_autocast_enabled(x.device.type):
            return self.stock_forward(x)
        return lean_group_norm(x, self.weight, self.bias, self.num_groups, self.eps)


class LeanActivation(Lean):
    """Keeps one bit per element; hard-swish, hard-sigmoid and SiLU keep their input."""

    def lean_forward(self, x: Tensor) -> Tensor:
        """Activates `x` of any shape, in place if the stock module does."""
        return lean_activation(x, activation_name(self.stock_class), bool(self.inplace))


class LeanLeakyReLU(Lean):
    """Keeps one bit per element; of a slope that is not above 0, what stock keeps."""

    def lean_forward(self, x: Tensor) -> Tensor:
        """Activates `x` of any shape, in place if the stock module does."""
        assert isinstance(self, nn.LeakyReLU)
        if self.negative_slope <= 0 or not x.is_floating_point():
            return self.stock_forward(x)
        return lean_leaky_relu(x, self.negative_slope, self.inplace)


class LeanAvgPool2d(Lean):
    """Keeps a shape."""

    def lean_forward(self, x: Tensor) -> Tensor:
        """Pools `(N, C, H, W)`."""
        assert isinstance(self, nn.AvgPool2d)
        return lean_average_pool(x, average_pool_spec(self)) if x.dim() == 4 else self.stock_forward(x)


class LeanAdaptiveAvgPool2d(Lean):
    """Keeps a shape; to one pixel stock's mean keeps no more."""

    def lean_forward(self, x: Tensor) -> Tensor:
        """Pools `(N, C, H, W)`."""
        assert isinstance(self, nn.AdaptiveAvgPool2d)
        if x.dim() != 4 or self.output_size in (1, (1, 1)):
            return self.stock_forward(x)
        return lean_adaptive_average_pool(x, self.output_size)


class LeanMaxPool2d(Lean):
    """Keeps one byte per output."""

    def lean_forward(self, x: Tensor) -> Tensor:
        """Pools `(N, C, H, W)`."""
        assert isinstance(self, nn.MaxPool2d)
        if x.dim() != 4 or self.return_indices:
            return self.stock_forward(x)
        return lean_max_pool(x, max_pool_spec(self))


class LeanDropout(Lean):
    """Keeps one bit per element."""

    def lean_forward(self, x: Tensor) -> Tensor:
        """Drops elements of `x` of any shape while training."""
        assert isinstance(self, nn.Dropout)
        return self.stock_forward(x) if self.inplace else lean_dropout(x, self.p, self.training)


def mistyped(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether the stock module, with a weight of `dtype`, would refuse `x`. It then runs, and raises its own
    error.
    """
    return x.dtype is not dtype and autocast_dtype(x) is None


def _unless_recorded(forward: Callable[..., Any], stock: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a forward that is the stock one while `torch.jit.trace` or `torch.fx` records it: what they
    make has operations of its own, and no use for ours.
    """

    @functools.wraps(stock)
    def run(self: Lean, *inputs: Any, **named: Any) -> Any:
        recorded = torch.jit.is_tracing()  # type: ignore[attr-defined]  # is public, and not exported
        if recorded or any(isinstance(one, fx.Proxy) for one in (*inputs, *named.values())):
            return stock(self, *inputs, **named)
        return forward(self, *inputs, **named)

    return run


def make_lean_(module: nn.Module, lean: type[Lean], how: Execution) -> None:
    """Gives `module` the lean forward; a module that is already lean gets the new one."""
    set_class_beneath_(module, lean_class(base_class(module), lean))
    assert isinstance(module, Lean)
    module.lean_execution = how


def make_stock_(module: nn.Module) -> None:
    """Gives `module` its own class back."""
    if not isinstance(module, Lean):
        return
    set_class_beneath_(module, base_class(module))
    for name in ("lean_reader", "lean_execution", "lean_extents", "lean_outputs", "lean_chains", FUNCTIONS):
        vars(module).pop(name, None)


def lean_class(stock: type[nn.Module], lean: type[Lean]) -> type[nn.Module]:
    """Returns the subclass of `stock` with `lean`'s forward, the same one in every call."""
    return with_mixin(lean, stock, "Lean", stock_class=stock)


def _restore(stock: type[nn.Module], lean: type[Lean]) -> nn.Module:
    cls = lean_class(stock, lean)
    return cls.__new__(cls)

"""Autocast as a GPU's does it, on fake tensors of a GPU that is not there.

torch's own does nothing to them: C++ takes them for a CPU's (`storage_tracker`), while they carry a GPU's
dispatch keys. What lean functions cast, they cast themselves; this is for PyTorch's own modules.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Variable
from torch.overrides import TorchFunctionMode

_IN_16_BITS = frozenset((torch.conv2d, F.conv2d, F.linear, torch.matmul))
_IN_32_BITS = frozenset((F.group_norm, torch.group_norm, F.layer_norm, F.cross_entropy))
"""Source: https://docs.pytorch.org/docs/stable/amp.html, "CUDA Ops that can autocast": of its lists what the
networks of this project call."""


class AutocastOfAbsentGpu(TorchFunctionMode):
    """Casts arguments of PyTorch's functions while autocast is on: a CPU's, see `autocast_kind`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.backward:
            return self._backward(args[0])
        if func in _IN_16_BITS and torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
        elif func in _IN_32_BITS and torch.is_autocast_enabled("cpu"):
            dtype = torch.float32
        else:
            return func(*args, **kwargs)
        cast_args = [_cast(value, dtype) for value in args]
        return func(*cast_args, **{name: _cast(value, dtype) for name, value in kwargs.items()})

    def _backward(self, loss: Tensor) -> None:
        """What `loss.backward()` does, with this mode on: backward may recompute a forward.

        A mode is off while it answers for a function, and so it would be for all of backward.
        """
        ones = torch.ones_like(loss)
        with self:
            Variable._execution_engine.run_backward(
                (loss,), (ones,), False, False, (), allow_unreachable=True, accumulate_grad=True
            )


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

"""A network on fake tensors: shapes, types and strides, and no numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tinytl.build import build_model
from tinytl.config.train_config import TrainConfig

CPU = torch.device("cpu")


def build_on_meta(config: TrainConfig) -> nn.Module:
    """Returns the network of `config` on the meta device; outside of a FakeTensorMode."""
    with torch.device("meta"), _NothingDrawn():
        return build_model(config).net


class _NothingDrawn(TorchFunctionMode):
    """Inside of it tensors without numbers draw none: their operations would import sympy and a compiler."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == nn.init.__name__:
            return (args or tuple((kwargs or {}).values()))[0]
        return args[0] if func in _DRAW else func(*args, **(kwargs or {}))


_DRAW = (Tensor.normal_, Tensor.uniform_)


def to_fake_(net: nn.Module, device: torch.device) -> nn.Module:
    """Moves a network from the meta device to fake tensors of `device`, inside of a FakeTensorMode.

    Building a network on fake tensors needs four times as long.
    """
    tensors = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    made: dict[Tensor, Tensor] = {}
    for name, tensor in tensors:
        if tensor not in made:
            fake = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
            parameter = isinstance(tensor, nn.Parameter)
            made[tensor] = nn.Parameter(fake, tensor.requires_grad) if parameter else fake
        place, _, leaf = name.rpartition(".")
        setattr(net.get_submodule(place), leaf, made[tensor])
    return net

"""A network on fake tensors: shapes, types and strides, and no numbers."""

import torch
from torch import Tensor, nn

from tinytl.build import build_model
from tinytl.config.train_config import TrainConfig

CPU = torch.device("cpu")


def build_on_meta(config: TrainConfig) -> nn.Module:
    """Returns the network of `config` on the meta device; outside of a FakeTensorMode."""
    with torch.device("meta"):
        return build_model(config).net


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

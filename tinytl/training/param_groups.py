"""Named parameter groups: lr = base_lr * lr_ratio, every trainable parameter in exactly one group."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from tinytl.config.names import METHOD_GROUPS
from tinytl.config.train_config import TrainConfig

LATE_BLOCKS = 5
"""Feature blocks at the end of the network that form the group `late`."""


def group_of(name: str, method: str, n_features: int) -> str:
    """Returns the group of the parameter `name` in a net with `n_features` feature blocks under `method`."""
    if name.startswith("classifier."):
        return "classifier"
    if method.startswith("TinyTL"):
        return "lite_residual" if ".lite_residual." in name else "bias"
    if method == "Sparse":
        return "bias" if name.endswith(".bias") else "weight"
    return "late" if int(name.split(".")[1]) >= n_features - LATE_BLOCKS else "early"


def build_param_groups(net: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Returns the optimiser's groups `{"name", "params", "lr"}`, in the method's order; none for biases of
    Sparse if none trains.

    Source: the user's report on separate learning rates (classifier 1, last five blocks 0.6, the rest 0.4).
    """
    members: dict[str, list[nn.Parameter]] = {group: [] for group in METHOD_GROUPS[config.method]}
    n_features = sum(1 for _ in net.get_submodule("features").children())
    for name, parameter in _trainable(net):
        members[group_of(name, config.method, n_features)].append(parameter)
    for group in ("bias", "early"):  # a scheme may have no biases, a net no more than five blocks
        if group in members and not members[group] and (group == "early" or config.method == "Sparse"):
            del members[group]
    empty = [group for group, parameters in members.items() if not parameters]
    assert not empty, f"{config.method} has an empty group: {empty}"
    return [
        {"name": group, "params": parameters, "lr": config.base_lr * getattr(config.filled_lr_ratio, group)}
        for group, parameters in members.items()
    ]


def _trainable(net: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in net.named_parameters() if parameter.requires_grad)

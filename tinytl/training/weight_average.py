"""An exponential moving average of the weights that train, for a network that is judged by it.

Only what changes is copied: parameters that train, and under batch norm the running statistics, which are
averaged as the weights are. The copy needs as much memory as they do, in every step.

In update t, counted from 0, the decay is min(decay, (1 + t) / (10 + t)): at first nearly all is new, so the
weights that a run began with, a random classifier among them, are forgotten however short it is. A constant
decay of 0.999 would leave a third of them after 1,000 steps. Source: TensorFlow's ExponentialMovingAverage
(`num_updates`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from tinytl.config.train_config import TrainConfig

STATISTICS = ("running_mean", "running_var")
"""Last part of the names of what batch norm keeps of the images."""


class WeightAverage:
    """The average of what trains in a network; of nothing, and without any effect, if it is switched off."""

    def __init__(self, net: nn.Module, config: TrainConfig) -> None:
        """Begins with the weights as they are. `net`: on its device."""
        self.n_updates = 0
        self._decay = config.weight_average
        self._changing = _changing(net, config) if config.weight_average else {}
        self._averages = {name: tensor.detach().clone() for name, tensor in self._changing.items()}

    @property
    def tensors(self) -> list[Tensor]:
        """The averages."""
        return list(self._averages.values())

    @property
    def next_decay(self) -> float:
        """The share of the average that the next update leaves."""
        return min(self._decay, (1 + self.n_updates) / (10 + self.n_updates))

    def update(self) -> None:
        """Moves the averages towards the weights, after an optimiser's step. Needs no memory for that."""
        if not self._changing:
            return
        average = get_ema_multi_avg_fn(self.next_decay)
        average(self.tensors, [tensor.detach() for tensor in self._changing.values()], self.n_updates)
        self.n_updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside of it the network has the averages for its weights. Nothing is copied: each tensor takes the
        other's memory, and gets its own back, at which a CUDA graph reads it.
        """
        trained = {name: tensor.data for name, tensor in self._changing.items()}
        for name, tensor in self._changing.items():
            tensor.data = self._averages[name]
        try:
            yield
        finally:
            for name, tensor in self._changing.items():
                tensor.data = trained[name]

    def state_dict(self) -> dict[str, Any]:
        """Returns the weights as they train, and the number of updates; empty if it is switched off.

        A checkpoint has the averages as its network's weights.
        """
        if not self._changing:
            return {}
        trained = {name: tensor.detach() for name, tensor in self._changing.items()}
        return {"n_updates": self.n_updates, "trained": trained}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores both, of a network that has loaded the averages as its weights."""
        if not self._changing:
            return
        self.n_updates = state["n_updates"]
        for name, tensor in self._changing.items():
            self._averages[name].copy_(tensor)
            tensor.copy_(state["trained"][name])


def _changing(net: nn.Module, config: TrainConfig) -> dict[str, Tensor]:
    """Returns what training changes, by its name in the network."""
    found: dict[str, Tensor] = {name: p for name, p in net.named_parameters() if p.requires_grad}
    if config.norm == "batch_norm":
        found |= {name: b for name, b in net.named_buffers() if name.rpartition(".")[2] in STATISTICS}
    return found

"""Several processes on one batch, each with its share of the samples: started by torchrun.

The gradients of all processes are summed before the optimiser's step, so that the step is that of one process
with the whole batch. Small gradients travel together, up to one MiB of them; larger ones as they are, so that
each process needs the memory of its share and little more.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError

T = TypeVar("T")
BUNDLE_BYTES = 1 << 20
"""Most of what is sent at once, if it is more than one tensor: a message of a few bytes takes as long."""


@dataclass(frozen=True)
class Ranks:
    """This process's place among those of a run."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints for the user."""
        return self.rank == 0

    def share(self, n_samples: int) -> slice:
        """Returns this process's rows of a batch of `n_samples`: equal parts, or the first ones longer by
        one; a part can be empty.
        """
        return slice(self._start(self.rank, n_samples), self._start(self.rank + 1, n_samples))

    def _start(self, rank: int, n_samples: int) -> int:
        size, longer = divmod(n_samples, self.world_size)
        return rank * size + min(rank, longer)

    def sum_(self, *tensors: Tensor) -> None:
        """Replaces each tensor by its sum over all processes."""
        if self.world_size == 1:
            return
        for together in _bundles(tensors):
            if len(together) == 1:
                dist.all_reduce(together[0])
                continue
            flat = torch.cat([tensor.reshape(-1) for tensor in together])
            dist.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in together])
            for tensor, part in zip(together, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def agreed(self, make: Callable[[], T]) -> T:
        """Returns what the first process makes, to all of them."""
        if self.world_size == 1:
            return make()
        made = [make() if self.is_first else None]
        dist.broadcast_object_list(made)
        return cast(T, made[0])

    def sum_gradients_(self, net: nn.Module) -> None:
        """Replaces each gradient by its sum over all processes; a process without samples adds zeros."""
        if self.world_size == 1:
            return
        parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.sum_(*(parameter.grad for parameter in parameters if parameter.grad is not None))


def _bundles(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yields the tensors in their order, those of one type together up to `BUNDLE_BYTES`."""
    bundle: list[Tensor] = []
    held = 0
    for tensor in tensors:
        if bundle and (held + tensor.nbytes > BUNDLE_BYTES or tensor.dtype != bundle[0].dtype):
            yield bundle
            bundle, held = [], 0
        bundle.append(tensor)
        held += tensor.nbytes
    if bundle:
        yield bundle


ALONE = Ranks()
"""The only process of its run."""


@contextmanager
def joined_ranks(config: TrainConfig) -> Iterator[Ranks]:
    """Joins the processes that torchrun started, and leaves them at the end; without torchrun, one process.

    GPUs communicate by NCCL, one GPU per process of a machine; CPUs by Gloo.

    Raises:
        ConfigError: for a batch that does not divide, or for batch norm, whose statistics would be of a
            process's share.
    """
    started_by_torchrun = {"RANK", "LOCAL_RANK", "MASTER_ADDR"} <= os.environ.keys()
    world_size = int(os.environ.get("WORLD_SIZE", "1")) if started_by_torchrun else 1
    if world_size == 1:
        yield ALONE
        return
    if config.batch_size % world_size:
        raise ConfigError(f"batch_size={config.batch_size} does not divide by the {world_size} processes")
    if config.norm == "batch_norm":
        raise ConfigError(
            f"norm=batch_norm with {world_size} processes would take statistics of each process's share: "
            "use norm frozen_bn or group_norm"
        )
    on_gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield Ranks(dist.get_rank(), world_size)
    finally:
        dist.destroy_process_group()


def share_of_one(config: TrainConfig, ranks: Ranks) -> TrainConfig:
    """Returns the configuration whose memory is that of one process: its share of the batch.

    Raises:
        ConfigError: if `micro_batch_size` does not divide the share.
    """
    share = config.batch_size // ranks.world_size
    micro = config.micro_batch_size
    if micro is not None and share % min(micro, share):
        raise ConfigError(
            f"micro_batch_size={micro} does not divide the {share} samples of each of {ranks.world_size} "
            "processes"
        )
    alone = ranks.world_size == 1 or config.cuda_graph is not None
    return dataclasses.replace(
        config,
        batch_size=share,
        micro_batch_size=None if micro is None else min(micro, share),
        cuda_graph=config.cuda_graph if alone else False,  # several sum gradients within a step
    )

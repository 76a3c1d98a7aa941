"""How many trials run at a time, and each one's share of a cluster's CPUs and GPUs."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.space import SearchSpace
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.plural import counted
from tuner.cluster.nodes import Node, read_nodes, with_gpu_memory
from tuner.config import StudyConfig
from tuner.trial.gpu_share import CUDA_CONTEXT_MIB
from tuner.trial_config import largest_configs

WORKER_MIB = 1000.0
"""What a trial's process needs on a CPU beside the tensors of a step: Python, torch, Ray, and the pictures.

Source: `benchmarks.memory.torch_process`, the worker of a study on digits: 834 MiB, with a step of some 30,
and 1,028 before it gave back what libraries read as they loaded. Larger pictures need the rest.
"""
MARGIN = 0.1
"""Margin on a trial's need, as a part of it, for memory that torch's allocator holds but cannot use."""
RAY_UNIT = 1e-4
"""The unit in which Ray counts resources."""
MOST_PER_GPU = 100
"""Most trials on one GPU: up to this k, 1/k and 1/(k + 1) differ in Ray's unit."""


@dataclass(frozen=True, kw_only=True)
class PackedShare:
    """The resources of a trial with `--pack`: Ray calls this with the trial's configuration. Can be pickled.

    Ray reuses a process only for a trial of the same share, and starts another for others. So shares are few:
    a half, a third, a quarter, a sixth, an eighth, a twelfth, ...
    """

    cpus: float
    gpu_memory_mib: float
    least: float
    """The least share of a trial, so that trials spread over all GPUs."""

    def __call__(self, config: Mapping[str, Any]) -> Any:
        """Returns Ray's placement group for `config["trained_memory_mib"]`."""
        from ray.tune import PlacementGroupFactory

        return PlacementGroupFactory([{"CPU": self.cpus, "GPU": self.share(config["trained_memory_mib"])}])

    def share(self, peak_memory_mib: float) -> float:
        """Returns the share of a GPU for a trial of that predicted peak."""
        fit = trials_per_gpu(share_of(peak_memory_mib, self.gpu_memory_mib))
        power = 1 << (fit.bit_length() - 1)
        coarse = power + power // 2 if fit >= power + power // 2 else power
        return max(self.least, part(coarse))


@dataclass(frozen=True, kw_only=True)
class TrialResources:
    """Workers of a study, and one trial's share."""

    workers: int
    """Trials at a time."""
    cpus_per_trial: float
    gpus_per_trial: float = 0.0
    """One share for the whole study; with `packed`, the least share of a trial."""
    packed: PackedShare | None = None
    held_mib: float = math.inf
    """Tensors of a training step, in MiB, that a worker holds beside what its process needs."""

    @property
    def for_ray(self) -> dict[str, float] | Callable[[Mapping[str, Any]], Any]:
        """The argument of `tune.with_resources`."""
        return self.packed or {"cpu": self.cpus_per_trial, "gpu": self.gpus_per_trial}

    def gpus_of(self, peak_memory_mib: float) -> float:
        """Returns the share of a GPU that a trial of that predicted peak gets."""
        return self.gpus_per_trial if self.packed is None else self.packed.share(peak_memory_mib)


def nodes_of(config: StudyConfig, base: TrainConfig) -> list[Node]:
    """Returns the nodes of the cluster to which Ray is connected, those with GPUs with their memory.

    Raises:
        ConfigError: for GPUs that torch does not find, or `device` `cuda` without a GPU.
    """
    nodes = read_nodes()
    if base.device == "cpu":
        return [dataclasses.replace(node, gpus=0.0) for node in nodes]
    if not any(node.gpus for node in nodes):
        if base.device == "cuda":
            raise ConfigError(
                f"device=cuda, but Ray finds no GPU in the cluster ({_sum_of(nodes)}): use device auto or cpu"
            )
        return nodes
    try:
        return with_gpu_memory(nodes)
    except ConfigError:
        if config.gpus_per_trial is None:
            raise
        return nodes  # shares are given: no GPU has to say what it has


def plan_resources(
    config: StudyConfig, space: SearchSpace, base: TrainConfig, nodes: Sequence[Node]
) -> TrialResources:
    """Divides the nodes of a cluster (`nodes_of`) among the trials of a study.

    If shares follow from memory, the memory of the space's largest configurations is predicted (for seconds),
    as on a GPU, whether or not there is one here.

    Raises:
        ConfigError: for a share that is impossible, or if the space's largest configuration does not fit the
            smallest GPU.
    """
    largest_mib = 0.0
    if any(node.gpus for node in nodes) and config.gpus_per_trial is None:
        largest_mib = largest_trained_mib(
            space,
            dataclasses.replace(base, device="cuda"),
            enough_mib=_held_by_gpu(_smallest_gpu_mib(nodes)),
        )
    return divide(
        nodes,
        workers=config.workers,
        gpus_per_trial=config.gpus_per_trial,
        largest_mib=largest_mib,
        pack=config.pack,
    )


def divide(
    nodes: Sequence[Node],
    *,
    workers: int | None,
    gpus_per_trial: float | None = None,
    largest_mib: float = 0.0,
    pack: bool = False,
) -> TrialResources:
    """Divides `nodes` among trials: one CPU each and, if there are GPUs, one share for all.

    From memory, the share is the largest 1/k that still lets as many trials run as memory, CPUs and `workers`
    allow. If memory is not what limits them, each trial gets more of a GPU, and trials spread over all GPUs.

    Args:
        nodes: the cluster's; with `gpu_memory_mib` if shares follow from memory.
        workers: most trials at a time; None: as many as fit. Without GPUs, more trials than CPUs share
            the CPUs.
        gpus_per_trial: share to use in place of one from memory; a trial's plan fits it if memory is known.
        largest_mib: largest predicted memory of an admissible configuration.
        pack: shares by configuration.

    Raises:
        ConfigError: for a share that is impossible.
    """
    with_gpu = [node for node in nodes if node.gpus]
    if not with_gpu:
        if pack or gpus_per_trial is not None:
            flag = "--pack" if pack else f"--gpus-per-trial {gpus_per_trial:g}"
            raise ConfigError(f"{flag}: trials have no GPU here ({_sum_of(nodes)}): leave it out")
        if not any(node.cpus for node in nodes):
            raise ConfigError(f"trials have no CPU here ({_sum_of(nodes)}): start a node with --num-cpus 1")
        return _divide_cpus(nodes, workers)
    cpus = min(1.0, max(node.cpus for node in with_gpu))
    if gpus_per_trial is not None:
        held_mib = _check_given(gpus_per_trial, with_gpu)
        return TrialResources(
            workers=_at_most(workers, _at_a_time(with_gpu, gpus_per_trial)),
            cpus_per_trial=cpus,
            gpus_per_trial=gpus_per_trial,
            held_mib=held_mib,
        )
    memory_mib = _smallest_gpu_mib(with_gpu)
    share = share_of(largest_mib, memory_mib)
    if pack:  # the largest fits; as many run as would if all were the smallest
        share = share_of(0.0, memory_mib)
    workers = _at_most(workers, _at_a_time(with_gpu, share))
    shares = (part(k) for k in range(1, trials_per_gpu(share) + 1))
    share = next((larger for larger in shares if _at_a_time(with_gpu, larger) >= workers), share)
    packed = PackedShare(cpus=cpus, gpu_memory_mib=memory_mib, least=share) if pack else None
    held_mib = _held_by_gpu(memory_mib if pack else share * memory_mib)
    return TrialResources(
        workers=workers, cpus_per_trial=cpus, gpus_per_trial=share, packed=packed, held_mib=held_mib
    )


def share_of(peak_memory_mib: float, gpu_memory_mib: float) -> float:
    """Returns the share of a GPU that a trial of that predicted peak needs, 1/k for a whole k.

    CUDA's context and a margin are added to the prediction: k trials are k processes.

    Raises:
        ConfigError: if a whole GPU is not enough.
    """
    need_mib = (peak_memory_mib + CUDA_CONTEXT_MIB) * (1 + MARGIN)
    fit = int(gpu_memory_mib / need_mib + 1e-9)  # what `_held_by_gpu` returns fits, whatever is rounded
    if fit:
        return part(min(MOST_PER_GPU, fit))
    most_mib = gpu_memory_mib / (1 + MARGIN) - CUDA_CONTEXT_MIB
    way_out = f"give --memory-budget-mib {math.floor(most_mib)}" if most_mib >= 1 else "use --set device=cpu"
    raise ConfigError(
        f"configurations of {peak_memory_mib:,.0f} MiB and more need {need_mib:,.0f} MiB of a GPU "
        f"({CUDA_CONTEXT_MIB:g} MiB of CUDA's own and {MARGIN:.0%} margin included), the smallest GPU has "
        f"{gpu_memory_mib:,.0f}: {way_out}"
    )


def part(k: int) -> float:
    """Returns 1/k rounded down to Ray's unit, so that k of them fit one device."""
    return int(1 / RAY_UNIT) // k * RAY_UNIT


def trials_per_gpu(share: float) -> int:
    """Returns how many trials of a share fit one GPU."""
    return int(1 / share + 1e-9)


def _held_by_gpu(memory_mib: float) -> float:
    """Returns the tensors, in MiB, that a process holds in so much of a GPU."""
    return memory_mib / (1 + MARGIN) - CUDA_CONTEXT_MIB


def largest_trained_mib(space: SearchSpace, base: TrainConfig, *, enough_mib: float = math.inf) -> float:
    """Returns the largest predicted peak with which a configuration trains, at most `enough_mib`.

    That is the fastest plan's: a memory budget is for the device, and does not bound it. A prediction needs
    about a second. Once one reaches `enough_mib`, no more are made: such a configuration trains with a slower
    plan.
    """
    from tinytl.memory.predict import predict_memory
    from tinytl.memory.predict_many import predict_memories

    configs = largest_configs(space, base)
    # The plan `budget` makes each configuration fit the budget, or refuses it.
    planned = max((c.budget_mib for c in configs if c.budget_mib is not None), default=0.0)
    configs = [c for c in configs if c.budget_mib is None]
    if planned >= enough_mib or not configs:
        return min(planned, enough_mib)
    if predict_memory(configs[0]).peak_mib >= enough_mib:
        return enough_mib
    return min(enough_mib, max(planned, *(p.peak_mib for p in predict_memories(configs))))


def _sum_of(nodes: Sequence[Node]) -> str:
    cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    return f"{counted(len(nodes), 'node')} with {cpus:g} CPUs and {gpus:g} GPUs"


def _at_a_time(nodes: Sequence[Node], share: float) -> int:
    """How many trials of a share of a GPU, or of several GPUs, run at once, one CPU each."""

    def on(node: Node) -> int:
        fit = node.gpus // share if share > 1 else node.gpus * trials_per_gpu(share)
        return min(int(node.cpus), int(fit))

    # A node may have less than one CPU to give: a trial can still run there.
    return max(1, sum(on(node) for node in nodes))


def _at_most(workers: int | None, most: int) -> int:
    return most if workers is None else min(workers, most)


def _check_given(share: float, with_gpu: Sequence[Node]) -> float:
    """Returns the tensors, in MiB, that a process of this share holds; infinity if that is not known."""
    most = max(node.gpus for node in with_gpu)
    if share > most:
        raise ConfigError(f"--gpus-per-trial {share:g}: the largest node has {most:g} GPUs")
    if share > 1 and share != int(share):
        raise ConfigError(f"--gpus-per-trial {share:g}: above 1, give a whole number of GPUs")
    if any(node.gpu_memory_mib is None for node in with_gpu):
        return math.inf
    memory_mib = _smallest_gpu_mib(with_gpu)
    held_mib = _held_by_gpu(min(1.0, share) * memory_mib)
    if held_mib <= 0:
        least = math.ceil((CUDA_CONTEXT_MIB + 1) * (1 + MARGIN) / memory_mib * 100) / 100
        raise ConfigError(
            f"--gpus-per-trial {share:g}: that is {share * memory_mib:,.0f} MiB of the smallest GPU, and "
            f"CUDA itself needs {CUDA_CONTEXT_MIB:g} and a margin of {MARGIN:.0%}: give {least:g} or more, "
            "or leave it out"
        )
    return held_mib


def _smallest_gpu_mib(nodes: Sequence[Node]) -> float:
    return min(node.gpu_memory_mib for node in nodes if node.gpu_memory_mib is not None)


def _divide_cpus(nodes: Sequence[Node], workers: int | None) -> TrialResources:
    """One CPU per trial; an equal part of one if there are more trials than CPUs."""
    cpus = [node.cpus for node in nodes]
    if workers is None:
        workers = max(1, sum(int(n) for n in cpus))
    parts = sorted({min(1.0, n / k) for n in cpus if n for k in range(1, workers + 1)}, reverse=True)
    enough = (p for p in parts if sum(int(n / p + 1e-9) for n in cpus) >= workers)
    share = next(enough, 1.0)
    most = [min(workers, int(node.cpus / share + 1e-9)) for node in nodes]
    held_mib = min(
        (node.memory_mib / at_once for node, at_once in zip(nodes, most, strict=True) if at_once),
        default=math.inf,
    )
    return TrialResources(
        workers=workers,
        cpus_per_trial=int(share / RAY_UNIT + 1e-6) * RAY_UNIT,
        held_mib=max(0.0, held_mib - WORKER_MIB),
    )

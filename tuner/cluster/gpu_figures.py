"""What a GPU of the cluster says of itself to a driver that has none: times of steps, and workspaces.

A study predicts memory and slowdowns where its driver runs, for the GPUs on which its trials run.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tinytl.errors import ConfigError
from tuner.cluster.nodes import Node

if TYPE_CHECKING:
    from tinytl.memory.gpu_workspaces import Workspaces
    from tinytl.step_time.step_times import StepTimes

MEASURED_WITHIN_S = 180.0
"""How long the answer may need: a process starts, and real steps run in each precision."""


@dataclass(frozen=True, kw_only=True)
class GpuFigures:
    """One GPU's figures."""

    gpu: str
    """Its maker's name."""
    times: "StepTimes"
    workspaces: "Mapping[str, Workspaces]"
    """By precision."""


def ask_smallest_gpu(nodes: Sequence[Node], measure: Callable[[], GpuFigures] | None = None) -> GpuFigures:
    """Measures the GPU with the least memory, which sets all trials' shares, while no trial runs on it.

    What it finds stays on its node, and is not measured there again. `nodes` have GPUs and their memory;
    `measure` (default: `figures`) runs where the GPU is.

    Raises:
        ConfigError: if the node does not answer, or another study has its GPU.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    smallest = min(nodes, key=lambda node: node.gpu_memory_mib or 0.0)
    place = NodeAffinitySchedulingStrategy(smallest.node_id, soft=False)
    ask = ray.remote(num_cpus=0, num_gpus=1, max_calls=1, max_retries=0, scheduling_strategy=place)(
        measure or figures
    )
    asked = ask.remote()
    try:
        found: GpuFigures = ray.get(asked, timeout=MEASURED_WITHIN_S)
    except ray.exceptions.RayError as error:
        ray.cancel(asked, force=True)
        cause = getattr(error, "cause", None) or error
        if not isinstance(cause, ray.exceptions.RayError | RuntimeError | ConfigError):
            raise  # a bug, not a GPU's fault
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise ConfigError(
            f"the GPU of node {smallest.address} does not say how fast it is ({lines[-1]})"
        ) from None
    return found


def figures() -> GpuFigures:
    """Returns those of the GPU that this process has."""
    import torch

    from tinytl.config.names import PRECISIONS
    from tinytl.device import device_name
    from tinytl.memory.measured_step import workspaces_for_another_machine
    from tinytl.step_time.calibration import step_times

    found = {precision: workspaces_for_another_machine(precision) for precision in PRECISIONS}
    return GpuFigures(
        gpu=device_name(torch.device("cuda")),
        times=step_times(device="cuda"),
        workspaces={precision: of_gpu for precision, of_gpu in found.items() if of_gpu is not None},
    )


def mixed(nodes: Sequence[Node]) -> str | None:
    """Returns a line if the cluster's GPUs differ; None if not."""
    names = sorted({name for node in nodes for name in node.gpu_names})
    if len(names) < 2:
        return None
    return (
        f"GPUs differ ({', '.join(names)}): shares, predictions and slowdowns are those of the one with the "
        "least memory; times of epochs are those of each trial's own."
    )

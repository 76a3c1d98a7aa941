"""The machines of the cluster to which Ray is connected, and the memory of their GPUs."""

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

from tinytl.errors import ConfigError

ANSWER_TIMEOUT_S = 120.0
"""How long a process may need to start on each node that has GPUs, and to import torch."""
NODES_TOLD = 3
"""Most nodes that one line names."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine of a cluster, as Ray counts it."""

    cpus: float
    gpus: float = 0.0
    gpu_memory_mib: float | None = None
    """Memory of its smallest GPU; None if it was not read."""
    gpu_names: tuple[str, ...] = ()
    """Its GPUs' kinds, if they were read."""
    memory_mib: float = math.inf
    """What Ray leaves to the processes of trials, of the machine's memory."""
    node_id: str = ""
    address: str = ""


def read_nodes() -> list[Node]:
    """Returns the machines that are alive, without their GPUs' memory."""
    import ray

    return [
        Node(
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            memory_mib=node["Resources"].get("memory", math.inf) / 2**20,
            node_id=node["NodeID"],
            address=node["NodeManagerAddress"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def nodes_for_trials(gpus_per_trial: float) -> list[Node]:
    """Returns the machines that trials can be placed on."""
    return [node for node in read_nodes() if (node.gpus if gpus_per_trial else node.cpus)]


def what_is_taken(cpus: float, gpus: float) -> str | None:
    """Returns what one trial needs and why no node can give it now, or None if one can."""
    from ray._private.state import available_resources_per_node  # Ray's public function sums over nodes

    need = " and ".join(f"{n:g} {name}" for n, name in ((cpus, "CPU"), (gpus, "GPU")) if n)
    able = [node for node in read_nodes() if node.cpus >= cpus and node.gpus >= gpus]
    if not able:
        return f"a trial needs {need}, and no node of the cluster has that. It starts once one joins."
    free, left = available_resources_per_node(), []
    for node in able:
        free_cpus, free_gpus = (free.get(node.node_id, {}).get(name, 0.0) for name in ("CPU", "GPU"))
        if free_cpus >= cpus and free_gpus >= gpus:
            return None
        gpus_left = f" and {free_gpus:g} of {node.gpus:g} GPUs" if gpus else ""
        left.append(f"{free_cpus:g} of {node.cpus:g} CPUs{gpus_left} on {node.address}")
    told = ", ".join(left[:NODES_TOLD]) + (f", {len(left) - NODES_TOLD} more" if left[NODES_TOLD:] else "")
    return f"a trial needs {need}, and others have left {told}. It starts once they are done."


def with_gpu_memory(nodes: Sequence[Node]) -> list[Node]:
    """Asks each node that has GPUs for their memory, all at the same time.

    Raises:
        ConfigError: if torch finds no GPU on a node for which Ray counts some, or a node does not answer.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # In a process that ends afterwards: one that has seen all GPUs could not be given a single one later.
    ask = ray.remote(num_cpus=0, num_gpus=0, max_calls=1, max_retries=0)(_sizes_of_gpus)
    answers = {
        node.node_id: ask.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False)
        ).remote()
        for node in nodes
        if node.gpus
    }
    asked = []
    for node in nodes:
        if not node.gpus:
            asked.append(node)
            continue
        try:
            sizes_mib = ray.get(answers[node.node_id], timeout=ANSWER_TIMEOUT_S)
        except ray.exceptions.RayError as error:
            raise ConfigError(
                f"node {node.address} does not report its GPUs' memory ({type(error).__name__}): "
                "give --gpus-per-trial"
            ) from None
        if not sizes_mib:
            raise ConfigError(
                f"Ray counts {node.gpus:g} GPUs on node {node.address}, but torch finds none there: install "
                "torch for its GPUs, or give --set device=cpu"
            )
        smallest_mib = min(size_mib for _, size_mib in sizes_mib)
        names = tuple(sorted({name for name, _ in sizes_mib}))
        asked.append(dataclasses.replace(node, gpu_memory_mib=smallest_mib, gpu_names=names))
    return asked


def _sizes_of_gpus() -> list[tuple[str, float]]:
    """Returns name and memory in MiB of each GPU of this machine."""
    # Ray hides GPUs from a task that asks for none; this one only looks.
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    import torch

    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [(gpu.name, gpu.total_memory / 2**20) for gpu in found]

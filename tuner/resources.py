"""How many trials run at a time, and what each is given."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrialResources:
    """Workers of a study, and one trial's share."""

    workers: int
    cpus_per_trial: float
    gpus_per_trial: float


def share(cluster_cpus: float, cluster_gpus: float, workers: int | None) -> TrialResources:
    """Divides a cluster among trials: one CPU each; GPUs are shared evenly where there are any.

    Without `workers`, there are as many trials at a time as GPUs, or as CPUs where there is no GPU.
    """
    workers = workers or max(1, int(cluster_gpus or cluster_cpus))
    cpus = min(1.0, cluster_cpus / workers)
    return TrialResources(workers, cpus, min(1.0, cluster_gpus / workers))

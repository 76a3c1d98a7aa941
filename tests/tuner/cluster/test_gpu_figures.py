"""A driver without a GPU asks one of the cluster: real Ray, and a GPU that Ray is told of."""

import dataclasses
from collections.abc import Iterator

import pytest
import ray

from tinytl.errors import ConfigError
from tinytl.memory.gpu_workspaces import Workspaces
from tinytl.step_time.step_times import StepTimes
from tuner.cluster.gpu_figures import GpuFigures, ask_smallest_gpu, mixed
from tuner.cluster.nodes import Node, read_nodes

FIGURES = GpuFigures(
    gpu="a GPU",
    times=StepTimes(per_kind={"mul": (1e-6, 1e-12, 0.0)}, scale=0.5),
    workspaces={"float32": Workspaces(cublas_mib=8.0, cudnn_mib=2.0)},
)
NODE = Node(cpus=4, gpus=1, gpu_memory_mib=8192.0, gpu_names=("T4",))


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[Node]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # Ray would take fewer GPUs than it lists
        ray.init(
            address="local",  # whatever else runs on this machine
            num_cpus=1,
            num_gpus=1,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=100 * 2**20,
        )
        yield [dataclasses.replace(node, gpu_memory_mib=8192.0) for node in read_nodes()]
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_node_with_the_smallest_gpu_answers_and_one_that_cannot_is_named(nodes: list[Node]) -> None:
    def measure() -> GpuFigures:
        assert ray.get_gpu_ids() == [0]  # nothing else runs on it
        return FIGURES

    elsewhere = dataclasses.replace(nodes[0], node_id="f" * 56, gpu_memory_mib=90_000.0)
    assert ask_smallest_gpu([elsewhere, *nodes], measure) == FIGURES
    # Ray was told of a GPU, and torch finds none.
    line = rf"the GPU of node {nodes[0].address} does not say how fast it is \(.*(NVIDIA|CUDA).*\)"
    with pytest.raises(ConfigError, match=line):
        ask_smallest_gpu(nodes)


@pytest.mark.parametrize(
    ("names", "line"),
    [
        ([], None),
        ([("T4",), ("T4",)], None),
        (
            [("T4",), ("A10", "T4")],
            "GPUs differ (A10, T4): shares, predictions and slowdowns are those of the one with the least "
            "memory; times of epochs are those of each trial's own.",
        ),
    ],
)
def test_a_cluster_with_gpus_of_several_kinds_says_whose_figures_count(
    names: list[tuple[str, ...]], line: str | None
) -> None:
    assert mixed([dataclasses.replace(NODE, gpu_names=of_node) for of_node in names]) == line


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_bug_on_the_node_stays_what_it_is(nodes: list[Node]) -> None:
    def measure() -> GpuFigures:
        raise AttributeError("no such thing")

    with pytest.raises(AttributeError, match="no such thing"):
        ask_smallest_gpu(nodes, measure)

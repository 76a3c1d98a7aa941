"""Two nodes that claim a GPU each: Ray counts them, and places trials by shares, without any device."""

import dataclasses
import os
import time
from collections import Counter

import pytest
import ray
from ray import tune
from ray.cluster_utils import Cluster
from ray.tune import RunConfig
from ray.util.placement_group import placement_group, remove_placement_group

from tinytl.errors import ConfigError
from tuner.cluster.nodes import read_nodes, what_is_taken, with_gpu_memory
from tuner.cluster.resources import divide

SLEEP_S = 1.0
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Sleeping(tune.Trainable):
    def setup(self, config):
        self.reset_config(config)

    def reset_config(self, new_config):
        self.begin = time.time()
        return True

    def step(self):
        time.sleep(SLEEP_S)
        node = ray.get_runtime_context().get_node_id()
        return {"begin": self.begin, "end": time.time(), "pid": os.getpid(), "node": node, "done": True}

    def save_checkpoint(self, checkpoint_dir):
        pass


@pytest.fixture(scope="module")
def nodes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
        patch.setenv("RAY_AIR_NEW_OUTPUT", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)  # Ray would take fewer GPUs than it lists
        size = {"num_gpus": 1, "object_store_memory": 100 * 2**20}
        cluster = Cluster(
            initialize_head=True, head_node_args=size | {"num_cpus": 4, "include_dashboard": False}
        )
        cluster.add_node(num_cpus=2, **size)
        ray.init(address=cluster.address, log_to_driver=False)
        yield read_nodes()
        ray.shutdown()
        cluster.shutdown()


def run(resources, space, tmp_path):
    results = tune.Tuner(
        tune.with_resources(Sleeping, resources.for_ray),
        param_space=space,
        tune_config=tune.TuneConfig(max_concurrent_trials=resources.workers, reuse_actors=True),
        run_config=RunConfig(name="shares", storage_path=str(tmp_path), verbose=0),
    ).fit()
    return [result.metrics for result in results]


def most_at_once(metrics) -> int:
    return max(sum(m["begin"] <= one["begin"] < m["end"] for m in metrics) for one in metrics)


def test_ray_counts_gpus_that_torch_does_not_find(nodes):
    assert sorted((node.cpus, node.gpus) for node in nodes) == [(2.0, 1.0), (4.0, 1.0)]
    with pytest.raises(ConfigError, match="torch finds none there"):
        with_gpu_memory(nodes)


def test_room_is_what_one_node_has_free(nodes):
    def hold(node, cpus):
        group = placement_group([{"CPU": cpus}], _soft_target_node_id=node.node_id, strategy="STRICT_PACK")
        ray.get(group.ready())
        return group

    small, large = sorted(nodes, key=lambda node: node.cpus)
    assert what_is_taken(2.0, 0.0) is None
    held = [hold(small, 1), hold(large, 3)]
    try:
        wait_until(lambda: what_is_taken(2.0, 0.0))
        told = what_is_taken(2.0, 0.0)
        assert told.startswith("a trial needs 2 CPU, and others have left ") and "once they are done" in told
        assert f"1 of 2 CPUs on {small.address}" in told and f"1 of 4 CPUs on {large.address}" in told
        assert what_is_taken(1.0, 1.0) is None
        assert "2 CPU and 1 GPU" in what_is_taken(2.0, 1.0) and "1 of 1 GPUs on" in what_is_taken(2.0, 1.0)
        assert "no node of the cluster has that" in what_is_taken(2.0, 2.0)
    finally:
        for group in held:
            remove_placement_group(group)
    wait_until(lambda: what_is_taken(2.0, 0.0) is None)


def wait_until(condition):
    """The cluster tells what is free about once a second."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_trials_pack_on_a_gpu_spread_over_nodes_and_reuse_processes(nodes, tmp_path):
    told = [dataclasses.replace(node, gpu_memory_mib=8192.0) for node in nodes]
    resources = divide(told, workers=None, largest_mib=1600.0)  # three fit a GPU, the second has two CPUs
    assert resources.workers == 5
    metrics = run(resources, {"number": tune.grid_search(list(range(10)))}, tmp_path)
    assert 3 <= most_at_once(metrics) <= 5
    assert len({m["pid"] for m in metrics}) < len(metrics)
    assert len(Counter(m["node"] for m in metrics)) == 2


def test_packed_trials_are_given_shares_of_their_own(nodes, tmp_path):
    told = [dataclasses.replace(node, gpu_memory_mib=8192.0) for node in nodes]
    resources = divide(told, workers=None, largest_mib=6000.0, pack=True)
    peaks = [6000.0, 6000.0, 6000.0, 100.0, 100.0]
    metrics = run(resources, {"trained_memory_mib": tune.grid_search(peaks)}, tmp_path)
    large = [m for m in metrics if m["config"]["trained_memory_mib"] == 6000.0]
    assert len(metrics) == len(peaks)
    for node in {m["node"] for m in large}:  # a large one has a whole GPU
        for one in (m for m in large if m["node"] == node):
            beside = [m for m in metrics if m["node"] == node and m["begin"] < one["end"] < m["end"]]
            assert not beside

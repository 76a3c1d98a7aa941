import dataclasses
import math
import pickle

import pytest

from search_spaces.space import load_space
from tinytl.errors import ConfigError
from tuner.cluster.nodes import Node
from tuner.cluster.resources import (
    MOST_PER_GPU,
    WORKER_MIB,
    divide,
    largest_trained_mib,
    part,
    share_of,
    trials_per_gpu,
)
from tuner.config import StudyConfig
from tuner.trial.gpu_share import CUDA_CONTEXT_MIB
from tuner.trial_config import base_config

GIB = 1024.0
BIG = Node(cpus=16, gpus=1, gpu_memory_mib=80 * GIB)
SMALL = Node(cpus=8, gpus=1, gpu_memory_mib=8 * GIB)
EIGHT = Node(cpus=32, gpus=8, gpu_memory_mib=16 * GIB)
NO_GPU = "trials have no GPU here (1 node with 4 CPUs and 0 GPUs): leave it out"
CPUS = Node(cpus=4)
QUARTER_MIB = 1100.0
"""Of 8 GiB a quarter: (1100 + 750) * 1.1 = 2035 MiB, four of which fit and five do not."""


@pytest.mark.parametrize(
    ("nodes", "workers", "expected"),
    [
        ([Node(cpus=2)], None, (2, 1.0)),
        ([Node(cpus=2)], 1, (1, 1.0)),
        ([Node(cpus=2)], 4, (4, 0.5)),
        ([Node(cpus=2)], 3, (3, 0.6666)),  # two of them on one CPU would not be a node's 2 CPUs
        ([Node(cpus=0.5)], None, (1, 0.5)),
        ([CPUS, CPUS], None, (8, 1.0)),
        ([CPUS, Node(cpus=2)], 7, (7, 0.8)),
        ([Node(cpus=0), CPUS], None, (4, 1.0)),
    ],
)
def test_on_cpus_each_trial_has_one(nodes, workers, expected):
    resources = divide(nodes, workers=workers)
    assert (resources.workers, resources.cpus_per_trial) == pytest.approx(expected)
    assert sum(int(n.cpus / resources.cpus_per_trial + 1e-9) for n in nodes) >= resources.workers
    assert resources.for_ray == {"cpu": resources.cpus_per_trial, "gpu": 0.0}


@pytest.mark.parametrize(
    ("nodes", "workers", "largest_mib", "expected"),
    [
        ([SMALL], None, QUARTER_MIB, (4, 1 / 4)),
        ([SMALL], 2, QUARTER_MIB, (2, 1 / 2)),
        ([SMALL], 9, QUARTER_MIB, (4, 1 / 4)),
        ([SMALL], None, 6000.0, (1, 1.0)),
        ([SMALL], None, 0.0, (8, 1 / 8)),  # nine fit its memory, eight its CPUs
        ([BIG], None, 0.0, (16, 1 / 16)),
        # The smallest GPU decides; a node without one trains nothing.
        ([SMALL, BIG, CPUS], None, QUARTER_MIB, (8, 1 / 4)),
        # Fewer trials than fit: they spread over the GPUs.
        ([EIGHT], None, 0.0, (32, 1 / 4)),
        ([EIGHT], 8, 0.0, (8, 1.0)),
        ([EIGHT], 9, 0.0, (9, 1 / 2)),
        # One CPU cannot feed two trials, nor can a tenth feed none.
        ([Node(cpus=1, gpus=4, gpu_memory_mib=8 * GIB)], None, 0.0, (1, 1.0)),
        ([Node(cpus=0.1, gpus=1, gpu_memory_mib=8 * GIB)], None, 0.0, (1, 1.0)),
    ],
)
def test_on_gpus_one_share_follows_from_the_largest_memory(nodes, workers, largest_mib, expected):
    resources = divide(nodes, workers=workers, largest_mib=largest_mib)
    assert (resources.workers, resources.gpus_per_trial) == pytest.approx(expected, abs=1e-4)
    memory_mib = min(n.gpu_memory_mib for n in nodes if n.gpus)
    assert trials_per_gpu(resources.gpus_per_trial) * (largest_mib + CUDA_CONTEXT_MIB) * 1.1 <= memory_mib
    assert resources.packed is None


@pytest.mark.parametrize(
    ("nodes", "gpus_per_trial", "workers", "expected"),
    [
        ([SMALL], 0.25, None, (4, 0.25)),
        ([SMALL], 0.3, None, (3, 0.3)),
        ([SMALL], 0.3, 2, (2, 0.3)),
        ([EIGHT, CPUS], 2.0, None, (4, 2.0)),
        ([EIGHT], 1.0, None, (8, 1.0)),
        ([Node(cpus=2, gpus=8)], 0.25, None, (2, 0.25)),  # nobody asked for its memory
    ],
)
def test_a_given_share_is_taken(nodes, gpus_per_trial, workers, expected):
    resources = divide(nodes, workers=workers, gpus_per_trial=gpus_per_trial)
    assert (resources.workers, resources.gpus_per_trial) == expected
    assert (resources.cpus_per_trial, resources.packed) == (1.0, None)


@pytest.mark.parametrize(
    ("nodes", "share", "held_mib"),
    [
        ([SMALL], 0.5, 4 * GIB / 1.1 - CUDA_CONTEXT_MIB),
        ([SMALL, EIGHT], 1.0, 8 * GIB / 1.1 - CUDA_CONTEXT_MIB),  # mixed: the smallest
        ([EIGHT], 2.0, 16 * GIB / 1.1 - CUDA_CONTEXT_MIB),  # a trial trains on one of its GPUs
        ([Node(cpus=2, gpus=8), SMALL], 0.25, math.inf),
    ],
)
def test_a_plan_fits_a_given_share(nodes, share, held_mib):
    assert divide(nodes, workers=None, gpus_per_trial=share).held_mib == pytest.approx(held_mib)


@pytest.mark.parametrize(
    ("nodes", "flags", "message"),
    [
        ([SMALL], {"gpus_per_trial": 2.0}, "--gpus-per-trial 2: the largest node has 1 GPUs"),
        ([EIGHT], {"gpus_per_trial": 1.5}, "--gpus-per-trial 1.5: above 1, give a whole number of GPUs"),
        (
            [SMALL],
            {"gpus_per_trial": 0.05},
            "--gpus-per-trial 0.05: that is 410 MiB of the smallest GPU, and CUDA itself needs 750 and a "
            "margin of 10%: give 0.11 or more, or leave it out",
        ),
        ([CPUS], {"gpus_per_trial": 0.5}, f"--gpus-per-trial 0.5: {NO_GPU}"),
        ([CPUS], {"pack": True}, f"--pack: {NO_GPU}"),
        (
            [Node(cpus=0.0)] * 2,
            {},
            "trials have no CPU here (2 nodes with 0 CPUs and 0 GPUs): start a node with --num-cpus 1",
        ),
        (
            [SMALL],
            {"largest_mib": 7000.0},
            "configurations of 7,000 MiB and more need 8,525 MiB of a GPU (750 MiB of CUDA's own and 10% "
            "margin included), the smallest GPU has 8,192: give --memory-budget-mib 6697",
        ),
        (
            [Node(cpus=1, gpus=1, gpu_memory_mib=512.0)],
            {"pack": True},
            "configurations of 0 MiB and more need 825 MiB of a GPU (750 MiB of CUDA's own and 10% margin "
            "included), the smallest GPU has 512: use --set device=cpu",
        ),
    ],
)
def test_a_share_that_cannot_be_had_is_told(nodes, flags, message):
    with pytest.raises(ConfigError) as caught:
        divide(nodes, workers=None, **flags)
    assert str(caught.value) == message


def test_the_way_out_that_is_told_is_one():
    assert share_of(6697.0, SMALL.gpu_memory_mib) == 1.0


def test_k_shares_fit_one_gpu_in_the_units_of_ray():
    for k in range(1, MOST_PER_GPU + 1):
        assert trials_per_gpu(part(k)) == k
        assert round(part(k) * 10_000) * k <= 10_000


def test_packed_shares_follow_from_each_configuration_and_are_few():
    resources = divide([BIG], workers=None, largest_mib=20_000.0, pack=True)
    assert resources.workers == 16
    assert resources.for_ray is resources.packed
    packed = pickle.loads(pickle.dumps(resources.packed))
    shares = {packed.share(float(mib)) for mib in range(0, 70_000, 100)}
    assert sorted(trials_per_gpu(share) for share in shares) == [1, 2, 3, 4, 6, 8, 12, 16]
    for mib in (0.0, 3000.0, 20_000.0, 70_000.0):
        assert packed.share(mib) >= share_of(mib, BIG.gpu_memory_mib)
    bundle = packed({"trained_memory_mib": 20_000.0, "name": "joint-000"}).bundles[0]
    assert bundle == {"CPU": 1.0, "GPU": part(3)}


def test_packed_trials_spread_over_gpus_too():
    packed = divide([EIGHT], workers=8, pack=True).packed
    assert packed is not None
    assert packed.share(0.0) == 1.0


def test_packing_refuses_a_space_whose_largest_does_not_fit():
    with pytest.raises(ConfigError, match="give --memory-budget-mib 6697"):
        divide([SMALL], workers=None, largest_mib=9000.0, pack=True)


def largest(settings=(), **bounds) -> float:
    """As a GPU has it, which no prediction needs."""
    choices = {"method": ["FT-Last", "FT-Full"], "norm": "frozen_bn", "resolution": 32, "num_classes": 3}
    space = load_space("update_method").narrowed(choices | dict(settings))
    base = dataclasses.replace(
        base_config(StudyConfig(space="update_method", weights="none"), space), device="cuda"
    )
    return largest_trained_mib(space, base, **bounds)


def test_the_largest_is_that_of_the_fastest_plan_of_the_space_up_to_what_is_enough():
    assert largest() > 30
    assert largest(enough_mib=10.0) == 10.0
    assert largest(settings={"plan": "budget", "budget_mib": 25.0}) == 25.0


@pytest.mark.parametrize(
    ("nodes", "workers", "held_mib"),
    [
        ([Node(cpus=2, memory_mib=8000.0)], None, 8000 / 2 - WORKER_MIB),
        ([Node(cpus=2, memory_mib=8000.0)], 1, 8000 - WORKER_MIB),
        ([Node(cpus=2, memory_mib=8000.0)], 4, 8000 / 4 - WORKER_MIB),
        ([Node(cpus=2, memory_mib=8000.0), Node(cpus=8, memory_mib=20_000.0)], None, 20_000 / 8 - WORKER_MIB),
        ([Node(cpus=8, memory_mib=8000.0)], None, 0.0),
        ([Node(cpus=8)], None, math.inf),
    ],
)
def test_a_worker_on_a_cpu_holds_its_part_of_the_machine_beside_its_process(nodes, workers, held_mib):
    assert divide(nodes, workers=workers).held_mib == pytest.approx(held_mib)


@pytest.mark.parametrize("pack", [False, True])
def test_a_worker_on_a_gpu_holds_its_share_or_packed_a_whole_one(pack):
    resources = divide([SMALL], workers=None, largest_mib=QUARTER_MIB, pack=pack)
    share = 1.0 if pack else resources.gpus_per_trial
    assert resources.held_mib == pytest.approx(share * 8 * GIB / 1.1 - CUDA_CONTEXT_MIB)
    assert resources.held_mib >= QUARTER_MIB

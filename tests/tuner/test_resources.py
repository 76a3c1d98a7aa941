import pytest

from tuner.resources import TrialResources, share


@pytest.mark.parametrize(
    ("cpus", "gpus", "workers", "expected"),
    [
        (2, 0, None, TrialResources(2, 1.0, 0.0)),
        (2, 0, 4, TrialResources(4, 0.5, 0.0)),
        (16, 1, None, TrialResources(1, 1.0, 1.0)),
        (16, 1, 4, TrialResources(4, 1.0, 0.25)),
        (16, 4, 2, TrialResources(2, 1.0, 1.0)),
        (0.5, 0, None, TrialResources(1, 0.5, 0.0)),
    ],
)
def test_shares_add_up_to_the_cluster(cpus, gpus, workers, expected):
    resources = share(cpus, gpus, workers)
    assert resources == expected
    assert resources.workers * resources.cpus_per_trial <= max(cpus, 1)
    assert resources.workers * resources.gpus_per_trial <= gpus

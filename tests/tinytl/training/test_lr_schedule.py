from typing import Any

import pytest

from tests.support.cases import small
from tinytl.training.lr_schedule import lr_factor

STEPS_PER_EPOCH = 4


@pytest.mark.parametrize(
    ("fields", "factors"),
    [
        ({"lr_schedule": "cosine", "epochs": 1}, [1, 0.853553, 0.5, 0.146447]),
        ({"lr_schedule": "constant", "epochs": 1}, [1, 1, 1, 1]),
        ({"lr_schedule": "exponential", "gamma": 0.5, "epochs": 3}, [1] * 4 + [0.5] * 4 + [0.25] * 4),
        ({"lr_schedule": "exponential", "gamma": 1.0, "epochs": 2}, [1] * 8),
        ({"lr_schedule": "constant", "warmup_epochs": 0.5, "epochs": 1}, [0.5, 1, 1, 1]),
        (
            {"lr_schedule": "cosine", "warmup_epochs": 1.0, "epochs": 2},
            [0.25, 0.5, 0.75, 1, 1, 0.853553, 0.5, 0.146447],
        ),
        (
            {"lr_schedule": "exponential", "gamma": 0.5, "warmup_epochs": 1.0, "epochs": 3},
            [0.25, 0.5, 0.75, 1] + [1] * 4 + [0.5] * 4,
        ),
    ],
)
def test_factors(fields: dict[str, Any], factors: list[float]) -> None:
    config = small(**fields)
    steps = range(config.epochs * STEPS_PER_EPOCH)
    assert [lr_factor(config, step, STEPS_PER_EPOCH) for step in steps] == pytest.approx(factors, abs=1e-6)

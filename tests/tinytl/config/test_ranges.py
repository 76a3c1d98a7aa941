from typing import Any

import pytest

from tests.support.refused import refusal_of


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n_groups": 0}, "n_groups=0 is below 1"),
        ({"seed": 2**31}, "seed=2147483648 is above 2147483647"),
        ({"gn_channel_per_group": 0}, "gn_channel_per_group=0 is below 1"),
        ({"epochs": 0}, "epochs=0 is below 1"),
        ({"batch_size": 0}, "batch_size=0 is below 1"),
        ({"batch_size": 8.0}, "batch_size=8.0 is not a whole number"),
        ({"batch_size": True}, "batch_size=True is not a whole number"),
        ({"num_classes": 1}, "num_classes=1 is below 2"),
        ({"micro_batch_size": 0}, "micro_batch_size=0 is below 1"),
        ({"downsample_ratio": 0}, "downsample_ratio=0 is below 1"),
        ({"resolution": 31}, "resolution=31 is below 32"),
        ({"seed": -1}, "seed=-1 is below 0"),
        ({"kernel_size": 0}, "kernel_size=0 is below 1"),
        ({"kernel_size": 4}, "kernel_size=4 is even: use an odd kernel such as 3 or 5"),
        ({"expand": 0}, "expand=0 is not above 0"),
        ({"base_lr": 0.0}, "base_lr=0 is not above 0"),
        ({"base_lr": float("nan")}, "base_lr=nan is not a finite number"),
        ({"base_lr": float("inf")}, "base_lr=inf is not a finite number"),
        ({"base_lr": "1e-3"}, "base_lr='1e-3' is not a finite number"),
        ({"weight_decay": -0.1}, "weight_decay=-0.1 is below 0"),
        ({"label_smoothing": 1.0}, "label_smoothing=1 is not below 1"),
        ({"label_smoothing": -0.5}, "label_smoothing=-0.5 is below 0"),
        ({"dropout": 1}, "dropout=1 is not below 1"),
        ({"weight_average": 1}, "weight_average=1 is not below 1"),
        ({"weight_average": -0.5}, "weight_average=-0.5 is below 0"),
        ({"rand_augment": 31}, "rand_augment=31 is above 30"),
        ({"rand_augment": 9.5}, "rand_augment=9.5 is not a whole number"),
        ({"mixup_alpha": -0.1}, "mixup_alpha=-0.1 is below 0"),
        ({"cutmix_alpha": float("inf")}, "cutmix_alpha=inf is not a finite number"),
        ({"dropout": False}, "dropout=False is not a finite number"),
        ({"crop_scale_min": 0.0}, "crop_scale_min=0 is not above 0"),
        ({"crop_scale_min": 1.5}, "crop_scale_min=1.5 is above 1"),
        ({"flip": "yes"}, "flip='yes' is neither true nor false"),
        ({"input_mean": (0.5, 0.5)}, "input_mean=(0.5, 0.5) is not three numbers: give one, or R,G,B"),
        ({"input_std": (0.5, 0.0, 0.5)}, "input_std=0 is not above 0"),
        ({"plan": "budget", "budget_mib": 0.0}, "budget_mib=0 is not above 0"),
        ({"plan": "budget", "budget_mib": -1.0}, "budget_mib=-1 is not above 0"),
        ({"plan": "budget", "budget_mib": float("nan")}, "budget_mib=nan is not a finite number"),
        ({"stock_below_kib": -1.0}, "stock_below_kib=-1 is below 0"),
        ({"slice_mib": 0.0}, "slice_mib=0 is not above 0"),
        ({"cuda_graph": "on"}, "cuda_graph='on' is neither true nor false"),
        ({"weight_standardization": 1}, "weight_standardization=1 is neither true nor false"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_a_number_out_of_its_range_is_refused_with_field_value_and_limit(
    fields: dict[str, Any], message: str
) -> None:
    assert message in refusal_of(fields)

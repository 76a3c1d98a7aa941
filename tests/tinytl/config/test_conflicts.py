from typing import Any

import pytest

from tests.support.refused import refusal_of
from tinytl.config.train_config import LrRatio


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"frozen_weights": "int8", "method": "FT-Full"},
            "frozen_weights=int8 has no effect: FT-Full trains every weight, and they stay float32",
        ),
        (
            {"frozen_weights": "bfloat16", "method": "Scratch", "norm": "batch_norm"},
            "frozen_weights=bfloat16 has no effect: Scratch trains every weight, and they stay float32",
        ),
        (
            {"cutmix_alpha": 1.0, "batch_size": 1},
            "cutmix_alpha=1 has no effect with batch_size=1: a picture is mixed with another one of its",
        ),
        ({"momentum": 0.5}, "momentum=0.5 has no effect with optimizer=adam: use sgd"),
        (
            {"moments": "int8", "optimizer": "sgd"},
            "moments=int8 is for adam and adamw, whose moments it stores: leave it out with optimizer=sgd",
        ),
        ({"gamma": 0.5}, "gamma=0.5 has no effect with lr_schedule=cosine: use exponential"),
        ({"warmup_epochs": 10.0}, "warmup_epochs=10 leaves nothing of epochs=10"),
        (
            {"method": "TinyTL-B", "update_blocks": 3},
            "update_blocks=3 has no effect with method=TinyTL-B: use method Sparse",
        ),
        ({"select": "fisher"}, "select=fisher has no effect with method=TinyTL-L+B: use method Sparse"),
        (
            {"method": "Sparse", "update_blocks": 17},
            "update_blocks=17 is above the 16 blocks of efficientnet_lite0",
        ),
        ({"method": "Sparse", "bias_blocks": 17}, "bias_blocks=17 is above the 16 blocks of"),
        ({"method": "Sparse", "bias_blocks": -1}, "bias_blocks=-1 is below 0"),
        ({"method": "Sparse", "update_blocks": 0}, "update_blocks=0 is below 1"),
        ({"method": "Sparse", "channel_ratio": 0.0}, "channel_ratio=0 is not above 0"),
        ({"method": "Sparse", "channel_ratio": 1.5}, "channel_ratio=1.5 is above 1"),
        (
            {"method": "Sparse", "channel_ratio": 0.5, "weight_standardization": True, "norm": "group_norm"},
            "weight_standardization with convolutions that train in part",
        ),
        ({"method": "Sparse", "update_scheme": 3}, "update_scheme=3 is no text: leave it to select"),
        (
            {"method": "Sparse", "bias_blocks": "none", "lr_ratio": LrRatio(bias=2.0)},
            "lr_ratio.bias=2 has no effect: Sparse trains classifier, weight",
        ),
        (
            {"lite_weights": "l.pt", "method": "TinyTL-B"},
            "lite_weights=l.pt has no effect: TinyTL-B has no lite residuals, TinyTL-L and TinyTL-L+B have",
        ),
        ({"micro_batch_size": 3}, "micro_batch_size=3 does not divide batch_size=8"),
        ({"micro_batch_size": 16}, "micro_batch_size=16 is above batch_size=8"),
        (
            {"micro_batch_size": 4, "norm": "batch_norm"},
            "micro_batch_size=4 with norm=batch_norm would change the batch's statistics: "
            "use norm frozen_bn or group_norm, or leave micro_batch_size unset",
        ),
        (
            {"batch_size": 1, "norm": "batch_norm", "resolution": 64},
            "batch_size=1 with norm=batch_norm at 64 px leaves one value a channel: ",
        ),
        ({"plan": "budget"}, "plan=budget without budget_mib: give the budget in MiB"),
        ({"budget_mib": 50.0}, "budget_mib=50 has no effect with plan=fast: use plan=budget"),
        (
            {"budget_mib": 50.0, "plan": "smallest"},
            "budget_mib=50 has no effect with plan=smallest: use plan=budget",
        ),
        (
            {"memory_format": "contiguous"},
            "memory_format=contiguous is for engine=stock: lean blocks work in channels_last (plan=fast "
            "measures both, and chooses)",
        ),
        (
            {"checkpoint": "depthwise", "engine": "stock"},
            "checkpoint=depthwise needs engine=lean: use checkpoint none or all",
        ),
        (
            {"method": "TinyTL-B", "lr_ratio": LrRatio(late=0.6)},
            "lr_ratio.late=0.6 has no effect: TinyTL-B trains classifier, bias",
        ),
        (
            {"method": "Last-3", "lr_ratio": LrRatio(early=0.4)},
            "lr_ratio.early=0.4 has no effect: Last-3 trains classifier, late",
        ),
        (
            {"method": "Scratch", "norm": "group_norm", "weights": "mine.pt"},
            "weights=mine.pt with method=Scratch, which starts from random ones: leave out weights, or use ",
        ),
        (
            {"method": "Scratch"},
            "method=Scratch with norm=frozen_bn: no statistics that could be frozen belong to its weights: "
            "use norm batch_norm or group_norm",
        ),
        (
            {"weight_standardization": True},
            "weight_standardization with norm=frozen_bn: no statistics that could be frozen belong to its ",
        ),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_fields_that_exclude_each_other_are_refused_with_both_and_what_to_do(
    fields: dict[str, Any], message: str
) -> None:
    assert message in refusal_of(fields)

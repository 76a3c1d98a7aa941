from typing import Any

import pytest

from tests.support.refused import refusal_of
from tinytl.config.train_config import TrainConfig


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "digit"}, "unknown dataset 'digit': did you mean 'digits'? known: digits, imagefolder"),
        ({"backbone": "mobilnet"}, "unknown backbone 'mobilnet': did you mean 'mobilenet_v2'?"),
        ({"method": "TinyTL-LB"}, "unknown method 'TinyTL-LB': did you mean 'TinyTL-L"),
        ({"norm": "layer"}, "unknown norm 'layer': known: batch_norm, frozen_bn, group_norm"),
        ({"optimizer": "adm"}, "unknown optimizer 'adm': did you mean 'adam'?"),
        ({"device": "cudo"}, "unknown device 'cudo': did you mean 'cuda'?"),
        ({"data_dir": 5}, "data_dir=5 is no folder's name"),
        (
            {"frozen_weights": "int4"},
            "unknown frozen_weights 'int4': did you mean 'int8'? known: float32, bfloat16, int8",
        ),
        ({"moments": "int4"}, "unknown moments 'int4': did you mean 'int8'? known: float32, int8"),
        ({"method": "Sparse", "bias_blocks": "al"}, "unknown bias_blocks 'al': did you mean 'all'?"),
        ({"method": "Sparse", "update_layers": "pw1+pw3"}, "unknown update_layers 'pw3': did you mean"),
        ({"method": "Sparse", "select": "random"}, "unknown select 'random': known: last, fisher"),
        ({"lite_weights": 3}, "lite_weights=3 is neither a file nor a URL"),
        ({"engine": "leen"}, "unknown engine 'leen': did you mean 'lean'? known: lean, stock"),
        ({"plan": "fastest"}, "unknown plan 'fastest': did you mean 'fast'? known: fast, smallest, budget"),
        (
            {"checkpoint": "some"},
            "unknown checkpoint 'some': did you mean 'none'? known: auto, none, depthwise, all",
        ),
        (
            {"memory_format": "nchw"},
            "unknown memory_format 'nchw': known: channels_last, contiguous",
        ),
        ({"upsample_type": "linear"}, "unknown upsample_type 'linear': did you mean 'bilinear'?"),
        ({"act_func": "gelu"}, "unknown act_func 'gelu': did you mean 'relu'?"),
        ({"kernel_clipping": "ref"}, "unknown kernel_clipping 'ref': "),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_an_unknown_name_is_refused_with_those_that_are_known(fields: dict[str, Any], message: str) -> None:
    assert message in refusal_of(fields)


def test_names_are_matched_without_regard_to_case() -> None:
    config = TrainConfig(method="tinytl-l+b", norm="Frozen_BN", backbone="MobileNet_V2", optimizer="SGD")
    assert (config.method, config.norm, config.backbone, config.optimizer) == (
        "TinyTL-L+B",
        "frozen_bn",
        "mobilenet_v2",
        "sgd",
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("CIFAR-10", "cifar10"),
        ("cifar_100", "cifar100"),
        ("CUB-200-2011", "cub200"),
        ("CUB_200", "cub200"),
        ("StanfordCars", "cars"),
        ("stanford cars", "cars"),
        ("Food-101", "food101"),
        ("ILSVRC2012", "imagenet"),
    ],
)
def test_data_sets_as_they_are_written(given: str, expected: str) -> None:
    assert TrainConfig(dataset=given).dataset == expected


def test_scratch_starts_from_random_weights() -> None:
    assert TrainConfig(method="Scratch", norm="group_norm").weights == "none"
    assert TrainConfig(method="Last-3").weights == "imagenet"

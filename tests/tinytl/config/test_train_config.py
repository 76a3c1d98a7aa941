import dataclasses
from typing import Any

import pytest

from tinytl.config.flat import config_from_flat, flat_from_config
from tinytl.config.train_config import (
    FIELDS_WITHOUT_MEMORY,
    LAST_BLOCKS,
    LITE_METHODS,
    METHOD_GROUPS,
    METHODS,
    RANDOM_BRANCHES_LR_RATIO,
    LrRatio,
    TrainConfig,
)
from tinytl.errors import ConfigError


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dataset": "digit"}, "unknown dataset 'digit': did you mean 'digits'? known: digits, imagefolder"),
        ({"backbone": "mobilnet"}, "unknown backbone 'mobilnet': did you mean 'mobilenet_v2'?"),
        ({"method": "TinyTL-LB"}, "unknown method 'TinyTL-LB': did you mean 'TinyTL-L"),
        ({"norm": "layer"}, "unknown norm 'layer': known: batch_norm, frozen_bn, group_norm"),
        ({"optimizer": "adm"}, "unknown optimizer 'adm': did you mean 'adam'?"),
        ({"device": "cudo"}, "unknown device 'cudo': did you mean 'cuda'?"),
        ({"n_groups": 0}, "n_groups=0 is below 1"),
        ({"seed": 2**31}, "seed=2147483648 is above 2147483647"),
        ({"data_dir": 5}, "data_dir=5 is no folder's name"),
        (
            {"frozen_weights": "int4"},
            "unknown frozen_weights 'int4': did you mean 'int8'? known: float32, bfloat16, int8",
        ),
        (
            {"frozen_weights": "int8", "method": "FT-Full"},
            "frozen_weights=int8 has no effect: FT-Full trains every weight, and they stay float32",
        ),
        (
            {"frozen_weights": "bfloat16", "method": "Scratch", "norm": "batch_norm"},
            "frozen_weights=bfloat16 has no effect: Scratch trains every weight, and they stay float32",
        ),
        ({"momentum": 0.5}, "momentum=0.5 has no effect with optimizer=adam: use sgd"),
        ({"moments": "int4"}, "unknown moments 'int4': did you mean 'int8'? known: float32, int8"),
        (
            {"moments": "int8", "optimizer": "sgd"},
            "moments=int8 is for adam and adamw, whose moments it stores: leave it out with optimizer=sgd",
        ),
        ({"gamma": 0.5}, "gamma=0.5 has no effect with lr_schedule=cosine: use exponential"),
        ({"warmup_epochs": 10.0}, "warmup_epochs=10 leaves nothing of epochs=10"),
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
        ({"dropout": False}, "dropout=False is not a finite number"),
        ({"crop_scale_min": 0.0}, "crop_scale_min=0 is not above 0"),
        ({"crop_scale_min": 1.5}, "crop_scale_min=1.5 is above 1"),
        ({"flip": "yes"}, "flip='yes' is neither true nor false"),
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
        ({"method": "Sparse", "bias_blocks": "al"}, "unknown bias_blocks 'al': did you mean 'all'?"),
        ({"method": "Sparse", "update_blocks": 0}, "update_blocks=0 is below 1"),
        ({"method": "Sparse", "update_layers": "pw1+pw3"}, "unknown update_layers 'pw3': did you mean"),
        ({"method": "Sparse", "channel_ratio": 0.0}, "channel_ratio=0 is not above 0"),
        ({"method": "Sparse", "channel_ratio": 1.5}, "channel_ratio=1.5 is above 1"),
        ({"method": "Sparse", "select": "random"}, "unknown select 'random': known: last, fisher"),
        (
            {"method": "Sparse", "channel_ratio": 0.5, "weight_standardization": True, "norm": "group_norm"},
            "weight_standardization with convolutions that train in part",
        ),
        ({"method": "Sparse", "update_scheme": 3}, "update_scheme=3 is no text: leave it to select"),
        (
            {"method": "Sparse", "bias_blocks": "none", "lr_ratio": LrRatio(bias=2.0)},
            "lr_ratio.bias=2 has no effect: Sparse trains classifier, weight",
        ),
        ({"lite_weights": 3}, "lite_weights=3 is neither a file nor a URL"),
        (
            {"lite_weights": "l.pt", "method": "TinyTL-B"},
            "lite_weights=l.pt has no effect: TinyTL-B has no lite residuals, TinyTL-L and TinyTL-L+B have",
        ),
        ({"input_mean": (0.5, 0.5)}, "input_mean=(0.5, 0.5) is not three numbers: give one, or R,G,B"),
        ({"input_std": (0.5, 0.0, 0.5)}, "input_std=0 is not above 0"),
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
        ({"engine": "leen"}, "unknown engine 'leen': did you mean 'lean'? known: lean, stock"),
        ({"plan": "fastest"}, "unknown plan 'fastest': did you mean 'fast'? known: fast, smallest, budget"),
        (
            {"checkpoint": "some"},
            "unknown checkpoint 'some': did you mean 'none'? known: auto, none, depthwise, all",
        ),
        ({"plan": "budget"}, "plan=budget without budget_mib: give the budget in MiB"),
        ({"budget_mib": 50.0}, "budget_mib=50 has no effect with plan=fast: use plan=budget"),
        (
            {"budget_mib": 50.0, "plan": "smallest"},
            "budget_mib=50 has no effect with plan=smallest: use plan=budget",
        ),
        ({"plan": "budget", "budget_mib": 0.0}, "budget_mib=0 is not above 0"),
        ({"plan": "budget", "budget_mib": -1.0}, "budget_mib=-1 is not above 0"),
        ({"plan": "budget", "budget_mib": float("nan")}, "budget_mib=nan is not a finite number"),
        ({"stock_below_kib": -1.0}, "stock_below_kib=-1 is below 0"),
        ({"slice_mib": 0.0}, "slice_mib=0 is not above 0"),
        (
            {"memory_format": "nchw"},
            "unknown memory_format 'nchw': known: channels_last, contiguous",
        ),
        (
            {"memory_format": "contiguous"},
            "memory_format=contiguous is for engine=stock: lean blocks work in channels_last (plan=fast "
            "measures both, and chooses)",
        ),
        ({"cuda_graph": "on"}, "cuda_graph='on' is neither true nor false"),
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
        ({"weight_standardization": 1}, "weight_standardization=1 is neither true nor false"),
        ({"upsample_type": "linear"}, "unknown upsample_type 'linear': did you mean 'bilinear'?"),
        ({"act_func": "gelu"}, "unknown act_func 'gelu': did you mean 'relu'?"),
        ({"kernel_clipping": "ref"}, "unknown kernel_clipping 'ref': "),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, dict) else "",
)
def test_bad_values_are_refused_with_field_value_and_limit(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("group", [f.name for f in dataclasses.fields(LrRatio)])
@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), True])
def test_bad_ratios_name_their_group(group: str, bad: float) -> None:
    with pytest.raises(ConfigError, match=f"^lr_ratio.{group}={bad:g}" if bad != 1 else "=True"):
        LrRatio(**{group: bad})


@pytest.mark.parametrize(
    ("fields", "ratio"),
    [
        ({}, RANDOM_BRANCHES_LR_RATIO),
        ({"optimizer": "adamw"}, RANDOM_BRANCHES_LR_RATIO),
        ({"optimizer": "sgd"}, 1.0),
        ({"lite_weights": "lite.pt"}, 1.0),
        ({"lite_weights": "lite.pt", "lr_ratio": LrRatio(lite_residual=3.0)}, 3.0),
        ({"lr_ratio": LrRatio(lite_residual=1.0)}, 1.0),
    ],
)
@pytest.mark.parametrize("method", LITE_METHODS)
def test_branches_that_start_at_random_have_a_higher_rate(
    fields: dict[str, Any], ratio: float, method: str
) -> None:
    config = TrainConfig(method=method, **fields)
    assert config.filled_lr_ratio == dataclasses.replace(config.lr_ratio, lite_residual=ratio)
    assert config_from_flat(flat_from_config(config)) == config


def test_a_ratio_of_lite_residuals_means_what_it_trains() -> None:
    assert TrainConfig(method="TinyTL-L").lite_ratio(None) == RANDOM_BRANCHES_LR_RATIO
    assert TrainConfig(method="TinyTL-L", optimizer="sgd").lite_ratio(None) == 1.0
    assert TrainConfig(method="TinyTL-L").lite_ratio(1.0) == 1.0
    assert TrainConfig(method="TinyTL-B").lite_ratio(None) is None
    assert TrainConfig(method="TinyTL-B").lite_ratio(1.0) is None


def test_a_ratio_without_its_group_is_refused() -> None:
    TrainConfig(method="FT-Last", lr_ratio=LrRatio(lite_residual=None))
    with pytest.raises(ConfigError, match=r"lr_ratio\.lite_residual=16 has no effect"):
        TrainConfig(method="FT-Last", lr_ratio=LrRatio(lite_residual=16.0))


@pytest.mark.parametrize(
    "fields",
    [
        {"num_classes": 2, "resolution": 32, "n_groups": 1, "kernel_size": 1, "seed": 0, "epochs": 1},
        {"label_smoothing": 0.0, "dropout": 0, "weight_decay": 0, "crop_scale_min": 1.0, "flip": False},
        {"micro_batch_size": 8, "norm": "batch_norm"},
        {"batch_size": 1, "norm": "frozen_bn", "micro_batch_size": 1},
        {"batch_size": 1, "norm": "batch_norm", "resolution": 128},
        {"batch_size": 1, "norm": "batch_norm", "resolution": 64, "method": "FT-Full"},
        {"downsample_ratio": None, "input_mean": (-0.1, 0.0, 1.0)},
        {"plan": "budget", "budget_mib": 0.5, "stock_below_kib": 0.0},
        {"checkpoint": "depthwise", "engine": "lean"},
        {"checkpoint": "all", "engine": "stock", "plan": "smallest"},
    ],
)
def test_values_at_their_limits_are_accepted(fields: dict[str, Any]) -> None:
    config = TrainConfig(**fields)
    assert {name: getattr(config, name) for name in fields} == fields


def test_names_are_matched_without_regard_to_case() -> None:
    config = TrainConfig(method="tinytl-l+b", norm="Frozen_BN", backbone="MobileNet_V2", optimizer="SGD")
    assert (config.method, config.norm, config.backbone, config.optimizer) == (
        "TinyTL-L+B",
        "frozen_bn",
        "mobilenet_v2",
        "sgd",
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"method": "FT-Full", "resolution": 32}, True),
        ({"method": "FT-Full", "resolution": 33}, False),
        ({"method": "TinyTL-L", "resolution": 96}, True),  # a map of 3 pixels, pooled to 1
        ({"method": "TinyTL-L", "resolution": 97}, False),
        ({"method": "TinyTL-L", "resolution": 97, "downsample_ratio": None}, True),
        # The reference counts 8 pixels at the end of every image, and pools them by 8 to one, which is whole.
        ({"method": "TinyTL-L", "resolution": 1024, "downsample_ratio": 8}, False),
        (
            {
                "method": "TinyTL-L",
                "resolution": 1024,
                "downsample_ratio": 8,
                "kernel_clipping": "reference",
            },
            True,
        ),
        ({"method": "Last-3", "resolution": 97, "downsample_ratio": None}, False),
    ],
)
def test_pools_to_one_pixel(fields: dict[str, Any], expected: bool) -> None:
    assert TrainConfig(**fields).pools_to_one_pixel is expected


@pytest.mark.parametrize(("micro", "expected"), [(None, 8), (8, 8), (2, 2)])
def test_samples_in_memory(micro: int | None, expected: int) -> None:
    assert TrainConfig(batch_size=8, micro_batch_size=micro).samples_in_memory == expected


def test_scratch_starts_from_random_weights() -> None:
    assert TrainConfig(method="Scratch", norm="group_norm").weights == "none"
    assert TrainConfig(method="Last-3").weights == "imagenet"


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


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainConfig().batch_size = 4  # type: ignore[misc]


def test_order_and_crops_have_the_run_s_seed_unless_they_have_their_own() -> None:
    assert TrainConfig(seed=4).order_seed == 4
    assert TrainConfig(seed=4, data_seed=0).order_seed == 0
    for bad in (-1, 1.5, 2**31):
        with pytest.raises(ConfigError, match="data_seed"):
            TrainConfig(data_seed=bad)  # type: ignore[arg-type]


def test_what_sparse_trains_is_said_in_one_way() -> None:
    config = TrainConfig(method="sparse", update_layers="pw2, PW1", bias_blocks=None)  # type: ignore[arg-type]
    assert (config.update_layers, config.bias_blocks) == ("pw1+pw2", "none")
    assert config.parameter_groups == ("classifier", "weight")
    assert TrainConfig(method="Sparse", bias_blocks=3).parameter_groups == METHOD_GROUPS["Sparse"]


def test_tables_name_existing_things() -> None:
    assert set(FIELDS_WITHOUT_MEMORY) <= {f.name for f in dataclasses.fields(TrainConfig)}
    ratios = {f.name for f in dataclasses.fields(LrRatio)}
    assert {group for groups in METHOD_GROUPS.values() for group in groups} == ratios
    paper = ("FT-Last", "FT-Norm+Last", "FT-Full", "TinyTL-B", "TinyTL-L", "TinyTL-L+B")
    assert METHODS == (*paper, "Last-3", "Last-5", "Sparse", "Scratch")
    assert set(LAST_BLOCKS) < set(METHODS)
    assert set(LITE_METHODS) == {m for m in METHODS if "lite_residual" in METHOD_GROUPS[m]}

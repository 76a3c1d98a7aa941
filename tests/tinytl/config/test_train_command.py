import dataclasses
import shlex
import subprocess
from typing import Any

import pytest

from tests.support.cases import ALL_CASES, small
from tinytl.__main__ import build_parser
from tinytl.config.flags import given_fields
from tinytl.config.flat import config_from_flat
from tinytl.config.train_command import folded, train_command, train_flags
from tinytl.config.train_config import LrRatio, TrainConfig

ODD: dict[str, dict[str, Any]] = {
    "none for a number": {"downsample_ratio": None, "weights": "/w e/it's.pt"},
    "ratios": {"method": "FT-Full", "lr_ratio": LrRatio(late=0.1 + 0.2, early=1e-9), "base_lr": 1 / 3},
    "tuples": {"input_mean": (0.5, 0.5, 0.5), "input_std": (0.1, 0.2, 1 / 3)},
    "negative": {"input_mean": (-0.25, 0.0, 1e-5)},
    "folders": {"dataset": "imagefolder", "data_dir": "/my pictures/$HOME & co"},
    "yes and no": {"flip": False, "weight_standardization": True, "norm": "group_norm"},
    "an alias": {"kernel_size": 5, "method": "TinyTL-L", "crop_scale_min": 0.25},
    "plans": {"plan": "budget", "budget_mib": 32.5, "checkpoint": "all", "stock_below_kib": 0.0},
    "schedules": {"optimizer": "sgd", "momentum": 0.5, "lr_schedule": "exponential", "gamma": 0.75},
}
CASES = ALL_CASES | {name: small(**fields) for name, fields in ODD.items()}


PARSER = build_parser()


def parsed(words: list[str]) -> TrainConfig:
    args = PARSER.parse_args(words[3:])
    assert words[:3] == ["python", "-m", "tinytl"] and args.command == "train" and args.out == "my run"
    return config_from_flat(given_fields(args))


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_it_gives_the_same_configuration(config: TrainConfig) -> None:
    command = train_command(config, "my run")
    assert parsed(command) == config
    assert parsed(shlex.split(folded(command).replace("\\\n", ""))) == config


def test_every_field_has_a_flag() -> None:
    """A field that no section of the flags knows would be lost."""
    flags = {flag for flag, _ in train_flags(small(kernel_size=5))}
    assert "--lite-kernel-size" in flags
    changed = {
        "dataset": "imagefolder", "data_dir": "/d", "loading": "stream", "loader_workers": 3,
        "skip_broken": True, "exclude": "/drop.csv",
        "num_classes": 7, "backbone": "proxylessnas_mobile", "lite_weights": "/lite.pt",
        "input_mean": (0.1, 0.2, 0.3), "input_std": (0.1, 0.2, 0.3), "weights": "/w.pt", "method": "TinyTL-L",
        "norm": "group_norm", "weight_standardization": True, "n_groups": 4, "downsample_ratio": 4,
        "expand": 2.0, "kernel_size": 5, "kernel_clipping": "reference", "act_func": "tanh",
        "upsample_type": "nearest",
        "gn_channel_per_group": 4, "engine": "stock", "plan": "budget", "budget_mib": 9.0,
        "checkpoint": "all", "stock_below_kib": 1.5, "slice_mib": 2.5, "cuda_graph": True,
        "memory_format": "contiguous", "frozen_weights": "int8", "optimizer": "sgd",
        "momentum": 0.5, "base_lr": 0.25,
        "lr_ratio": LrRatio(classifier=2.0, lite_residual=5.0),
        "lr_schedule": "exponential", "gamma": 0.5, "warmup_epochs": 1.5, "weight_decay": 0.125,
        "label_smoothing": 0.0,
        "class_weighting": "effective", "sampling": "balanced",
        "mixup_alpha": 0.25, "cutmix_alpha": 1.5, "weight_average": 0.75,
        "metric": "macro_f1", "dropout": 0.0,
        "epochs": 3, "min_per_class": 4,
        "batch_size": 6, "micro_batch_size": 2,
        "resolution": 64, "crop_scale_min": 0.5, "flip": True, "rand_augment": 7,
        "precision": "bfloat16", "seed": 9,
        "data_seed": 8,
        "device": "cpu",
    }  # fmt: skip
    of_sparse = {
        "method": "Sparse", "update_blocks": 3, "update_layers": "dw+pw2", "channel_ratio": 0.5,
        "bias_blocks": 2, "select": "fisher", "update_scheme": "12.pw1 17.dw:ff0 bias:12",
        "moments": "int8",
    }  # fmt: skip
    config, sparse, default = TrainConfig(**changed), TrainConfig(**of_sparse), TrainConfig()
    for field in dataclasses.fields(TrainConfig):
        of_default = getattr(default, field.name)
        assert getattr(config, field.name) != of_default or getattr(sparse, field.name) != of_default, field
    assert parsed(train_command(config, "my run")) == config
    assert parsed(train_command(sparse, "my run")) == sparse


def test_the_size_of_another_package_s_network_is_always_said() -> None:
    flags = dict(train_flags(TrainConfig(backbone="timm/mobilenetv2_050")))
    assert flags["--resolution"] == "96"  # without it the command takes the network's own


def test_what_is_at_its_default_is_left_out() -> None:
    assert train_command(TrainConfig(), "x") == ["python", "-m", "tinytl", "train", "--out", "x"]
    flags = dict(train_flags(TrainConfig(base_lr=1e-3, input_std=(0.5, 0.5, 0.5))))
    assert flags == {"--base-lr": "0.001", "--input-std": "0.5"}


def test_a_shell_reads_it_as_it_was_meant() -> None:
    command = train_command(CASES["folders"], "my run")
    text = folded(command)
    assert "\n" in text and max(map(len, text.splitlines())) <= 84
    shown = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {text}"], capture_output=True, text=True, check=True, timeout=20
    )
    assert shown.stdout.splitlines() == command

"""What counts for features and what does not: a run gets those of others if a field is forgotten."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.cases import small, tinted_images
from tinytl.build import Built, build_model
from tinytl.config.names import SPARSE_FIELDS
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.data.load import load_dataset
from tinytl.data.splits import ImageSet
from tinytl.features.key import (
    FIELDS_OF_THE_HEAD,
    FIELDS_OF_THE_ORDER,
    FIELDS_OF_THE_PLACE,
    file_name,
    frozen_digest,
    images_digest,
    what_decides,
)

CPU = torch.device("cpu")
CONFIG = small(method="FT-Last", norm="frozen_bn", checkpoint="none")
OTHER: dict[str, Any] = {
    "dataset": "imagefolder",
    "data_dir": "/elsewhere",
    "loading": "stream",
    "loader_workers": 3,
    "skip_broken": True,
    "exclude": "/drop.csv",
    "min_per_class": 3,
    "num_classes": 4,
    "backbone": "proxylessnas_mobile",
    "weights": "file.pt",
    "lite_weights": None,
    "input_mean": (0.5, 0.5, 0.5),
    "input_std": (0.5, 0.5, 0.5),
    "method": "TinyTL-B",
    "norm": "group_norm",
    "weight_standardization": True,
    "update_blocks": 3,
    "update_layers": "dw",
    "channel_ratio": 0.5,
    "bias_blocks": 2,
    "select": "fisher",
    "update_scheme": "12.pw1",
    "n_groups": 4,
    "downsample_ratio": 4,
    "expand": 2.0,
    "kernel_size": 5,
    "kernel_clipping": "reference",
    "act_func": "relu6",
    "upsample_type": "nearest",
    "gn_channel_per_group": 4,
    "engine": "stock",
    "plan": "smallest",
    "budget_mib": 50.0,
    "checkpoint": "all",
    "stock_below_kib": 7.0,
    "memory_format": "contiguous",
    "slice_mib": 3.0,
    "cuda_graph": True,
    "frozen_weights": "int8",
    "optimizer": "adamw",
    "moments": "int8",
    "momentum": 0.5,
    "base_lr": 0.1,
    "lr_ratio": LrRatio(classifier=0.5),
    "lr_schedule": "constant",
    "gamma": 0.5,
    "warmup_epochs": 0.5,
    "weight_decay": 0.1,
    "label_smoothing": 0.0,
    "class_weighting": "inverse",
    "sampling": "balanced",
    "rand_augment": 9,
    "mixup_alpha": 0.2,
    "cutmix_alpha": 1.0,
    "weight_average": 0.9,
    "metric": "macro_f1",
    "dropout": 0.0,
    "epochs": 3,
    "batch_size": 2,
    "micro_batch_size": 2,
    "resolution": 64,
    "crop_scale_min": 0.9,
    "flip": True,
    "precision": "bfloat16",
    "seed": 9,
    "data_seed": 8,
    "device": "auto",
}
NEEDED = {
    "gamma": {"lr_schedule": "exponential"},
    "momentum": {"optimizer": "sgd"},
    "budget_mib": {"plan": "budget"},
    "memory_format": {"engine": "stock"},
    "weight_standardization": {"norm": "group_norm"},
    **{name: {"method": "Sparse"} for name in SPARSE_FIELDS},
}
APART = {*FIELDS_OF_THE_HEAD, *FIELDS_OF_THE_PLACE, *FIELDS_OF_THE_ORDER}


@pytest.fixture(scope="module")
def built() -> Built:
    return build_model(CONFIG)


def _name(config: TrainConfig, built: Built) -> str:
    return file_name("val", what_decides(config, built.net, built.normalization, CPU))


def test_the_table_has_every_field() -> None:
    names = {field.name for field in dataclasses.fields(TrainConfig)}
    assert OTHER.keys() == names and names >= APART


@pytest.mark.parametrize("field", [name for name in OTHER if name != "lite_weights"])
def test_every_field_counts_but_those_that_leave_the_features_as_they_are(field: str, built: Built) -> None:
    needed = NEEDED.get(field, {})
    before = dataclasses.replace(CONFIG, **({} if field == "budget_mib" else needed))
    after = dataclasses.replace(CONFIG, **{field: OTHER[field]} | needed)
    assert before != after
    assert (_name(before, built) == _name(after, built)) == (field in APART)


def test_the_machine_counts(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {_name(CONFIG, built)}
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    names.add(_name(CONFIG, built))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        names.add(_name(CONFIG, built))
    finally:
        torch.set_num_threads(threads)
    assert len(names) == 3


def test_frozen_weights_count_and_the_classifier_does_not() -> None:
    net = build_model(CONFIG).net
    before = frozen_digest(net)
    with torch.no_grad():
        net.get_parameter("classifier.1.weight").add_(1.0)
        assert frozen_digest(net) == before
        net.get_buffer("features.0.1.running_var")[3] += 1e-6
        assert frozen_digest(net) != before


def test_every_pixel_and_label_counts() -> None:
    images = tinted_images(6, 0)
    before = images_digest(images)
    assert images_digest(ImageSet(images.images.copy(), images.labels.copy())) == before
    changed = images.images.copy()
    changed[5, 15, 15, 2] ^= 1
    assert images_digest(ImageSet(changed, images.labels)) != before
    assert images_digest(ImageSet(images.images, images.labels[::-1])) != before


def test_a_file_that_was_written_again_counts(make_imagefolder: Callable[..., Path]) -> None:
    root = make_imagefolder({"train/red": 3, "train/blue": 3, "val/red": 1, "val/blue": 1})
    config = small(dataset="imagefolder", data_dir=str(root), num_classes=None, loading="stream")
    train = load_dataset(config).train
    before = images_digest(train)
    assert images_digest(load_dataset(config).train) == before
    one = root / "train" / "red" / "01.png"
    os.utime(one, ns=(0, one.stat().st_mtime_ns + 1))
    assert images_digest(train) != before
    one.unlink()
    assert images_digest(train) is None

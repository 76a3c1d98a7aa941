"""Which runs share features, how many of them, and that a classifier makes of them what the network does."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.cases import ALL_CASES, small
from tests.support.sampled import sampled
from tinytl.build import Built, build_model
from tinytl.config.names import BACKBONES
from tinytl.config.plan import lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.data.splits import DataSplits
from tinytl.features.limit import MOST_VARIABLE
from tinytl.features.rows import most_bytes_of
from tinytl.features.shared import SharedFeatures, shared_features

CPU = torch.device("cpu")
WAYS = {
    "lean": {"engine": "lean"},
    "lean, recomputed": {"engine": "lean", "checkpoint": "all"},
    "lean, large blocks alone": {"engine": "lean", "stock_below_kib": 40.0},
    "stock": {"engine": "stock"},
    "stock, recomputed": {"engine": "stock", "checkpoint": "all"},
    "bfloat16": {"precision": "bfloat16"},
}
FORWARDS = list(itertools.product(BACKBONES, ("frozen_bn", "group_norm"), WAYS))


def _shared(config: TrainConfig, built: Built, data: DataSplits) -> SharedFeatures | None:
    return shared_features(config, built.net, data, built.normalization, CPU)


@pytest.mark.parametrize(("backbone", "norm", "way"), sampled(FORWARDS, 5), ids=map(" ".join, FORWARDS))
def test_a_classifier_makes_of_stored_features_what_the_network_makes_of_images(
    feature_store: Path, splits: DataSplits, backbone: str, norm: str, way: str
) -> None:
    torch.manual_seed(0)
    config = lean_plan(small(method="FT-Last", backbone=backbone, norm=norm, dropout=0.5, **WAYS[way]))
    built, n = build_model(config), len(splits.train)
    shared = _shared(config, built, splits)
    assert shared is not None
    images = torch.randn(n, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    dtype = torch.bfloat16 if config.precision == "bfloat16" else None
    autocast = torch.autocast("cpu", dtype, enabled=dtype is not None)

    torch.manual_seed(1)
    with shared.of_epoch(0) as stored, autocast:
        assert stored is None
        expected = [built.net(few) for few in images.split(4)]
    torch.manual_seed(1)
    with shared.of_epoch(0) as stored, autocast:
        assert stored is not None
        found = [shared.head(few.clone()) for few, _ in stored.batches(splits.train.labels, 4, CPU)]
    for one, other in zip(expected, found, strict=True):
        assert one.dtype is other.dtype and torch.equal(one, other)


@pytest.mark.parametrize("case", sampled(ALL_CASES, 4))
def test_only_a_frozen_network_with_its_own_statistics_shares(
    feature_store: Path, splits: DataSplits, case: str
) -> None:
    config = lean_plan(ALL_CASES[case])
    shares = _shared(config, build_model(config), splits) is not None
    assert shares == (config.method == "FT-Last" and config.norm != "batch_norm")


@pytest.fixture
def config() -> TrainConfig:
    return lean_plan(small(method="FT-Last", norm="frozen_bn"))


def test_nothing_is_shared_if_the_store_is_off(
    splits: DataSplits, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MOST_VARIABLE, "0")
    assert _shared(config, build_model(config), splits) is None


def test_only_as_many_epochs_are_stored_as_fit_together(
    feature_store: Path, splits: DataSplits, config: TrainConfig
) -> None:
    shared = _shared(config, build_model(config), splits)
    assert shared is not None
    two_bytes = most_bytes_of(shared.val_shape) + 2 * most_bytes_of(shared.train_shape)
    few, fewer, none = (
        dataclasses.replace(shared, store=dataclasses.replace(shared.store, most_bytes=n_bytes))
        for n_bytes in (two_bytes, two_bytes - 1, 7)
    )
    assert (few.n_epochs, fewer.n_epochs, none.n_epochs) == (2, 1, 0)
    with few.of_epoch(2) as stored:
        assert stored is None
    assert not feature_store.exists(), "nothing was begun"


CHANGES: dict[str, tuple[dict[str, Any], bool, bool]] = {
    "its own rate": ({"base_lr": 0.1}, True, True),
    "another seed": ({"seed": 1}, False, True),
    "another seed with the same data_seed": ({"seed": 1, "data_seed": 0}, True, True),
    "another data_seed": ({"data_seed": 1}, False, True),
    "the data set's own crops, spelt out": ({"crop_scale_min": 0.5, "flip": True}, True, True),
    "other crops": ({"crop_scale_min": 0.6}, False, True),
    "another resolution": ({"resolution": 64}, False, False),
    "other batches": ({"batch_size": 8}, False, False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_validation_features_are_shared_by_more_runs_than_training_ones(
    feature_store: Path, splits: DataSplits, config: TrainConfig, change: str
) -> None:
    fields, same_train, same_val = CHANGES[change]
    built = build_model(config)
    one = _shared(config, built, splits)
    other = _shared(dataclasses.replace(config, **fields), built, splits)
    assert one is not None and other is not None
    assert (one.train_name(3) == other.train_name(3)) == same_train
    assert (one.val_name == other.val_name) == same_val
    assert len({one.train_name(0), one.train_name(1), one.val_name}) == 3

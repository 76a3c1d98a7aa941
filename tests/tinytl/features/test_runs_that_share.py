"""Runs that read what another computed end as they would have alone, bit for bit."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.cases import learnt, small
from tests.support.sampled import sampled
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.data.load import DataSplits, load_dataset
from tinytl.errors import NonFiniteLossError
from tinytl.features.limit import MOST_VARIABLE
from tinytl.features.rows import StoredRows
from tinytl.runs.trainer import Trainer

EPOCHS = 2
N_TRAIN, N_VAL = 30, 13
"""In batches of 8: the last ones are smaller."""
N, TWO_STEPS = N_TRAIN + N_VAL, 16
EIGHT: dict[str, dict[str, Any]] = {
    "as it is": {},
    "rate": {"base_lr": 3e-3},
    "ratio and decay": {"lr_ratio": LrRatio(classifier=0.3), "weight_decay": 0.1},
    "seed": {"seed": 5},
    "AdamW, warm-up": {"optimizer": "adamw", "weight_decay": 0.05, "warmup_epochs": 0.5},
    "SGD": {"optimizer": "sgd", "momentum": 0.5, "base_lr": 0.05},
    "no dropout, no smoothing": {"dropout": 0.0, "label_smoothing": 0.0},
    "fewer epochs, exponential": {"epochs": EPOCHS - 1, "lr_schedule": "exponential", "gamma": 0.5},
}


@pytest.fixture(scope="module")
def digits() -> DataSplits:
    whole = load_dataset(TrainConfig())
    train, val = whole.train.take(np.arange(N_TRAIN)), whole.val.take(np.arange(N_VAL))
    return dataclasses.replace(whole, train=train, val=val, test=None)


def _config(**changes: Any) -> TrainConfig:
    fields = {"method": "FT-Last", "norm": "frozen_bn", "batch_size": 8, "epochs": EPOCHS, "base_lr": 1e-3}
    # Weights that do not depend on the seed; a plan, so that none is predicted.
    fields |= {"backbone": "efficientnet_lite0", "weights": "imagenet"}
    fields |= {"micro_batch_size": 4, "checkpoint": "none", "stock_below_kib": 0.0, "slice_mib": 5.0}
    return small(**fields | {"num_classes": None, "data_seed": 0} | changes)


def _state(trainer: Trainer) -> dict[str, Any]:
    """All that a checkpoint has, as values that compare."""
    file = io.BytesIO()
    torch.save(trainer.state_dict(), file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)


def _train(config: TrainConfig, data: DataSplits) -> tuple[list[dict[str, Any]], dict[str, Any], list[float]]:
    """Returns what an epoch says but for its times, the state at the end, and how much each epoch read."""
    trainer = Trainer(config, data)
    rows = [trainer.train_epoch().flat() for _ in range(config.epochs)]
    read = [row["features_read"] for row in rows]
    return [learnt(row, "features_read") for row in rows], _state(trainer), read


@pytest.fixture(scope="module")
def alone() -> Callable[..., Any]:
    """Trains a run that shares nothing; of each configuration once."""
    known: dict[TrainConfig, Any] = {}

    def train(config: TrainConfig, data: DataSplits) -> Any:
        if config not in known:
            with pytest.MonkeyPatch.context() as off:
                off.setenv(MOST_VARIABLE, "0")
                known[config] = _train(config, data)
        return known[config]

    return train


@pytest.mark.parametrize(
    ("norm", "every"), sampled([("frozen_bn", 3), ("frozen_bn", 1), ("group_norm", 1)], 3)
)
def test_eight_runs_share_one_forward_and_end_as_each_would_alone(
    feature_store: Path, digits: DataSplits, alone: Callable[..., Any], norm: str, every: int
) -> None:
    for turn, (name, changes) in enumerate(list(EIGHT.items())[::every]):
        config = _config(norm=norm, **changes)
        rows, state, read = _train(config, digits)
        alone_rows, alone_state, alone_read = alone(config, digits)
        assert rows == alone_rows, name
        assert _equal(state, alone_state), name
        assert set(alone_read) == {0.0}
        if turn == 0:  # it computes every training image, and the validation images once
            assert read == [0.0, *[N_VAL / N] * (EPOCHS - 1)]
        else:  # two steps for the peak: the first has no moments yet
            assert read == [(N - TWO_STEPS) / N, *[1.0] * (config.epochs - 1)], name
    assert len(list(feature_store.glob("train*"))) == EPOCHS
    assert len(list(feature_store.glob("val*"))) == 1


@pytest.mark.parametrize(
    "changes",
    sampled([{"rand_augment": 9}, {"cutmix_alpha": 1.0}, {"mixup_alpha": 0.4}, {"weight_average": 0.9}], 3),
    ids=str,
)
def test_runs_that_augment_alike_share_what_is_augmented_and_each_has_its_average(
    feature_store: Path, digits: DataSplits, alone: Callable[..., Any], changes: dict[str, Any]
) -> None:
    _train(_config(**changes), digits)
    config = _config(**changes, seed=3)
    rows, state, read = _train(config, digits)
    assert min(read) > 0.5
    assert (rows, read) != (alone(_config(seed=3), digits)[0], read)
    alone_rows, alone_state, _ = alone(config, digits)
    assert rows == alone_rows
    assert _equal(state, alone_state)


def test_a_run_that_was_cut_off_reads_on_and_ends_as_alone(
    feature_store: Path, digits: DataSplits, alone: Callable[..., Any]
) -> None:
    config = _config(seed=3)
    rows, state, _ = alone(config, digits)
    first = Trainer(config, digits)
    first.train_epoch()
    cut_off = _state(first)

    _train(_config(), digits)
    torch.manual_seed(99)
    resumed = Trainer(config, digits)
    resumed.load_state_dict(cut_off)
    for row in rows[1:]:
        metrics = resumed.train_epoch()
        assert metrics.flat().items() >= row.items() and metrics.features_read == 1.0
    assert _equal(_state(resumed), state)


def test_epochs_that_a_run_stored_before_it_stopped_are_read_and_the_others_computed(
    feature_store: Path, digits: DataSplits, alone: Callable[..., Any]
) -> None:
    stopped_at_a_rung = Trainer(_config(), digits)
    stopped_at_a_rung.train_epoch()
    config = _config(base_lr=2e-3)
    rows, state, read = _train(config, digits)
    assert (rows, read) == (alone(config, digits)[0], [(N - TWO_STEPS) / N, N_VAL / N])
    assert _equal(state, alone(config, digits)[1])


@pytest.mark.parametrize("damage", sampled([None, b"", b"something else"], 3))
def test_files_that_are_damaged_are_computed_again(
    feature_store: Path, digits: DataSplits, damage: bytes | None
) -> None:
    expected = _train(_config(), digits)[:2]
    for file in feature_store.iterdir():
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if damage is None else damage)
    rows, state, read = _train(_config(), digits)
    assert rows == expected[0] and _equal(state, expected[1])
    assert read == [0.0, *[N_VAL / N] * (EPOCHS - 1)]
    assert _train(_config(), digits)[2][1:] == [1.0] * (EPOCHS - 1), "whole again"


def test_a_store_without_room_for_an_epoch_changes_nothing(
    feature_store: Path, digits: DataSplits, alone: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinytl.features.store.FREE_BYTES", 1 << 62)
    rows, state, read = _train(_config(), digits)
    assert read == [0.0] * EPOCHS and list(feature_store.iterdir()) == []
    assert rows == alone(_config(), digits)[0] and _equal(state, alone(_config(), digits)[1])


def test_an_epoch_that_diverges_leaves_no_file(feature_store: Path, digits: DataSplits) -> None:
    trainer = Trainer(_config(base_lr=1e38, optimizer="sgd"), digits)
    with pytest.raises(NonFiniteLossError):
        trainer.train_epoch()
    assert list(feature_store.iterdir()) == []


def test_weights_that_are_loaded_later_have_features_of_their_own(
    feature_store: Path, digits: DataSplits
) -> None:
    other = _state(Trainer(_config(seed=7, weights="none"), digits))
    trainer = Trainer(_config(), digits)
    trainer.train_epoch()
    assert trainer.train_epoch().features_read == N_VAL / N
    trainer.load_state_dict(other)
    assert trainer.train_epoch().features_read == 0.0


def test_what_is_streamed_is_not_decoded_if_its_features_are_stored(
    feature_store: Path, make_imagefolder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_imagefolder({"train/red": 9, "train/blue": 9, "val/red": 2, "val/blue": 2})
    config = _config(dataset="imagefolder", data_dir=str(root), loading="stream", loader_workers=0)
    data = load_dataset(config)
    first = _train(config, data)
    decoded: list[str] = []
    from tinytl.data import streaming

    real = streaming.decode_square

    def noted(path: Path, side: int) -> Any:
        decoded.append(path.name)
        return real(path, side)

    monkeypatch.setattr(streaming, "decode_square", noted)
    again = _train(config, data)
    assert again[0] == first[0] and _equal(again[1], first[1])
    assert len(decoded) <= 3 * 8, "the two steps of the peak, and what is decoded ahead"


@pytest.mark.parametrize("n_readable", sampled([1, 0], 2), ids=["after a batch", "from the start"])
def test_a_disk_that_gives_no_rows_any_more_costs_time_and_nothing_else(
    n_readable: int,
    alone: Callable[..., Any],
    digits: DataSplits,
    feature_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = alone(_config(), digits)
    _train(_config(), digits)
    read, asked = StoredRows._read, []

    def failing(self: StoredRows, first: int, n: int) -> torch.Tensor:
        asked.append(first)
        if len(asked) > n_readable:
            raise OSError(5, "Input/output error")
        return read(self, first, n)

    monkeypatch.setattr(StoredRows, "_read", failing)
    rows, state, _ = _train(_config(), digits)
    assert rows == expected[0] and _equal(state, expected[1])
    assert "Input/output error: the rest of the epoch starts from images" in caplog.text
    assert "Input/output error: the validation starts from images" in caplog.text

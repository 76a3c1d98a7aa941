import dataclasses
import io
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.cases import learnt, settled
from tests.support.sampled import sampled
from tests.support.taped_graphs import TapedGraphs
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.data.load import DataSplits
from tinytl.device import gpu_emulated
from tinytl.errors import NonFiniteLossError
from tinytl.memory.predict import predict_memory
from tinytl.runs.trainer import Trainer
from tinytl.training.data_parallel import ALONE, Ranks


def _config(**changes: Any) -> TrainConfig:
    fields = {"method": "FT-Full", "norm": "group_norm", "epochs": 2, "base_lr": 1e-3, "num_classes": None}
    return settled(**fields | changes)


def _equal_nets(one: Trainer, other: Trainer) -> bool:
    own, theirs = one.net.state_dict(), other.net.state_dict()
    return own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)


def test_it_learns(splits: DataSplits) -> None:
    config = _config(norm="batch_norm", epochs=16, dropout=0.0, batch_size=10, resolution=64)
    trainer = Trainer(config, splits)
    history = [trainer.train_epoch() for _ in range(16)]
    assert [metrics.epoch for metrics in history] == list(range(1, 17))
    assert history[-1].loss < 0.75 * history[0].loss
    assert history[-1].train_accuracy_top1 >= 0.8
    assert history[-1].train_accuracy_top1 * 10 == pytest.approx(round(history[-1].train_accuracy_top1 * 10))
    assert all(metrics.epoch_time_s > 0 for metrics in history)


@pytest.mark.parametrize("norm", sampled(["batch_norm", "group_norm"], 2))
def test_the_same_seed_gives_the_same_bits(splits: DataSplits, norm: str) -> None:
    config = _config(norm=norm, epochs=1, seed=3)
    one, other = Trainer(config, splits), Trainer(config, splits)
    assert _equal_nets(one, other)
    first = one.train_epoch()
    torch.rand(17)  # whatever happened in between
    assert learnt(first.flat()) == learnt(other.train_epoch().flat())
    assert _equal_nets(one, other)
    assert not _equal_nets(one, Trainer(dataclasses.replace(config, seed=4), splits))


@pytest.mark.parametrize(
    "changes",
    [
        {"norm": "batch_norm"},
        {"method": "TinyTL-L+B", "norm": "frozen_bn", "micro_batch_size": 2},
        {"method": "FT-Full", "norm": "frozen_bn", "checkpoint": "all", "moments": "int8"},
        pytest.param(
            {"optimizer": "sgd", "weight_decay": 1e-4, "lr_schedule": "exponential", "warmup_epochs": 0.5},
            marks=pytest.mark.slow,
        ),
        {"weight_average": 0.5, "norm": "batch_norm"},
        pytest.param(
            {"weight_average": 0.99, "method": "TinyTL-L+B", "norm": "frozen_bn"}, marks=pytest.mark.slow
        ),
        {
            "rand_augment": 9,
            "mixup_alpha": 0.4,
            "cutmix_alpha": 1.0,
            "class_weighting": "inverse",
        },
        pytest.param(
            {"precision": "float16", "method": "TinyTL-B", "norm": "frozen_bn"},
            marks=pytest.mark.slow,  # convolutions in float16
        ),
    ],
    ids=[
        "batch norm",
        "lite, micro-batches",
        "int8, released",
        "sgd, exponential",
        "averaged statistics",
        "averaged",
        "mixed",
        "float16",
    ],
)
def test_resumed_training_ends_as_uninterrupted(splits: DataSplits, changes: dict[str, Any]) -> None:
    config = _config(**changes)
    whole = Trainer(config, splits)
    whole.train_epoch()
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    expected = whole.train_epoch()

    file.seek(0)
    torch.manual_seed(12345)
    resumed = Trainer(config, splits)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert resumed.epoch == 1
    metrics = resumed.train_epoch()
    assert learnt(metrics.flat()) == learnt(expected.flat())
    assert metrics.epoch == 2
    assert _equal_nets(resumed, whole)


def test_an_average_is_what_is_judged_and_kept_and_does_not_change_training(splits: DataSplits) -> None:
    plain, averaged = (Trainer(_config(weight_average=decay), splits) for decay in (0.0, 0.9))
    for _ in range(2):
        expected, found = plain.train_epoch(), averaged.train_epoch()
        assert found.loss == expected.loss
        assert found.val_loss != expected.val_loss
    assert _equal_nets(averaged, plain)
    kept = averaged.state_dict()["net"]
    assert not any(torch.equal(kept[name], p) for name, p in plain.net.named_parameters())
    plain.net.load_state_dict(kept)
    plain.measured_peak_mib = averaged.measured_peak_mib
    assert plain.evaluate(splits.val).loss == found.val_loss
    assert averaged.evaluate(splits.val).loss == found.val_loss


@pytest.mark.parametrize("norm", sampled(["batch_norm", "frozen_bn"], 2))
def test_an_average_is_counted_in_the_memory_of_a_run(splits: DataSplits, norm: str) -> None:
    trainer = Trainer(_config(weight_average=0.9, norm=norm, epochs=1, batch_size=2), splits)
    trainer.train_epoch()
    assert trainer.measured_peak_mib == pytest.approx(predict_memory(trainer.config).peak_mib, rel=0.02)


def test_a_checkpoint_serves_as_weights(splits: DataSplits, tmp_path: Path) -> None:
    first = Trainer(_config(method="TinyTL-L+B", input_mean=(0.4,) * 3, input_std=(0.3,) * 3), splits)
    first.train_epoch()
    file = str(tmp_path / "trainer.pt")
    torch.save(first.state_dict(), file)
    second = Trainer(_config(method="TinyTL-L+B", weights=file, lite_weights=file), splits)
    assert (second.normalization.mean, second.normalization.std) == ((0.4,) * 3, (0.3,) * 3)
    assert second.normalization.source == f"of {file}"
    image = splits.train.images[:1].transpose(0, 3, 1, 2)
    expected = (torch.from_numpy(image.copy()) / 255 - 0.4) / 0.3
    for trainer in (first, second):
        assert torch.allclose(trainer.normalize(torch.from_numpy(image.copy())), expected, atol=1e-5)
    own, theirs = second.net.state_dict(), first.net.state_dict()
    same = [name for name in own if torch.equal(own[name], theirs[name])]
    assert [name for name in own if name not in same] == ["classifier.1.weight", "classifier.1.bias"]


def test_every_epoch_and_seed_draws_its_own_dropout(
    splits: DataSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainers = [Trainer(_config(method="FT-Last", seed=seed), splits) for seed in (0, 1)]
    seeds: list[int] = []
    monkeypatch.setattr(torch, "manual_seed", seeds.append)
    for trainer in trainers:
        trainer.train_epoch()
        trainer.train_epoch()
    assert len(set(seeds)) == len(seeds) == 4


@pytest.mark.parametrize("checkpoint", ["none", "all"])  # gradients are released
def test_divergence_names_epoch_and_step(splits: DataSplits, checkpoint: str) -> None:
    trainer = Trainer(_config(base_lr=1e30, checkpoint=checkpoint), splits)
    with pytest.raises(
        NonFiniteLossError, match=r"^loss is not finite at step 2 of epoch 1 \(base_lr=1e\+30\)$"
    ):
        trainer.train_epoch()


def test_learning_rates_follow_a_cosine_over_all_steps(splits: DataSplits) -> None:
    config = _config(base_lr=1e-3, lr_ratio=LrRatio(late=0.6, early=0.4))
    trainer = Trainer(config, splits)
    assert trainer.steps_per_epoch == 3
    for epoch in (0, 1):
        factor = 0.5 * (1 + math.cos(math.pi * 3 * epoch / 6))  # at the first step of each
        assert trainer.train_epoch().lr == {
            "classifier": pytest.approx(1e-3 * factor),
            "late": pytest.approx(6e-4 * factor),
            "early": pytest.approx(4e-4 * factor),
        }
        last = 0.5 * (1 + math.cos(math.pi * (3 * epoch + 2) / 6))
        assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * last)


class _Untouchable:
    def __getattribute__(self, name: str) -> Any:
        raise AssertionError(f"test images were touched: {name}")


def test_training_never_touches_the_test_images(splits: DataSplits) -> None:
    guarded = dataclasses.replace(splits, test=_Untouchable())
    trainer = Trainer(_config(method="FT-Last", epochs=1), guarded)
    trainer.train_epoch()
    with pytest.raises(AssertionError, match="test images were touched"):
        len(guarded.test.labels)


def test_evaluation_does_not_depend_on_the_batch_and_changes_nothing(splits: DataSplits) -> None:
    trainer = Trainer(_config(method="TinyTL-L+B", norm="batch_norm", batch_size=4), splits)
    before = {name: tensor.clone() for name, tensor in trainer.net.state_dict().items()}
    found = trainer.evaluate(splits.val)
    single = Trainer(_config(method="TinyTL-L+B", norm="batch_norm", batch_size=2), splits)
    assert _equal_nets(trainer, single)
    again = single.evaluate(splits.val)
    assert again.predicted.tolist() == found.predicted.tolist()
    assert again.losses.tolist() == pytest.approx(found.losses.tolist(), rel=1e-5)
    assert found.accuracy_top1 * 6 == pytest.approx(round(found.accuracy_top1 * 6))
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.net.state_dict().items())


def test_the_number_of_classes_is_the_data_s(splits: DataSplits) -> None:
    trainer = Trainer(_config(method="FT-Last"), splits)
    assert trainer.config.num_classes == 3
    assert trainer.net.get_parameter("classifier.1.weight").shape == (3, 1280)


def test_batch_norm_leaves_out_a_last_batch_of_one(splits: DataSplits) -> None:
    # 10 images in batches of 3: the last holds one.
    assert Trainer(_config(norm="batch_norm", batch_size=3, method="FT-Last"), splits).steps_per_epoch == 3
    assert Trainer(_config(norm="frozen_bn", batch_size=3, method="FT-Last"), splits).steps_per_epoch == 4
    Trainer(_config(norm="batch_norm", batch_size=3, method="TinyTL-L"), splits).train_epoch()


@pytest.mark.parametrize(
    ("batch_size", "measured"), sampled([(8, [False, True]), (4, [True, True]), (16, [False, True])], 3)
)
def test_memory_is_measured_on_a_full_batch_after_the_first_step(
    splits: DataSplits, batch_size: int, measured: list[bool]
) -> None:
    trainer = Trainer(_config(batch_size=batch_size, norm="frozen_bn"), splits)
    found = [trainer.train_epoch().measured_peak_mib for _ in range(2)]
    assert [peak is not None for peak in found] == measured
    n = min(batch_size, 10)
    steady = dataclasses.replace(trainer.config, batch_size=n, micro_batch_size=n)
    assert found[1] == pytest.approx(predict_memory(steady).peak_mib, rel=0.02)


EXACT_RATES = {"base_lr": 2.0**-10, "lr_schedule": "exponential", "gamma": 0.5}
"""Rates that are the same in 32 bits, in which a graph reads them."""


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[TapedGraphs]]:
    """Those of each trainer; tapes stand in for CUDA's."""
    made: list[TapedGraphs] = []

    def new_graphs() -> TapedGraphs:
        made.append(TapedGraphs())
        return made[-1]

    monkeypatch.setattr("tinytl.training.captured_step.new_graphs", new_graphs)
    with gpu_emulated():
        yield made


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"norm": "batch_norm", "batch_size": 4}, marks=pytest.mark.slow),
        pytest.param(
            {"method": "TinyTL-L+B", "norm": "frozen_bn", "batch_size": 4, "micro_batch_size": 2},
            marks=pytest.mark.slow,
        ),
        pytest.param({"optimizer": "sgd", "batch_size": 3, "precision": "bfloat16"}, marks=pytest.mark.slow),
        {
            "method": "FT-Last",
            "norm": "batch_norm",
            "batch_size": 4,
            "mixup_alpha": 0.4,
            "weight_average": 0.9,
        },
    ],
    ids=["batch norm", "lite, micro-batches", "sgd, bfloat16", "mixed, averaged"],
)
def test_a_recorded_run_is_one_that_is_not_and_resumes_as_either(
    splits: DataSplits, changes: dict[str, Any], graphs: list[TapedGraphs]
) -> None:
    # 10 images: each epoch has a last batch that is short.
    configs = {recorded: _config(**EXACT_RATES, **changes, cuda_graph=recorded) for recorded in (True, False)}
    whole = {recorded: Trainer(config, splits) for recorded, config in configs.items()}
    first = {recorded: learnt(trainer.train_epoch().flat()) for recorded, trainer in whole.items()}
    files = {recorded: io.BytesIO() for recorded in whole}
    for recorded, trainer in whole.items():
        torch.save(trainer.state_dict(), files[recorded])
    second = {recorded: learnt(trainer.train_epoch().flat()) for recorded, trainer in whole.items()}
    assert {**first[True], "measured_peak_mib": None} == {**first[False], "measured_peak_mib": None}
    assert _equal_nets(whole[True], whole[False])
    assert [tape.plays > 1 for tape in graphs[0].tapes] == [True, True]
    assert whole[True].graph_refusal is None
    for began, goes_on in itertools.product(files, files):
        files[began].seek(0)
        resumed = Trainer(configs[goes_on], splits)
        resumed.load_state_dict(torch.load(files[began], weights_only=True))
        assert learnt(resumed.train_epoch().flat()) == {
            **second[goes_on],
            "measured_peak_mib": second[began]["measured_peak_mib"],
        }
        assert _equal_nets(resumed, whole[True])


@pytest.mark.parametrize(
    ("changes", "ranks", "reason"),
    [
        ({"precision": "float16", "method": "FT-Last"}, ALONE, "float16 scales its loss, and the host reads"),
        ({"batch_size": 4}, Ranks(0, 2), "several processes sum their gradients within a step"),
    ],
    ids=["float16", "ranks"],
)
def test_a_graph_that_was_asked_for_and_is_refused_is_told_and_stays_told(
    splits: DataSplits,
    changes: dict[str, Any],
    ranks: Ranks,
    reason: str,
    graphs: list[TapedGraphs],
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainer = Trainer(_config(**changes, cuda_graph=True), splits, ranks=ranks)
    assert trainer.config.cuda_graph is False and graphs == []
    assert trainer.graph_refusal is not None and trainer.graph_refusal.startswith(reason)
    assert [record.message for record in caplog.records] == [
        f"steps run without a CUDA graph: {trainer.graph_refusal}"
    ]
    resumed = Trainer(trainer.config, splits, ranks=ranks)
    resumed.load_state_dict(trainer.state_dict())
    assert resumed.graph_refusal == trainer.graph_refusal


def test_a_checkpoint_from_before_graphs_resumes(splits: DataSplits) -> None:
    trainer = Trainer(_config(method="FT-Last"), splits)
    state = {name: value for name, value in trainer.state_dict().items() if name != "graph_refusal"}
    trainer.load_state_dict(state)
    assert trainer.graph_refusal is None

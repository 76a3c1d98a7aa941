import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.cases import settled
from tinytl.config.flat import config_from_flat
from tinytl.config.names import METRICS
from tinytl.config.plan import describe, lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.data.load import load_dataset
from tinytl.errors import ConfigError, NonFiniteLossError
from tinytl.memory.predict import predict_memory, resolve_plan
from tinytl.networks.backbones.weights import read_weights
from tinytl.runs.progress import PlainProgress
from tinytl.runs.run import train_loaded, train_run

SPLITS = {"train/red": 4, "train/blue": 3, "val/red": 2, "val/blue": 1, "test/red": 1, "test/blue": 2}
SILENT = PlainProgress(lambda line: None)


def _config(root: Path, **changes: Any) -> TrainConfig:
    fields = {"dataset": "imagefolder", "data_dir": str(root), "num_classes": None, "batch_size": 2}
    return settled(**fields | {"method": "TinyTL-L+B", "epochs": 2} | changes)


def _open(config: TrainConfig) -> TrainConfig:
    """Returns `config` with its plan open, as a user leaves it."""
    return dataclasses.replace(config, micro_batch_size=None, checkpoint="auto", stock_below_kib=None)


def test_files_of_a_run(make_imagefolder: Callable[..., Path], tmp_path: Path) -> None:
    config, out, lines = _open(_config(make_imagefolder(SPLITS))), tmp_path / "deep" / "out", []
    result = train_run(config, out, PlainProgress(lines.append), notes=["a note"])
    assert sorted(path.name for path in out.iterdir()) == [
        "best.pt",
        "config.yaml",
        "environment.json",
        "last.pt",
        "metrics.jsonl",
        "result.json",
        "val_judgements.npz",
    ]

    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2]
    names = (
        "epoch loss train_accuracy_top1 accuracy_top1 balanced_accuracy macro_f1 standard_error val_loss "
        "epoch_time_s images_per_s measured_peak_mib process_peak_mib features_read"
    )
    groups = "lr.classifier lr.lite_residual lr.bias"
    assert set(rows[0]) == {*names.split(), *groups.split(), "peak_memory_mib"}

    assert json.loads((out / "result.json").read_text()) == json.loads(json.dumps(result))
    assert list(result) == [
        "train_accuracy_top1",
        "val_accuracy_top1",
        "test_accuracy_top1",
        "balanced_accuracy",
        "macro_f1",
        "test_balanced_accuracy",
        "test_macro_f1",
        *(f"{name}_standard_error" for name in METRICS),
        *(f"test_{name}_standard_error" for name in METRICS),
        "predicted_peak_mib",
        "measured_peak_mib",
        "process_peak_mib",
        "metric",
        "best_score",
        "best_val_accuracy_top1",
        "best_epoch",
        "weights",
        "config",
        "graph_refusal",
        "per_class",
    ]
    assert result["graph_refusal"] is None
    assert result["train_accuracy_top1"] == rows[-1]["train_accuracy_top1"]
    for name in METRICS:
        assert result[{"accuracy_top1": "val_accuracy_top1"}.get(name, name)] == rows[-1][name]
    assert result["best_score"] == max(row["accuracy_top1"] for row in rows)
    for split in ("val", "test"):
        assert [row["name"] for row in result["per_class"][split]] == ["blue", "red"]
        assert sum(row["n_images"] for row in result["per_class"][split]) == 3
    assert result["test_accuracy_top1"] in {0, 1 / 3, 2 / 3, 1}
    assert result["predicted_peak_mib"] == rows[0]["peak_memory_mib"] == rows[1]["peak_memory_mib"]
    assert config_from_flat(result["config"]) == resolve_plan(dataclasses.replace(config, num_classes=2))

    assert lines.pop(0) == "a note"
    assert lines[0] == "pictures: 13 images of 2 classes (blue, red): 7 to train, 3 to validate, 3 to test"
    assert lines[1] == "mobilenet_v2: random weights"
    assert lines[2] == "input: mean 0.485 0.456 0.406, std 0.229 0.224 0.225 (mobilenet_v2's default)"
    assert result["weights"] == {
        "account": "random weights",
        "input_mean": (0.485, 0.456, 0.406),
        "input_std": (0.229, 0.224, 0.225),
        "input_from": "mobilenet_v2's default",
    }
    planned = config_from_flat(result["config"])
    assert lines[3] == f"plan fast: {describe(planned)}" and planned.micro_batch_size == 2
    assert lines[4].startswith(f"predicted peak {result['predicted_peak_mib']:.1f} MiB at ")
    assert [line.partition("  ")[0] for line in lines[5:]] == ["epoch 1/2", "epoch 2/2"]


@pytest.mark.parametrize(("factor", "warns"), [(1.0, False), (1.2, True), (0.8, True)])
def test_a_prediction_that_is_far_off_is_a_warning(
    make_imagefolder: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    factor: float,
    warns: bool,
) -> None:
    monkeypatch.setattr(
        "tinytl.runs.run.predict_memory",
        lambda c: dataclasses.replace(predict_memory(c), peak_mib=factor * predict_memory(c).peak_mib),
    )
    lines: list[str] = []
    train_run(
        _config(make_imagefolder(SPLITS), method="FT-Last"), tmp_path / "out", PlainProgress(lines.append)
    )
    assert any(line.startswith("warning: the allocator measured ") for line in lines) == warns


def test_without_test_images_there_is_no_test_accuracy(
    make_imagefolder: Callable[..., Path], tmp_path: Path
) -> None:
    root = make_imagefolder({name: n for name, n in SPLITS.items() if not name.startswith("test")})
    result = train_run(_config(root, epochs=1, method="FT-Last"), tmp_path / "out", SILENT)
    assert result["test_accuracy_top1"] is None


@pytest.mark.parametrize(
    "changes", [{"weights": "/nowhere.pt"}, {"n_groups": 5}, {"num_classes": 9}, {"data_dir": "/nowhere"}]
)
def test_a_mistake_leaves_nothing_behind(
    make_imagefolder: Callable[..., Path], tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = _config(make_imagefolder(SPLITS), **changes)
    with pytest.raises(ConfigError):
        train_run(config, tmp_path / "out", SILENT)
    assert not (tmp_path / "out").exists()


def test_divergence_leaves_the_epochs_before_and_no_result(
    make_imagefolder: Callable[..., Path], tmp_path: Path
) -> None:
    config = _config(make_imagefolder(SPLITS), method="FT-Full", norm="group_norm", base_lr=1e30)
    with pytest.raises(NonFiniteLossError, match=r"of epoch 1 \(base_lr=1e\+30\)"):
        train_run(config, tmp_path / "out", SILENT)
    assert (tmp_path / "out" / "metrics.jsonl").read_text() == ""
    assert not (tmp_path / "out" / "result.json").exists()


def test_what_is_loaded_already_gives_the_same_run(
    make_imagefolder: Callable[..., Path], tmp_path: Path
) -> None:
    config = _config(make_imagefolder(SPLITS), method="TinyTL-B")
    expected = train_run(config, tmp_path / "read", SILENT)
    found = train_loaded(config, load_dataset(config), read_weights(config), tmp_path / "given", SILENT)
    of_process = dict.fromkeys(("measured_peak_mib", "process_peak_mib"))
    assert {**found, **of_process} == {**expected, **of_process}


def test_a_resumed_run_keeps_its_plan_whatever_is_fastest_today(
    make_imagefolder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = [0.0, 1024.0]  # what is fastest when the run begins, and when it goes on

    def fastest(config: TrainConfig, n_steps: int, threads: int) -> TrainConfig:
        return dataclasses.replace(lean_plan(config), stock_below_kib=today.pop(0))

    def stop_in_epoch_2(line: str) -> None:
        if line.startswith("epoch 2/2"):
            raise KeyboardInterrupt

    monkeypatch.setattr("tinytl.runs.planned_config.fastest_format", fastest)
    config, out = _open(_config(make_imagefolder(SPLITS))), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        train_run(config, out, PlainProgress(stop_in_epoch_2))
    result = train_run(config, out, SILENT, resume=True)
    assert result["config"]["stock_below_kib"] == 0.0
    assert today == [1024.0]

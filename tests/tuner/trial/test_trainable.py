import json
import resource
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.cases import settled
from tinytl.config.names import METRICS
from tinytl.data.load import load_dataset
from tinytl.networks.backbones.weights import RANDOM_WEIGHTS
from tinytl.runs.directory import RunDirectory
from tinytl.runs.trainer import Trainer
from tuner.trial import trainable
from tuner.trial.gpu_share import GpuShare
from tuner.trial.system_metrics import PREFIX
from tuner.trial.trainable import EVENTS, EVENTS_EVERY_S, GAVE_UP, TinyTLTrainable
from tuner.trial.trial_folder import TrialFolder

BASE = settled(method="FT-Last", norm="frozen_bn", epochs=2, batch_size=32, resolution=32)

PLANS = {"trained_memory_mib": 7.0, "plans": {"slowdown": 1.3}}


@pytest.fixture(scope="module")
def data():
    whole = load_dataset(replace(BASE, num_classes=None))
    few = np.arange(64)
    return replace(whole, train=whole.train.take(few), val=whole.val.take(few[:32]), test=None)


@pytest.fixture
def start(data, tmp_path, monkeypatch):
    """Starts a trial as Ray does, in this process."""
    monkeypatch.chdir(tmp_path)
    base = replace(BASE, num_classes=len(data.classes))

    def begin(base_lr=1e-3, metric="accuracy_top1", recorders=None, **more):
        folder = tmp_path / "t-000"
        folder.mkdir(exist_ok=True)
        own = replace(base, base_lr=base_lr, metric=metric)
        config = {"name": "t-000", "config": own, "folder": str(folder), "peak_memory_mib": 5.0} | PLANS
        trial = TinyTLTrainable.__new__(TinyTLTrainable)
        weights = {BASE.backbone: RANDOM_WEIGHTS}
        trial.setup(config | more, data=data, weights=weights, **(recorders or {}))
        return trial, folder

    return begin


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_an_epoch_is_saved_before_it_is_reported_and_the_last_one_is_done(start):
    trial, folder = start()
    first = trial.step()
    assert (first["epoch"], first["done"]) == (1, False) and rows(folder) == [first["row"]]
    assert (folder / "last.pt").is_file()
    second = trial.step()
    assert second["finished"] and second["done"] and len(rows(folder)) == 2
    assert second["score"] == second["row"]["accuracy_top1"]


def test_the_score_is_the_metric_of_the_trial_and_all_figures_are_reported(start):
    trial, folder = start(metric="macro_f1")
    result = trial.step()
    (row,) = rows(folder)
    assert row["metric"] == "macro_f1" and result["score"] == row["macro_f1"]
    for name in METRICS:  # at the top: Ray hands a searcher nested results in pieces
        assert result[name] == row[name]


def test_event_files_and_system_metrics_are_written_if_they_are_asked_for_and_change_no_result(start):
    plain, folder = start()
    expected = [plain.step()["row"], plain.step()["row"]]
    assert not (folder / EVENTS).exists()
    assert not any(key.startswith(PREFIX) for row in expected for key in row)
    (folder / "last.pt").unlink()
    recorders = {"tensorboard": True, "system_metrics": True}
    cut, _ = start(recorders=recorders)
    cut.step()
    cut.cleanup()
    again, _ = start(recorders=recorders)
    again.step()
    assert again.step()["finished"]
    found = rows(folder)
    for name in ("loss", "accuracy_top1", "val_loss", "measured_peak_mib"):
        assert [row[name] for row in found] == [row[name] for row in expected]
    assert all(row[f"{PREFIX}process_memory_megabytes"] > 50 for row in found)
    events = EventAccumulator(str(folder / EVENTS))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss")]
    assert losses == [(row["epoch"], pytest.approx(row["loss"])) for row in found], "each epoch once"


def test_event_files_are_kept_when_a_trial_ends_or_makes_way_and_every_few_minutes(start, monkeypatch):
    kept = []

    def keep(self, *files):
        kept.extend(file.parent.name for file in files if file.parent.name == EVENTS)

    monkeypatch.setattr(TrialFolder, "keep", keep)
    trial, folder = start(recorders={"tensorboard": True})
    trial.step()
    assert kept == []
    trial.step()  # the last
    assert kept == [EVENTS]
    trial.cleanup()
    assert kept == [EVENTS]
    (folder / "last.pt").unlink()
    again, _ = start(recorders={"tensorboard": True})
    again.events_kept_s -= EVENTS_EVERY_S
    again.step()
    assert kept == [EVENTS, *(EVENTS for _ in (folder / EVENTS).iterdir())]


def test_a_trial_that_was_cut_off_ends_as_if_it_was_not(start, tmp_path):
    whole, folder = start()
    expected = [whole.step()["row"], whole.step()["row"]]
    for file in folder.iterdir():
        file.unlink()
    cut, _ = start()
    cut.step()
    cut.cleanup()
    again, _ = start()
    assert again.step()["row"] == rows(folder)[0], "it may be a rung, and the driver may not know it"
    last = again.step()
    assert last["finished"]
    for name in ("loss", "accuracy_top1", "val_loss"):
        assert [row[name] for row in rows(folder)] == [row[name] for row in expected]


def test_an_end_that_nobody_heard_of_is_reported_again_and_nothing_is_trained(start, monkeypatch):
    whole, folder = start()
    whole.step()
    last = whole.step()
    whole.cleanup()
    monkeypatch.setattr(Trainer, "train_epoch", lambda self: pytest.fail("trained again"))
    again, _ = start()
    assert again.step() == last and len(rows(folder)) == 2


def test_a_damaged_checkpoint_begins_the_trial_anew(start):
    trial, folder = start()
    expected = trial.step()
    trial.cleanup()
    (folder / "last.pt").write_bytes((folder / "last.pt").read_bytes()[:-900])
    again, _ = start()
    assert again.step()["score"] == expected["score"]
    assert [row["epoch"] for row in rows(folder)] == [1]


def test_a_folder_of_another_configuration_is_told(start):
    trial, _ = start()
    trial.step()
    trial.cleanup()
    other, _ = start(base_lr=2e-3)
    result = other.step()
    assert result["done"] and "is of another configuration: base_lr is 0.001" in result["failure"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError("no room"), {"out_of_memory": True}),
        (RuntimeError("a kernel\nwith more lines"), {"failure": "RuntimeError: a kernel"}),
    ],
)
def test_what_goes_wrong_inside_is_one_line_and_a_traceback_in_the_folder(
    start, monkeypatch, error, expected
):
    trial, folder = start()

    def broken(self):
        raise error

    monkeypatch.setattr(Trainer, "train_epoch", broken)
    result = trial.step()
    assert result["done"] and result.items() >= expected.items()
    assert "Traceback" in (folder / "error.txt").read_text()
    assert ("measured_need_mib" in result) == ("out_of_memory" in expected)


def test_a_neighbours_memory_is_not_taken_for_the_trials_need(start, monkeypatch):
    trial, _ = start()

    def full(self):
        raise torch.cuda.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 8.00 GiB of "
            "which 0 bytes is free. Of the allocated memory 1.00 GiB is allocated by PyTorch"
        )

    monkeypatch.setattr(Trainer, "train_epoch", full)
    for allowed_mib, own in ((1044.0, False), (1043.0, True)):
        trial.share = GpuShare(allowed_mib)
        result = trial.step()
        assert ("out_of_memory" in result) == own and result["failure"].startswith(
            "OutOfMemoryError: CUDA out"
        )
        assert ("other processes hold memory of that GPU" in result["failure"]) == (not own)


def test_a_disk_that_is_full_is_no_failure_of_the_trial(start):
    trial, _ = start()
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))  # less than a checkpoint
    try:
        result = trial.step()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert result["done"] and "failure" not in result
    assert result["unsaved"].startswith("checkpoint ") and "cannot be written" in result["unsaved"]


def test_a_folder_that_another_process_keeps_is_told_as_that_and_is_no_failure(start, tmp_path, monkeypatch):
    monkeypatch.setattr(trainable, "PREDECESSOR_S", 0.3)
    folder = tmp_path / "t-000"
    with RunDirectory(folder).claimed():
        trial, _ = start()
    result = trial.step()
    assert result["done"] and "failure" not in result
    assert result["unsaved"].startswith(f"{folder} is still written by a process of this trial")


def test_who_gave_up_says_so_and_trains_nothing(start):
    gave_up = {"out_of_memory": True, "failure": "the host ran out of memory", "measured_need_mib": 900.0}
    trial, _ = start(**{GAVE_UP: gave_up})
    assert trial.trainer is None and trial.step().items() >= gave_up.items()


def test_a_trial_that_differs_in_its_rate_reads_what_another_computed(start, tmp_path, feature_store):
    trial, folder = start()
    first = [trial.step(), trial.step()]
    assert first[-1]["epoch_time_s"] == first[0]["row"]["epoch_time_s"], "the one that computed all"
    assert [row["features_read"] for row in rows(folder)] == [0.0, 32 / 96]

    other = tmp_path / "t-001"
    other.mkdir()
    own = replace(trial.own, base_lr=2e-3)
    config = {"name": "t-001", "config": own, "folder": str(other), "peak_memory_mib": 5.0} | PLANS
    trial.reset_config(config)
    second = [trial.step(), trial.step()]
    # It has two steps, and computes both to measure its peak.
    assert [row["features_read"] for row in rows(other)] == [32 / 96, 1.0]
    assert second[-1]["epoch_time_s"] is None and second[-1]["finished"]
    assert second[-1]["measured_peak_mib"] == first[-1]["measured_peak_mib"]

    alone, _ = start(base_lr=2e-3, folder=str(tmp_path / "alone"))
    for file in feature_store.iterdir():
        file.unlink()
    for result in second:
        assert (
            alone.step()["row"].items()
            >= {
                name: result["row"][name]
                for name in ("loss", "val_loss", "accuracy_top1", "measured_peak_mib")
            }.items()
        )
    assert torch.equal(*(t.net.get_parameter("classifier.1.weight") for t in (trial.trainer, alone.trainer)))


def test_the_next_trial_of_a_process_knows_nothing_of_the_last(start, tmp_path):
    trial, _ = start()
    trial.step()
    other = tmp_path / "t-001"
    other.mkdir()
    own = replace(trial.own, base_lr=2e-3)
    config = {"name": "t-001", "config": own, "folder": str(other), "peak_memory_mib": 6.0} | PLANS
    assert trial.reset_config(config)
    assert trial.step()["epoch"] == 1 and trial.step()["peak_memory_mib"] == 6.0


@pytest.fixture
def in_bucket(server, tmp_path, monkeypatch):
    """Starts a trial of a bucket on a machine of that name."""
    place = f"s3://studies/{tmp_path.name}/s/t-000"

    def on(machine: str, start):
        for name, value in (server.env | {"XDG_CACHE_HOME": str(tmp_path / machine)}).items():
            monkeypatch.setenv(name, value)
        trial, _ = start(folder=place)
        return trial

    return on


def test_a_trial_in_a_bucket_goes_on_where_another_machine_was_cut_off(start, in_bucket, server, tmp_path):
    whole, folder = start()
    expected = [whole.step()["row"], whole.step()["row"]]
    first = in_bucket("first", start)
    reported = first.step()["row"]
    prefix = f"{tmp_path.name}/s/t-000"
    assert {f"{prefix}/last.pt", f"{prefix}/metrics.jsonl"} <= set(server.keys(prefix)), (
        "before it is reported"
    )
    first.cleanup()
    second = in_bucket("second", start)
    assert second.step()["row"] == reported
    assert second.step()["finished"]
    kept = [json.loads(line) for line in server.read(f"{prefix}/metrics.jsonl").decode().splitlines()]
    for name in ("epoch", "loss", "accuracy_top1", "val_loss"):
        assert [row[name] for row in kept] == [row[name] for row in expected]
    assert not [path for path in tmp_path.rglob("last.pt") if path.parent != folder]


def test_an_epoch_that_cannot_reach_the_bucket_is_not_the_trials_failure(
    start, in_bucket, server, monkeypatch
):
    trial = in_bucket("first", start)
    trial.step()
    bucket = trial.folder.bucket

    def refuse(*args, **named):
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(bucket.files, "pipe_file", refuse)
    result = trial.step()
    assert result["done"] and "failure" not in result
    assert (
        "/t-000/val_judgements.npz cannot be written (" in result["unsaved"]
        and "access is denied" in result["unsaved"]
    )


def test_an_error_inside_a_trial_of_a_bucket_leaves_its_traceback_there(
    start, in_bucket, server, monkeypatch, tmp_path
):
    trial = in_bucket("first", start)
    monkeypatch.setattr(Trainer, "train_epoch", lambda self: 1 / 0)
    assert "ZeroDivisionError" in trial.step()["failure"]
    assert b"ZeroDivisionError" in server.read(f"{tmp_path.name}/s/t-000/error.txt")

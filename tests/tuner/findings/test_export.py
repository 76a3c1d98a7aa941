"""Which trial is exported. Nothing is converted here: `tests/tinytl/test_export.py` does that."""

import json
import shutil

import optuna
import pytest
import torch
from optuna.trial import TrialState

from tests.tuner.conftest import train_trial
from tinytl.__main__ import main as tinytl
from tinytl.runs.directory import RunDirectory
from tuner import __main__ as command
from tuner.record import schema
from tuner.record.storage import open_storage

METHODS = ("FT-Last", "TinyTL-B")


@pytest.fixture
def quick(monkeypatch):
    """Leaves out what takes seconds: the conversion, and the comparison of its result."""
    monkeypatch.setattr("tinytl.export.folder.onnx_bytes", lambda *arguments: b"onnx")
    monkeypatch.setattr("tinytl.export.folder.largest_difference", lambda *arguments: 1e-7)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, colors):
    """Study s: two complete trials on its front, then one pruned, one failed, one infeasible, one cut off."""
    folder = tmp_path_factory.mktemp("whole")
    storage = open_storage(None, str(folder))
    study = optuna.create_study(study_name="s", storage=storage, directions=["maximize", "minimize"])
    study.set_user_attr(schema.REQUESTED, 5)
    for i, method in enumerate(METHODS):
        name = f"s-{i:03d}"
        train_trial(folder / "s" / name, colors, method=method, epochs=1)
        study.add_trial(
            optuna.create_trial(
                values=[0.5 + i / 10, 10.0 * (i + 1)],
                params={"method": method},
                distributions={"method": optuna.distributions.CategoricalDistribution(METHODS)},
                user_attrs={"name": name, "peak_memory_mib": 10.0 * (i + 1), "epoch_time_s": 1.5},
            )
        )
    for i, (state, attributes) in enumerate(
        (
            (TrialState.PRUNED, {"pruned_at": 1}),
            (TrialState.FAIL, {"failure": "loss is not finite at step 3"}),
            (TrialState.PRUNED, {"infeasible": "out of memory"}),
            (TrialState.RUNNING, {}),
        ),
        2,
    ):
        name = {"name": f"s-{i:03d}", "peak_memory_mib": 9.0}
        study.add_trial(optuna.create_trial(state=state, user_attrs=name | attributes))
    (folder / "s" / "test_accuracy.json").write_text('{"s-001": 0.55}')
    return folder


@pytest.fixture
def runs(whole, tmp_path):
    """A copy of the study, to export from."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path


def export(runs, *flags, expect=0):
    assert command.main(["export", "s", *flags, "--runs-dir", str(runs)]) == expect


def test_the_best_trial_or_another(runs, quick, capsys):
    export(runs)
    shown = capsys.readouterr().out
    out = runs / "s" / "export" / "s-001"
    assert shown.startswith("s-001\nTinyTL-B on mobilenet_v2: epoch 1 of 1, val accuracy ")
    assert "test accuracy 0.550" in shown and str(out) in shown
    about = json.loads((out / "model.json").read_text())
    assert (about["study"], about["trial"], about["test_accuracy_top1"]) == ("s", "s-001", 0.55)
    assert (about["metric"], about["test_macro_f1"]) == ("accuracy_top1", None)
    last = torch.load(RunDirectory(runs / "s" / "s-001").last, weights_only=True)
    assert about["val_accuracy_top1"] == last["rows"][-1]["accuracy_top1"]

    export(runs, "--under-mib", "15", "--json")
    assert json.loads(capsys.readouterr().out)["trial"] == "s-000"
    assert (runs / "s" / "export" / "s-000" / "weights.pt").is_file()
    export(runs, "--trial", "s-000", "--out", str(runs / "mine"))
    assert json.loads((runs / "mine" / "model.json").read_text())["test_accuracy_top1"] is None
    export(runs, expect=2)
    assert "is not empty: choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["s-001"], ["--trial", "s-001", "--micro-batch-size", "2"]], ids=str)
def test_a_trial_trains_on_a_device_and_comes_back(words, runs, make_trial, capsys):
    make_trial("s/s-001", method="TinyTL-B", norm="frozen_bn", epochs=1)
    export(runs, *words, "--training")
    shown = capsys.readouterr().out
    out = runs / "s" / "export" / "s-001-training"
    assert shown.startswith("s-001\nTinyTL-B on mobilenet_v2: ") and f"{out}: copy it to the device" in shown
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["trained"].items() >= {"study": "s", "trial": "s-001", "epoch": 1}.items()
    assert manifest["micro_batch_size"] == (2 if "2" in words else 1)
    assert tinytl(["import", str(out), "--out", str(runs / "back")]) == 0
    trained, back = (
        torch.load(p, weights_only=True)["net"]
        for p in (RunDirectory(runs / "s" / "s-001").last, RunDirectory(runs / "back").best)
    )
    assert [name for name in trained if not torch.equal(trained[name], back[name])] == []


def test_the_last_epoch_is_exported_whatever_the_best_was(runs, quick):
    """A trial's accuracy is that of its last epoch, and its folder has no best.pt."""
    RunDirectory(runs / "s" / "s-000").best.unlink()
    export(runs, "--trial", "s-000")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--trial", "s-01"], "no trial s-01 in study s: did you mean s-001 or "),
        (["--trial", "zzz"], "no trial zzz in study s: it has s-000 to s-005"),
        (["--trial", "s-002"], "trial s-002 is pruned, but its checkpoint "),
        (["--trial", "s-003"], "trial s-003 has no checkpoint: it is failed (loss is not finite at step 3);"),
        (["--trial", "s-004"], "trial s-004 has no checkpoint: it is infeasible (out of memory);"),
        (["--trial", "s-005"], "trial s-005 has no checkpoint yet: it is interrupted;"),
        (["zzz", "--training"], "no trial zzz in study s: it has s-000 to s-005"),
        (["--training", "--micro-batch-size", "0"], "--micro-batch-size 0: must be from 1 to the batch"),
        (["--micro-batch-size", "2"], "--micro-batch-size is for --training"),
        (["--under-mib", "5"], "the least is 10.0 MiB (s-000): raise --under-mib"),
        (["--int8"], "the data set has 10; if they have moved, name their folder with --data-dir"),
        (["--int8", "--data-dir", "gone"], "--data-dir gone is not used by dataset digits"),
        (["--training", "--data-dir", "x"], "--training and --data-dir exclude each other"),
        (["--max-accuracy-drop", "0.1"], "--max-accuracy-drop limits what --int8 costs: add --int8"),
    ],
)
def test_mistakes(flags, message, runs, quick, capsys):
    export(runs, *flags, expect=2)
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""
    assert not (runs / "s" / "export").exists()


def test_a_checkpoint_that_is_gone_or_damaged(runs, quick, capsys):
    last = RunDirectory(runs / "s" / "s-001").last
    last.write_bytes(last.read_bytes()[:1000])
    export(runs, expect=2)
    assert "last.pt is damaged" in capsys.readouterr().err
    last.unlink()
    export(runs, expect=2)
    assert f"trial s-001 is complete, but its checkpoint {last} is gone" in capsys.readouterr().err
    assert not (runs / "s" / "export").exists()


@pytest.mark.parametrize("words", ["s-000 --under-mib 5", "--trial s-000 --under-mib 5", "s-0 --trial s-1"])
def test_one_way_to_choose_a_trial_excludes_the_others(words, capsys):
    with pytest.raises(SystemExit) as caught:
        command.main(["export", "s", *words.split()])
    assert caught.value.code == 2 and capsys.readouterr().err.count("\n") == 1

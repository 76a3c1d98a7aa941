"""A model from a study's best: a study made by hand on pictures that are there; its runs really train."""

import dataclasses
import json
import os
import shutil
import time
from contextlib import contextmanager

import optuna
import pytest
from optuna.trial import TrialState

from tests.support.cases import settled
from tests.support.studies import CLASSES, write_pictures
from tinytl.__main__ import main as tinytl
from tinytl.data.load import load_dataset
from tinytl.errors import ConfigError
from tinytl.files import new_name_beside
from tinytl.runs.directory import RunDirectory, read_config_file
from tinytl.runs.exported import SAFETENSORS_FILE
from tinytl.runs.trained import load_trained
from tuner import __main__ as command
from tuner.config import STUDY_FILE
from tuner.finish import finish as finish_module
from tuner.finish.card import CARD, TEST
from tuner.finish.model_folder import MODEL
from tuner.finish.model_tracking import ModelTracking
from tuner.finish.training import FOLDER, FinishedRun, Training
from tuner.record import schema
from tuner.record.claim import finish_claimed, folder_claimed
from tuner.record.storage import open_storage
from tuner.tracking.model_run import FinishedModel

METHODS = ("FT-Last", "TinyTL-B")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures") / "colors")


@pytest.fixture
def runs(tmp_path, pictures, monkeypatch):
    """Study s without MLflow: two complete trials in 10 and 20 MiB, one that failed. ONNX is left out."""

    def refuse() -> None:
        raise ConfigError("an export needs the package onnx: pip install 'tinytl-tuner[export]'")

    monkeypatch.setattr("tinytl.export.model.check_packages", refuse)
    storage = open_storage(None, str(tmp_path))
    study = optuna.create_study(study_name="s", storage=storage, directions=["maximize", "minimize"])
    study.set_user_attr(schema.REQUESTED, 3)
    for index, method in enumerate(METHODS):
        config = settled(
            method=method,
            norm="group_norm",
            dataset="imagefolder",
            data_dir=str(pictures),
            epochs=1,
            batch_size=12,
            base_lr=1e-2,
        )
        folder = tmp_path / "s" / f"s-{index:03d}"
        folder.mkdir(parents=True)
        RunDirectory(folder).write_config(config)
        study.add_trial(
            optuna.create_trial(
                values=[0.5 + index / 10, 10.0 * (index + 1)],
                params={"method": method},
                distributions={"method": optuna.distributions.CategoricalDistribution(METHODS)},
                user_attrs={"name": folder.name, "peak_memory_mib": 10.0 * (index + 1)},
            )
        )
    study.set_user_attr(schema.IMAGES_DIGEST, load_dataset(config).digest)
    failed = {"name": "s-002", "failure": "loss is not finite at step 3"}
    study.add_trial(optuna.create_trial(state=TrialState.FAIL, user_attrs=failed))
    (tmp_path / "s" / STUDY_FILE).write_text(json.dumps({"tracking_uri": "none"}))
    return tmp_path


def finish(runs, *flags, expect=0):
    assert command.main(["finish", "s", "--runs-dir", str(runs), *flags]) == expect


def about(runs):
    return json.loads((runs / "s" / "model" / "model.json").read_text())


def test_the_best_is_trained_for_as_long_as_it_gains_and_its_folder_predicts(runs, pictures, capsys):
    finish(runs)
    found, model = about(runs), runs / "s" / "model"
    lengths = [int(epochs) for epochs in found["epochs_tried"]]
    scores = list(found["epochs_tried"].values())
    assert lengths[:2] == [1, 2] and found["trial"] == "s-001" and found["epochs"] in lengths
    assert found["val_accuracy_top1"] == max(scores)
    assert found["images"] | {"digest": None} == {
        "name": "colors",
        "digest": None,
        "train": 36,
        "val": 18,
        "test": 18,
    }
    assert sorted(file.name for file in model.iterdir()) == [
        CARD,
        "config.yaml",
        "model.json",
        "test.json",
        "weights.safetensors",
    ]
    shown = capsys.readouterr().out
    assert "no ONNX file: an export needs the package onnx" in shown and str(model) in shown
    tested = f"{found['test_accuracy_top1']:.3f} ± {found['test_accuracy_top1_standard_error']:.3f}"
    assert f"on 18 test images: accuracy {tested}" in shown

    assert tinytl(["evaluate", str(model), "--split", "test", "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)
    kept = json.loads((model / TEST).read_text())
    assert judged["accuracy_top1"] == found["test_accuracy_top1"] == kept["accuracy_top1"]
    assert judged["confusion"] == kept["confusion"]
    other = ["--dataset", "imagefolder", "--data-dir", str(pictures / "test")]
    assert tinytl(["evaluate", str(model), *other]) == 0  # as the card says
    capsys.readouterr()
    assert tinytl(["predict", str(model), str(pictures / "test" / "red" / "0.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["label"] in CLASSES

    card = (model / "README.md").read_text()
    for text in (
        tested,
        "tinytl evaluate FOLDER --data-dir DIR ",
        "36 train, 18 val, 18 test images",
        found["images"]["digest"],
        "Trial `s-001` of study `s`: the best of 2 complete trials",
        "There is no `model.onnx`",
        "random weights",
        f"| {found['epochs']} (kept) |",
        f"{found['training_peak_memory_mib']:.1f}",
    ):
        assert text in card, text

    finish(runs, expect=2)
    assert "has its model, of s-001 after" in capsys.readouterr().err


def test_it_ends_with_the_lengths_that_its_time_allows_and_its_card_says_so(runs, monkeypatch, capsys):
    monkeypatch.setattr(FinishedRun, "seconds_per_epoch", 100.0)
    monkeypatch.setattr(FinishedRun, "figures", property(lambda run: {"accuracy_top1": run.epochs / 10}))
    finish(runs, "--time-budget", "450")
    assert about(runs)["epochs_tried"] == {"1": 0.1, "2": 0.2, "4": 0.4}
    shown = capsys.readouterr().out
    assert "then anew for 2, 4, 8 and 16" in shown
    assert "8 epochs would take about 13 min, more than is left of --time-budget 450" in shown
    assert "kept: 4 epochs" in shown
    card = (runs / "s" / "model" / "README.md").read_text()
    assert "at most to 16 times the study's, and no further, for want of time:" in card


def test_the_last_run_of_val_too_has_its_time_as_well(runs, monkeypatch, capsys):
    monkeypatch.setattr(FinishedRun, "seconds_per_epoch", 100.0)
    monkeypatch.setattr(FinishedRun, "figures", property(lambda run: {"accuracy_top1": run.epochs / 10}))
    finish(runs, "--time-budget", "450", "--val-too")
    assert list(about(runs)["epochs_tried"]) == ["1", "2"]


def test_with_validation_images_a_last_run_trains_on_both_and_says_so(runs, capsys):
    finish(runs, "--epochs", "2", "--val-too", "--trial", "s-000")
    found = about(runs)
    assert (found["trial"], found["epochs"], found["trained_on"]) == ("s-000", 2, ["train", "val"])
    assert found["epochs_tried"] == {} and found["val_accuracy_top1"] is None
    run = runs / "s" / FOLDER / found["run"]
    result = json.loads((run / "result.json").read_text())
    assert result["val_accuracy_top1"] is None and result["test_accuracy_top1"] is None
    assert load_trained(run, "last", "cpu").epoch == 2
    assert "nothing is left to validate on" in capsys.readouterr().out
    assert "no figure of them judges it" in (runs / "s" / "model" / "README.md").read_text()
    assert tinytl(["evaluate", str(runs / "s" / "model")]) == 0
    assert "these images trained the network" in capsys.readouterr().out


def test_a_call_that_was_cut_off_continues(runs, monkeypatch, capsys):
    with monkeypatch.context() as cut:

        def stop(*arguments, **fields):
            raise KeyboardInterrupt

        cut.setattr("tuner.finish.finish.evaluate", stop)
        finish(runs, "--epochs", "1", expect=130)
    assert "the same command continues" in capsys.readouterr().err
    assert not (runs / "s" / "model").exists()
    finish(runs, "--epochs", "1")
    shown = capsys.readouterr().out
    assert "trained before" in shown and "epoch 1/1" not in shown
    assert (runs / "s" / "model" / SAFETENSORS_FILE).is_file()


def test_a_run_on_other_images_is_not_taken_for_this_one(runs, pictures, tmp_path):
    finish(runs, "--epochs", "1")
    before = about(runs)["run"]
    others = tmp_path / "others"
    shutil.copytree(pictures, others)
    (others / "train" / "red" / "0.png").unlink()
    file = RunDirectory(runs / "s" / "s-001").config_file
    config = read_config_file(file)
    names = []
    for folder in (pictures, others):
        data = load_dataset(dataclasses.replace(config, data_dir=str(folder)))
        training = Training(
            folder=runs / "s" / FOLDER, trial="s-001", config=config, data=data, report=lambda line: None
        )
        names.append(training.run(1).folder.name)
    assert names[0] == before and names[1] != before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--under-mib", "5"], "the least is 10.0 MiB (s-000): raise --under-mib"),
        (["--trial", "s-001", "--under-mib", "5"], "no plan of trial s-001 needs 5 MiB or less: the least"),
        (["--trial", "s-01"], "no trial s-01 in study s: did you mean s-001 or "),
        (["--trial", "s-002"], "trial s-002 is failed (loss is not finite at step 3): choose"),
        (["--register", "m"], "--register m: study s was begun without MLflow: add --tracking-uri"),
        (
            ["--register", "m", "--tracking-uri", "none"],
            "m: --tracking-uri none has no registry of models",
        ),
        (["--register", "m", "--tracking-uri", "sqlite:///nowhere.db"], "there is no file nowhere.db"),
        (["--epochs", "0"], "epochs=0"),
        (["--time-budget", "0"], "--time-budget 0: must be a number above 0"),
        (["--time-budget", "nan"], "--time-budget nan: must be a number above 0"),
        (["--time-budget", "60", "--epochs", "2"], "--epochs names it: leave one of them out"),
    ],
)
def test_mistakes_cost_a_line_and_no_training(flags, message, runs, capsys):
    finish(runs, *flags, expect=2)
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""
    assert not (runs / "s" / "finish").exists() and not (runs / "s" / "model").exists()


def test_a_model_that_is_there_is_used_or_replaced_and_never_silently_another(runs, monkeypatch, capsys):
    finish(runs, "--epochs", "1")
    for flags, named in (
        (["--trial", "s-000"], "--trial s-000 would make another: add --replace"),
        (["--epochs", "2", "--val-too"], "--epochs 2, --val-too would make another: add --replace"),
        (["--under-mib", "15"], "--under-mib 15 (s-000, 10.0 MiB) would make another: add --replace"),
        (["--trial", "s-001", "--epochs", "1"], "in RUNS/s/model: use it, or add --replace to make another"),
        (["--trial", "s-002"], "trial s-002 is failed"),
    ):
        finish(runs, *flags, expect=2)
        said = capsys.readouterr().err
        assert named in said.replace(str(runs), "RUNS") and said.count("\n") == 1
    assert about(runs)["trial"] == "s-001"

    before = about(runs)["sha256"]
    with monkeypatch.context() as cut:

        def stop(*arguments, **fields):
            raise KeyboardInterrupt

        cut.setattr("tinytl.export.model.write_folder", stop)
        finish(runs, "--epochs", "1", "--trial", "s-000", "--replace", expect=130)
    assert about(runs)["sha256"] == before
    finish(runs, "--epochs", "1", "--trial", "s-000", "--replace")
    assert about(runs)["trial"] == "s-000" and about(runs)["sha256"] != before
    assert [path.name for path in (runs / "s").glob(".model*")] == []
    card = (runs / "s" / MODEL / CARD).read_text()
    assert "named by a person, one of 2 complete trials. The best, by accuracy" in card
    assert "a person named this trial, and may have seen its figures" in card
    finish(runs, expect=2)
    assert "; the best is s-001: use it, or add --replace" in capsys.readouterr().err


def test_a_model_that_is_there_needs_no_best_of_today(runs, capsys):
    finish(runs, "--epochs", "1", "--under-mib", "15")
    (runs / "s" / STUDY_FILE).write_text(json.dumps({"tracking_uri": "none", "memory_budget_mib": 5}))
    for flags in (["--under-mib", "15"], ["--trial", "s-000"], ["--epochs", "1"], []):
        capsys.readouterr()
        finish(runs, *flags, expect=2)
        assert "in RUNS/s/model: use it, or add --replace" in capsys.readouterr().err.replace(
            str(runs), "RUNS"
        )
    (runs / "s" / STUDY_FILE).write_text(json.dumps({"tracking_uri": "none"}))
    finish(runs, expect=2)
    assert "/s/model; the best is s-001: use it" in capsys.readouterr().err
    finish(runs, "--under-mib", "15", expect=2)
    assert "/s/model: use it" in capsys.readouterr().err, "the same flags would make the same trial again"
    RunDirectory(runs / "s" / "s-001").config_file.unlink()
    finish(runs, expect=2)
    assert "/s/model: use it" in capsys.readouterr().err


def test_what_a_person_put_beside_a_model_is_named_and_stays(runs, capsys):
    finish(runs, "--epochs", "1")
    mine = runs / "s" / MODEL / "mine.txt"
    mine.write_text("mine")
    (runs / "s" / MODEL / "labels").mkdir()
    capsys.readouterr()
    finish(runs, "--epochs", "2", "--replace", expect=2)
    shown = capsys.readouterr()
    assert shown.err == (
        f"tuner finish: {runs}/s/model holds what is not the model's: labels, mine.txt: move it elsewhere, "
        "as --replace removes the folder\n"
    )
    assert shown.out == "" and mine.read_text() == "mine" and about(runs)["epochs"] == 1


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
def test_a_replace_that_is_killed_leaves_the_old_model_or_the_new(written, runs, monkeypatch, capsys):
    finish(runs, "--epochs", "1")
    folder = runs / "s" / MODEL
    days_ago_s = time.time() - 2e5
    os.utime(folder, (days_ago_s, days_ago_s))
    write = finish_module.write_model

    def killed(*args, **fields):
        if written:
            write(*args, **fields)
        raise SystemExit(9)

    with monkeypatch.context() as cut:
        cut.setattr(finish_module, "write_model", killed)
        cut.setattr("tuner.finish.model_folder._put_back", lambda folder: None)  # a kill runs nothing more
        with pytest.raises(SystemExit):
            finish(runs, "--epochs", "2", "--replace")
    assert folder.exists() == written
    capsys.readouterr()
    finish(runs, expect=2)
    epochs = "2 epochs" if written else "1 epoch"
    assert f"study s has its model, of s-001 after {epochs}, in" in capsys.readouterr().err
    assert [path.name for path in (runs / "s").iterdir() if path.name.startswith(".model")] == []


def test_a_model_of_days_ago_comes_back_if_the_new_one_cannot_be_written(runs, monkeypatch, capsys):
    finish(runs, "--epochs", "1")
    folder = runs / "s" / MODEL
    days_ago_s = time.time() - 2e5
    os.utime(folder, (days_ago_s, days_ago_s))

    def full(*args, **fields):
        new_name_beside(folder)  # as any writer calls it
        raise ConfigError("make room")

    monkeypatch.setattr(finish_module, "write_model", full)
    finish(runs, "--epochs", "1", "--replace", expect=2)
    assert about(runs)["epochs"] == 1


def test_a_folder_of_that_name_is_found_before_anything_is_trained(runs, capsys):
    (runs / "s" / MODEL).mkdir()
    (runs / "s" / MODEL / "mine.txt").write_text("mine")
    finish(runs, expect=2)
    said = capsys.readouterr().err
    assert f"{runs}/s/model is not empty: choose another folder, or remove it" in said and "--out" not in said
    assert not (runs / "s" / FOLDER).exists()


WHOLE = {"run": "s-001-1", "trial": "s-001", "epoch": 1, "epochs": 1, "backbone": "b", "command": "finish"}
WHOLE |= {"sha256": {SAFETENSORS_FILE: "0123"}}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "{",
        "[]",
        *(json.dumps({key: value for key, value in WHOLE.items() if key != lost}) for lost in WHOLE),
        json.dumps(WHOLE | {"epoch": "one"}),
        json.dumps(WHOLE | {"sha256": {}}),
        json.dumps(WHOLE | {"trained_on": 1}),
    ],
)
def test_a_damaged_model_is_named(text, runs, capsys):
    folder = runs / "s" / MODEL
    folder.mkdir()
    (folder / CARD).touch()
    (folder / "model.json").write_text(json.dumps(WHOLE))
    finish(runs, expect=2)
    assert "has its model, of s-001 after 1 epoch" in capsys.readouterr().err
    (folder / "model.json").write_text(text)
    finish(runs, expect=2)
    said = f"{folder} is damaged or no finished model: move it away, or add --replace\n"
    assert capsys.readouterr().err == f"tuner finish: {said}"


def test_of_two_calls_one_makes_the_model(runs, capsys):
    with finish_claimed(runs / "s", "s"):
        finish(runs, expect=2)
    said = capsys.readouterr().err
    assert "study s is being finished by process" in said and said.count("\n") == 1
    assert not (runs / "s" / FOLDER).exists()


@pytest.mark.parametrize(("during", "written"), [("evaluate", False), ("send_whole", True)])
def test_once_the_claim_is_lost_nothing_more_is_written(runs, during, written, monkeypatch, capsys):
    lost = []

    def check() -> None:
        if lost:
            raise ConfigError("another process has taken over")

    @contextmanager
    def claimed(folder, name):
        yield check

    real = getattr(finish_module, during)
    monkeypatch.setattr(
        finish_module, during, lambda *args, **fields: (lost.append(1), real(*args, **fields))[1]
    )
    monkeypatch.setattr(finish_module, "finish_claimed", claimed)
    logged: list[FinishedModel] = []
    monkeypatch.setattr(ModelTracking, "add", lambda self, model: logged.append(model))
    finish(runs, "--epochs", "1", expect=2)
    assert capsys.readouterr().err == "tuner finish: another process has taken over\n"
    assert (runs / "s" / MODEL).exists() == written and logged == []
    lost.clear()
    monkeypatch.setattr(finish_module, during, real)
    finish(runs, "--epochs", "1", "--replace")
    assert [one.about["trial"] for one in logged] == ["s-001"]


def test_the_card_names_what_changes_what_is_learned(runs):
    config = read_config_file(RunDirectory(runs / "s" / "s-001").config_file)
    fields = {
        "mixup_alpha": 0.2,
        "weight_average": 0.5,
        "sampling": "balanced",
        "class_weighting": "effective",
    }
    RunDirectory(runs / "s" / "s-001").write_config(dataclasses.replace(config, **fields))
    finish(runs, "--epochs", "1")
    card = (runs / "s" / MODEL / CARD).read_text()
    for text in (
        "class_weighting effective, sampling balanced, mixup_alpha 0.2, cutmix_alpha 0, rand_augment 0",
        "a moving average of their values at every step, with decay 0.5",
        "by which the program chose nothing of this model:",
        "after 1 epoch. Searched:",
    ):
        assert text in card, text


def test_a_study_without_complete_trials_is_one_line(tmp_path, capsys):
    storage = open_storage(None, str(tmp_path))
    study = optuna.create_study(study_name="s", storage=storage, directions=["maximize", "minimize"])
    study.set_user_attr(schema.REQUESTED, 3)
    study.add_trial(
        optuna.create_trial(state=TrialState.FAIL, user_attrs={"name": "s-000", "failure": "loss"})
    )
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / STUDY_FILE).write_text(json.dumps({"tracking_uri": "none"}))
    finish(tmp_path, expect=2)
    expected = "tuner finish: there is no complete trial to choose from: s: 1 failed (of 3 requested)\n"
    assert capsys.readouterr().err == expected


def test_a_study_that_runs_is_left_alone(runs, capsys):
    with folder_claimed(runs / "s", "s"):
        finish(runs, expect=2)
    assert "study s is being run by process" in capsys.readouterr().err


def test_other_images_than_the_studys_are_refused(runs, pictures, tmp_path, capsys):
    shutil.copytree(pictures, tmp_path / "colors")
    (tmp_path / "colors" / "train" / "red" / "0.png").unlink()
    file = RunDirectory(runs / "s" / "s-001").config_file
    file.write_text(file.read_text().replace(str(pictures), str(tmp_path / "colors")))
    finish(runs, expect=2)
    assert "the images of study s have changed since" in capsys.readouterr().err

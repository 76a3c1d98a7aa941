import dataclasses
import datetime

import optuna
import pytest
from optuna.distributions import FloatDistribution
from rich.console import Console

from tuner.config import StudyConfig
from tuner.record import schema
from tuner.record.reading import read_study
from tuner.record.storage import open_storage
from tuner.study.prepare import prepare
from tuner.study.run import StudyOutcome
from tuner.study.summary import print_summary


@pytest.fixture
def prepared(tmp_path):
    config = StudyConfig(
        space="separate_lr",
        backbone="mobilenet_v2",
        weights="none",
        runs_dir=str(tmp_path / "runs"),
        name="s",
    )
    found = prepare(config, datetime.datetime(2020, 1, 1))
    found.folder.mkdir(parents=True)
    return found


def summary_of(prepared, complete, interrupted=False, note=None, console=None) -> str:
    study = optuna.create_study(
        study_name="s",
        storage=open_storage(None, prepared.config.runs_dir),
        directions=["maximize", "minimize"],
    )
    study.set_user_attr(schema.REQUESTED, 4)
    for index in range(complete):
        attrs = {"name": f"s-{index:03d}", "peak_memory_mib": 20.0 + index, "epoch_time_s": 2.0}
        values = [0.8 + index / 100, 20.0 + index]
        params = {f"parameter_{number}": 0.12345 for number in range(12)} | {"index": index}
        distributions = {name: FloatDistribution(0, 1000) for name in params}
        trial = optuna.create_trial(
            values=values, user_attrs=attrs, params=params, distributions=distributions
        )
        study.add_trial(trial)
    console = console or Console(width=120)
    outcome = StudyOutcome(read_study(study, prepared.config.runs_dir), interrupted, note, note is not None)
    with console.capture() as captured:
        print_summary(console, prepared, outcome)
    return captured.get()


def test_a_study_that_ended(prepared):
    text = summary_of(prepared, complete=2)
    assert "s: 2 complete (of 4 requested)" in text and "Pareto front" in text
    assert "Best: s-001, accuracy 0.810 in 21.0 MiB" in text
    assert f"Picture: {prepared.folder}/front.png" in text and (prepared.folder / "front.png").exists()
    assert f"python -m tuner status s --runs-dir {prepared.config.runs_dir}" in text
    assert f"python -m tuner report s --runs-dir {prepared.config.runs_dir} --open" in text
    assert "Interrupted" not in text and "ended:" not in text


def test_a_study_that_was_interrupted(prepared):
    text = summary_of(prepared, complete=0, interrupted=True, note="the time budget is spent")
    assert "s: no trials (of 4 requested)" in text
    assert "The search ended: the time budget is spent." in text
    assert "Resume:  python launch.py --name s --resume --runs-dir " in text
    assert "Picture" not in text


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        (None, "python -m tuner ui s{where} --open    (MLflow)"),
        ("none", "python -m tuner sync s{where} --tracking-uri URI    (records it in MLflow)"),
        ("http://ann:pw@h:5000", "MLflow: http://h:5000"),
        (
            "postgresql://ann:pw@h/d",
            "python -m tuner ui s{where} --tracking-uri postgresql://ann@h/d --open    (MLflow)",
        ),
    ],
)
def test_it_says_where_mlflow_is(prepared, uri, line):
    config = dataclasses.replace(prepared.config, tracking_uri=uri)
    text = summary_of(dataclasses.replace(prepared, config=config), complete=0)
    assert text.splitlines()[-1].strip() == line.format(where=f" --runs-dir {config.runs_dir}")


@pytest.mark.parametrize("complete", [12, 40])
def test_on_a_terminal_it_fits_a_screen(prepared, complete):
    console = Console(width=80, height=24, force_terminal=True, color_system=None)
    text = summary_of(prepared, complete, console=console)
    # What is too long for the line is wrapped; the folder's long name here is not the summary's.
    lines = text.replace(f" --runs-dir {prepared.config.runs_dir}", "").splitlines()
    assert sum(max(1, -(-len(line) // 80)) for line in lines if "Picture" not in line) < 23, text
    assert f"and {complete - 5} more: python -m tuner status s" in text
    assert "s-000" in text and f"s-{complete - 1:03d}" in text

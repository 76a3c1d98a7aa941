import json
import subprocess
import sys

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from rich.console import Console

from tinytl.errors import ConfigError
from tuner import __main__ as command
from tuner.findings.findings import print_findings
from tuner.findings.importance import MIN_TRIALS
from tuner.record import schema
from tuner.record.reading import read_study
from tuner.record.storage import open_storage

SPACE = {
    "method": CategoricalDistribution(["FT-Last", "FT-Full"]),
    "base_lr": FloatDistribution(1e-4, 1e-2, log=True),
}


@pytest.fixture
def folder(tmp_path):
    """The folder of study s under tmp_path, made with a budget of 40 MiB."""
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "study.json").write_text('{"memory_budget_mib": 40}')
    return tmp_path / "s"


@pytest.fixture
def make_study(tmp_path):
    def make(count):
        """Trials of 10, 12, 14 ... MiB, each more accurate than the one before, and one that was stopped."""
        study = optuna.create_study(
            study_name="s", storage=open_storage(None, str(tmp_path)), directions=["maximize", "minimize"]
        )
        study.set_user_attr(schema.REQUESTED, count + 1)
        for i in range(count):
            study.add_trial(
                optuna.create_trial(
                    values=[0.5 + i / 100, 10.0 + 2 * i],
                    params={"method": "FT-Last" if i < count / 2 else "FT-Full", "base_lr": 1e-4 * (1 + i)},
                    distributions=SPACE,
                    user_attrs={"name": f"s-{i:03d}", "peak_memory_mib": 10.0 + 2 * i, "epoch_time_s": 1.0},
                )
            )
        study.add_trial(
            optuna.create_trial(state=TrialState.PRUNED, user_attrs={"name": "s-900", "pruned_at": 1})
        )
        return study

    return make


def lines_of(study, tmp_path) -> list[str]:
    console = Console(width=120)
    with console.capture() as captured:
        print_findings(console, read_study(study, str(tmp_path)))
    return [line.rstrip() for line in captured.get().splitlines()]


def test_few_trials(make_study, folder, tmp_path):
    lines = lines_of(make_study(3), tmp_path)
    assert lines[0] == "s: 3 complete, 1 pruned (of 4 requested)"
    assert [line.split()[0] for line in lines if line.startswith(" s-")] == ["s-000", "s-001", "s-002"]
    # 30 x 0.50 + 28 x 0.01 + 26 x 0.01 of 40 MiB
    assert lines[-3:] == [
        "Hypervolume 0.389 of 1 (reference: accuracy 0 in 40.0 MiB, the budget)",
        "What decides: shown once 4 trials are complete",
        "Best under 40 MiB: s-002, accuracy 0.520 in 14.0 MiB (method FT-Full, base_lr 0.0003)",
    ]


def test_many_trials_have_important_parameters(make_study, folder, tmp_path):
    lines = lines_of(make_study(16), tmp_path)
    assert lines[-3].startswith("Accuracy depends on ") and "base_lr" in lines[-3]
    assert lines[-2] == "Memory depends on method 100 ± 0 %"
    assert lines[-1].startswith("Best under 40 MiB: s-015, "), "40 MiB are within the budget"


def test_the_best_is_by_the_mean_over_seeds(make_study, folder, tmp_path):
    study = make_study(3)
    (folder / "confirm.json").write_text(
        json.dumps(
            {f"s-{i:03d}": {"1": {"accuracy_top1": accuracy}} for i, accuracy in enumerate((0.5, 0.6, 0.3))}
        )
    )
    tested = {"s-001": {"accuracy_top1": 0.4, "accuracy_top1_standard_error": 0.1}, "left-the-front": 0.1}
    (folder / "test_accuracy.json").write_text(json.dumps(tested))
    lines = lines_of(study, tmp_path)
    best = next(line for line in lines if line.startswith("Best"))
    assert best.startswith("Best under 40 MiB: s-001, accuracy 0.555 ± 0.045 (2 seeds) in 12.0 MiB")
    assert any("0.555 ± 0.045       2   0.400" in line for line in lines)
    found = read_study(study, str(tmp_path)).to_json()
    assert found["best"] == "s-001"
    assert found["confirmed"]["s-001"] == {
        "mean": pytest.approx(0.555),
        "standard_deviation": pytest.approx(0.0636, abs=1e-4),
        "seeds": 2,
        "failed": 0,
    }
    assert found["test_accuracy_top1"] == {"s-001": 0.4}
    assert found["test_standard_error"] == {"s-001": 0.1}


def test_a_study_without_folder_or_trials(make_study, tmp_path):
    study = make_study(0)
    assert lines_of(study, tmp_path) == ["s: 1 pruned (of 1 requested)"]
    found = read_study(study, str(tmp_path)).to_json()
    assert (found["best"], found["hypervolume"], found["memory_budget_mib"]) == (None, None, None)


def test_status_prints_the_same_and_json(make_study, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    lines = lines_of(make_study(3), tmp_path)
    argv = ["status", "s", "--runs-dir", str(tmp_path)]
    assert command.main(argv) == 0
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == lines
    assert command.main([*argv, "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert list(status)[:4] == ["study", "requested", "trials", "pareto"]
    assert status["hypervolume"]["reference_mib"] == 40


def test_a_damaged_file_is_one_line(make_study, folder, tmp_path, capsys):
    make_study(1)
    (folder / "confirm.json").write_text("{")
    assert command.main(["status", "s", "--runs-dir", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "confirm.json is damaged" in err
    with pytest.raises(ConfigError):
        read_study(
            optuna.load_study(study_name="s", storage=open_storage(None, str(tmp_path))), str(tmp_path)
        )


def test_status_needs_neither_torch_nor_ray(make_study, folder, tmp_path):
    make_study(MIN_TRIALS)
    code = (
        "import sys; from tuner.__main__ import main\n"
        f"main(['status', 's', '--runs-dir', {str(tmp_path)!r}])\n"
        "sys.exit('torch' in sys.modules or 'ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0

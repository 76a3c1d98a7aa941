import json
import random
import shlex
import subprocess
import sys

import optuna
import pytest

from search_spaces.space import list_spaces, load_space
from tests.support.cases import small
from tinytl.__main__ import build_parser
from tinytl.config.flags import given_fields
from tinytl.config.flat import config_from_flat, flat_from_config
from tinytl.config.plan import lean_plan
from tinytl.config.train_command import train_command
from tinytl.runs.directory import RunDirectory
from tuner import __main__ as command
from tuner.config import StudyConfig
from tuner.record import schema
from tuner.record.storage import open_storage
from tuner.trial_config import _random_value, base_config, trial_config

METHODS = ("FT-Last", "TinyTL-B", "FT-Full")


PARSER = build_parser()


def parsed(words):
    return config_from_flat(given_fields(PARSER.parse_args(words[3:])))


@pytest.fixture
def study(tmp_path):
    """Three complete trials: 0.5, 0.6 and 0.7 in 10, 20 and 30 MiB, within a budget of 25."""
    storage = open_storage(None, str(tmp_path))
    found = optuna.create_study(study_name="s", storage=storage, directions=["maximize", "minimize"])
    found.set_user_attr(schema.REQUESTED, 3)
    for i, method in enumerate(METHODS):
        name = f"s-{i:03d}"
        (tmp_path / "s" / name).mkdir(parents=True)
        config = lean_plan(small(method=method, data_dir="/my set", dataset="imagefolder", base_lr=1e-3 / 3))
        RunDirectory(tmp_path / "s" / name).write_config(config)
        found.add_trial(
            optuna.create_trial(
                values=[0.5 + i / 10, 10.0 * (i + 1)],
                params={"method": method},
                distributions={"method": optuna.distributions.CategoricalDistribution(METHODS)},
                user_attrs={
                    "name": name,
                    "peak_memory_mib": 10.0 * (i + 1),
                    "epoch_time_s": 1.5 if i else None,  # it read features that another trial computed
                },
            )
        )
    (tmp_path / "s" / "study.json").write_text('{"memory_budget_mib": 25}')
    tested = {"s-001": {"accuracy_top1": 0.55, "accuracy_top1_standard_error": 0.02}}
    (tmp_path / "s" / "test_accuracy.json").write_text(json.dumps(tested))
    return found


def best(tmp_path, *flags, expect=0):
    assert command.main(["best", "s", "--runs-dir", str(tmp_path), *flags]) == expect


@pytest.mark.parametrize(
    ("flags", "trial", "budget"),
    [([], "s-001", 25), (["--under-mib", "60"], "s-002", 60), (["--under-mib", "19.5"], "s-000", 19.5)],
)
def test_it_is_the_best_within_the_budget(flags, trial, budget, study, tmp_path, capsys):
    best(tmp_path, "--json", *flags)
    said = json.loads(capsys.readouterr().out)
    assert (said["trial"], said["memory_budget_mib"]) == (trial, budget)
    assert said["test_accuracy_top1"] == (0.55 if trial == "s-001" else None)
    assert said["test_standard_error"] == (0.02 if trial == "s-001" else None)
    assert said["confirmed"] is None
    config = parsed(shlex.split(said["command"]))
    assert flat_from_config(config) == said["config"]
    assert config == lean_plan(
        small(method=METHODS[int(trial[-1])], data_dir="/my set", dataset="imagefolder", base_lr=1e-3 / 3)
    )


def test_it_is_the_one_that_status_names_after_confirmation(study, tmp_path, capsys):
    again = {f"s-{i:03d}": {"1": {"accuracy_top1": value}} for i, value in enumerate((0.9, 0.1, 0.2))}
    (tmp_path / "s" / "confirm.json").write_text(json.dumps(again))
    assert command.main(["status", "s", "--runs-dir", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"] == "s-000"
    best(tmp_path, "--json")
    said = json.loads(capsys.readouterr().out)
    assert said["trial"] == "s-000"
    assert said["confirmed"] == {"mean": pytest.approx(0.7), "seeds": 2}


def test_a_trial_without_a_time_has_none_in_its_line(study, tmp_path, capsys):
    best(tmp_path, "--under-mib", "19.5")
    assert capsys.readouterr().out.splitlines()[1] == "accuracy 0.500"


def test_what_is_printed(study, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    best(tmp_path)
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == "s-001, the best of 2 complete trials under 25 MiB"
    assert lines[1] == "accuracy 0.600, on the test images 0.550 ± 0.020; epoch 1.5 s in the study"
    assert lines[2] == "peak memory 20.0 MiB"
    begin = lines.index("Train it:") + 1
    assert max(map(len, lines[:begin])) <= 80
    end = next(i for i, line in enumerate(lines[begin:], begin) if not line.endswith("\\")) + 1
    words = shlex.split("\n".join(lines[begin:end]).replace("\\\n", ""))
    assert parsed(words).data_dir == "/my set" and words[-2:] == ["--out", "s-001"]
    configuration = " ".join(" ".join(lines[:begin]).split())
    for name in flat_from_config(small()):
        assert f" {name} " in configuration, name
    assert f"python -m tuner export s --trial s-001 --runs-dir {tmp_path}" in lines[-1]


def test_a_long_scheme_is_whole_in_the_command_alone(study, tmp_path, capsys):
    scheme = " ".join(f"{block}.pw1:{'f' * 24}" for block in range(2, 17))
    config = lean_plan(small(method="Sparse", update_scheme=scheme))
    RunDirectory(tmp_path / "s" / "s-001").write_config(config)
    best(tmp_path)
    listed, _, command_ = capsys.readouterr().out.partition("Train it:")
    assert f"update_scheme {scheme[:59]}…" in listed and scheme[:61] not in listed
    assert scheme in command_


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--under-mib", "9"], "needs 9 MiB or less: the least is 10.0 MiB (s-000): raise --under-mib"),
        (["--under-mib", "0"], "--under-mib 0: must be a number above 0"),
        (["--under-mib", "nan"], "--under-mib nan: must be a number above 0"),
    ],
)
def test_mistakes(flags, message, study, tmp_path, capsys):
    best(tmp_path, *flags, expect=2)
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_a_configuration_that_is_gone(study, tmp_path, capsys):
    (tmp_path / "s" / "s-001" / "config.yaml").unlink()
    best(tmp_path, expect=2)
    assert "s-001/config.yaml: no such file" in capsys.readouterr().err


def test_no_complete_trial(tmp_path, capsys):
    storage = open_storage(None, str(tmp_path))
    empty = optuna.create_study(study_name="s", storage=storage, directions=["maximize", "minimize"])
    empty.add_trial(
        optuna.create_trial(
            state=optuna.trial.TrialState.PRUNED, user_attrs={"name": "s-000", "pruned_at": 1}
        )
    )
    best(tmp_path, expect=2)
    assert "no complete trial to choose from: s: 1 pruned" in capsys.readouterr().err


@pytest.mark.parametrize("name", list_spaces())
def test_every_configuration_of_a_space_has_a_command(name):
    space, rng = load_space(name), random.Random(0)
    base = base_config(StudyConfig(space=name), space)
    for _ in range(20):
        sample = space.sample(lambda parameter: _random_value(parameter, rng))
        config = lean_plan(trial_config(base, sample))
        assert parsed(train_command(config, "out")) == config


def test_it_needs_neither_torch_nor_ray(study, tmp_path):
    code = (
        "import sys; from tuner.__main__ import main\n"
        f"code = main(['best', 's', '--runs-dir', {str(tmp_path)!r}])\n"
        "sys.exit(code or 'torch' in sys.modules or 'ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0

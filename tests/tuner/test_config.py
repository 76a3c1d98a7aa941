import dataclasses
import itertools
import json

import pytest

from tinytl.config.flags import field_docs
from tinytl.errors import ConfigError
from tuner.config import STUDY_FILE, StudyConfig, parse_study, read_study_file


def test_every_flag_has_a_default_with_which_the_command_works():
    config, list_only = parse_study([])
    assert config == StudyConfig()
    assert not list_only


def test_every_field_has_a_description():
    docs = field_docs(StudyConfig)
    assert list(docs) == [field.name for field in dataclasses.fields(StudyConfig)]


def test_flags_of_the_contract_are_read():
    argv = "--space separate_lr --dataset imagefolder --data-dir d --backbone mobilenet_v2 --weights w.pt"
    argv += " --input-mean 0.5 --input-std 0.25 --trials 4 --epochs 2 --name n --runs-dir r --workers 1"
    argv += " --memory-budget-mib 60.5 --sampler NSGA2 --scheduler none --time-budget 60 --max-failures 0"
    argv += " --set resolution=96 --set batch_size=8,16 --address auto --tracking-uri t --storage s --seed 7"
    config, list_only = parse_study([*argv.split(), "--dry-run", "--dashboard", "--list-spaces"])
    assert list_only
    assert config == StudyConfig(
        space="separate_lr",
        dataset="imagefolder",
        data_dir="d",
        backbone="mobilenet_v2",
        weights="w.pt",
        input_mean="0.5",
        input_std="0.25",
        trials=4,
        epochs=2,
        name="n",
        runs_dir="r",
        workers=1,
        memory_budget_mib=60.5,
        sampler="nsga2",
        time_budget=60.0,
        max_failures=0,
        settings=("resolution=96", "batch_size=8,16"),
        address="auto",
        tracking_uri="t",
        storage="s",
        seed=7,
        dry_run=True,
        dashboard=True,
    )


def test_a_resumed_study_keeps_its_settings_and_takes_new_ones_on_top(tmp_path):
    (tmp_path / "mine").mkdir()
    saved = dataclasses.asdict(
        StudyConfig(space="separate_lr", trials=4, epochs=7, settings=("resolution=64",))
    )
    (tmp_path / "mine" / STUDY_FILE).write_text(
        json.dumps(saved | {"name": "mine", "command": ["launch.py"]})
    )
    argv = ["--resume", "--name", "mine", "--runs-dir", str(tmp_path), "--trials", "9"]
    config, _ = parse_study(argv)
    assert (config.space, config.epochs, config.settings) == ("separate_lr", 7, ("resolution=64",))
    assert (config.trials, config.resume, config.name) == (9, True, "mine")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trials": 0}, "--trials 0: must be at least 1"),
        ({"seed": -1}, "--seed -1: must be at least 0"),
        ({"time_budget": 0.0}, "--time-budget 0: must be a number above 0"),
        ({"name": "a/b"}, "--name 'a/b'"),
        ({"resume": True}, "--resume needs --name"),
        ({"sampler": "x"}, "unknown sampler 'x'"),
    ],
)
def test_values_outside_their_range_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        StudyConfig(**fields)


def test_a_study_that_ran_as_a_job_goes_on_as_another(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / STUDY_FILE).write_text(json.dumps({"address": "auto", "trials": 7}))
    again = ["--name", "s", "--resume", "--runs-dir", str(tmp_path)]
    assert parse_study(again)[0].address == "auto"
    config, _ = parse_study([*again, "--submit", "http://127.0.0.1:8265"])
    assert (config.address, config.trials) == (None, 7)
    with pytest.raises(ConfigError, match="--submit runs the study on the cluster it is sent to"):
        parse_study(["--submit", "http://127.0.0.1:8265", "--address", "auto"])


WRONG = (None, {}, [], [1], "x", True, -1.5, float("inf"), 10**400)


def test_a_study_file_with_a_value_of_another_kind_is_damaged(tmp_path):
    path = tmp_path / "s" / STUDY_FILE
    path.parent.mkdir()
    whole = dataclasses.asdict(StudyConfig(name="s", settings=("seed=1",), memory_budget_mib=40.0))
    whole["command"] = ["launch.py"]
    path.write_text(json.dumps(whole))
    assert read_study_file("s", str(tmp_path)) == json.loads(path.read_text())
    refused = 0
    for key, value in itertools.product(whole, WRONG):
        path.write_text(json.dumps(whole | {key: value}))
        try:
            read_study_file("s", str(tmp_path))
        except ConfigError as error:
            assert str(error).count("\n") == 0
            refused += f"{path} is damaged ({key} is " in str(error)
    assert refused > 200
    path.write_text(json.dumps(whole | {"of a later version": None}))
    read_study_file("s", str(tmp_path))

import dataclasses

import optuna
import pytest
import yaml

from search_spaces.space import Parameter, load_space, parse_space
from search_spaces.values import Choices
from tinytl.config.train_config import TrainConfig
from tinytl.errors import ConfigError
from tinytl.runs.directory import RunDirectory
from tuner.record.storage import open_storage
from tuner.record.writer import StudyRecords
from tuner.study.starting_points import baselines, front_of, points_of_file
from tuner.trial_config import trial_config

SPACE = load_space("joint").narrowed({"resolution": 32})
BASE = TrainConfig(weights="none", num_classes=3, device="cpu")
POINT = {"batch_size": 8, "method": "TinyTL-B", "norm": "frozen_bn", "base_lr": 1e-3, "weight_decay": 0.0}


def points(tmp_path, content):
    path = tmp_path / "given.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return points_of_file(str(path), SPACE, BASE)


def test_one_configuration_or_a_list_of_searched_values(tmp_path):
    (one,) = points(tmp_path, POINT)
    assert one.params == POINT and "given.yaml: " in one.source
    assert [p.params for p in points(tmp_path, [POINT, POINT | {"batch_size": 16}])] == [
        POINT,
        POINT | {"batch_size": 16},
    ]


def test_text_is_read_as_flags_are(tmp_path):
    (point,) = points(
        tmp_path, "\n".join(f"{key}: {value}" for key, value in POINT.items()) + "\nbase_lr: 2e-4\n"
    )
    assert point.params["base_lr"] == 2e-4
    (spelled,) = points(tmp_path, POINT | {"method": "tinytl-b"})
    assert spelled.params["method"] == "TinyTL-B"


def test_a_trial_s_own_file_is_a_configuration(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write_config(trial_config(BASE, dict(SPACE.fixed) | POINT))
    (point,) = points_of_file(str(directory.config_file), SPACE, BASE)
    assert point.params == POINT


def test_what_the_driver_chose_for_a_trial_is_no_other_setting(tmp_path):
    sparse = load_space("sparse")
    directory = RunDirectory(tmp_path)
    point = sparse.baselines["mcunet_v3"]
    config = trial_config(BASE, dict(sparse.fixed) | point)
    directory.write_config(dataclasses.replace(config, update_scheme="12.pw1 13.pw1 bias:12"))
    (found,) = points_of_file(str(directory.config_file), sparse, BASE)
    assert found.params == point
    own = sparse.narrowed({"update_scheme": "11.pw1"})
    with pytest.raises(ConfigError, match=r"update_scheme is 12.pw1 .*, and 11.pw1 in this study"):
        points_of_file(str(directory.config_file), own, BASE)


def test_a_trial_of_an_older_version_had_the_defaults_of_fields_that_did_not_exist(tmp_path):
    stored = Parameter("moments", Choices(("float32", "int8")), when={})
    space = dataclasses.replace(SPACE, parameters=(*SPACE.parameters, stored), baselines={})
    path = tmp_path / "config.yaml"
    RunDirectory(tmp_path).write_config(trial_config(BASE, dict(SPACE.fixed) | POINT))
    written = yaml.safe_load(path.read_text())
    del written["frozen_weights"], written["moments"]
    path.write_text(yaml.safe_dump(written))
    assert points_of_file(str(path), space, BASE)[0].params == POINT | {"moments": "float32"}


def test_a_rate_of_lite_residuals_matters_only_to_a_method_that_has_them(tmp_path):
    space = load_space("update_method")
    ratio = {"lr_ratio.lite_residual": 1.0}  # as older versions wrote for every method
    path = tmp_path / "given.yaml"
    point = {"method": "TinyTL-B", "norm": "frozen_bn", "base_lr": 1e-3, "weight_decay": 0.0}
    path.write_text(yaml.safe_dump(point | ratio))
    (found,) = points_of_file(str(path), space, BASE)
    assert found.params == point
    path.write_text(yaml.safe_dump(point | ratio | {"method": "TinyTL-L"}))
    with pytest.raises(ConfigError, match=r"add --set lr_ratio.lite_residual=1.0"):
        points_of_file(str(path), space, BASE)
    path.write_text(yaml.safe_dump(point | {"method": "TinyTL-L", "lr_ratio.lite_residual": 16.0}))
    assert points_of_file(str(path), space, BASE)[0].params == point | {"method": "TinyTL-L"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINT | {"batch_size": 7}, "batch_size: 7 is outside 8, 16, 32"),
        ([POINT, POINT | {"base_lr": 1.0}], "configuration 2: base_lr: 1.0 is outside"),
        ({"batch_size": 8}, "method is missing"),
        (POINT | {"resolution": 64}, "resolution is 64, and 32 in this study: add --set resolution=64"),
        (POINT | {"learning_rate": 1.0}, "unknown field 'learning_rate'"),
        (POINT | {"optimizer": "sgd"}, "optimizer is sgd, and adam in this study"),
        ("- just\n- words\n", "expected `field: value` lines"),
        ("[]", "expected `field: value` lines"),
        ("a: b: c", "not YAML"),
    ],
)
def test_a_mistake_in_a_file_is_one_line_that_names_the_place(content, message, tmp_path):
    with pytest.raises(ConfigError, match=r"--from-config .*given\.yaml") as caught:
        points(tmp_path, content)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def add_trial(records, name, params, accuracy, memory_mib, space=SPACE):
    distributions = {p.name: p.distribution for p in space.parameters if p.name in params}
    number = records.enqueue((params, distributions), {"name": name, "peak_memory_mib": memory_mib})
    records.start(number)
    records.complete(number, accuracy, memory_mib, {"epoch_time_s": 1.0})


@pytest.fixture
def other(tmp_path):
    """A study of a front of two and a trial that both beat, in the default storage."""
    storage = open_storage(None, str(tmp_path))
    optuna.create_study(study_name="other", storage=storage, directions=["maximize", "minimize"])
    records = StudyRecords(storage, "other")
    add_trial(records, "joint-000", POINT, 0.5, 20.0)
    add_trial(records, "joint-001", POINT | {"batch_size": 32}, 0.6, 30.0)
    add_trial(records, "joint-002", POINT | {"base_lr": 5e-3}, 0.4, 40.0)
    return records


def test_the_front_of_another_study_comes_first(other, tmp_path):
    found, left_out = front_of("other", str(tmp_path), None, SPACE, seed=0)
    assert [p.params for p in found] == [POINT, POINT | {"batch_size": 32}]
    assert found[0].source == "joint-000 of study other" and not left_out


def test_what_another_space_does_not_search_is_listed_and_what_it_adds_is_drawn(other, tmp_path):
    parameters = {
        "method": {"choices": ["TinyTL-B", "FT-Last"]},
        "base_lr": {"low": 1e-4, "high": 1e-2, "log": True},
        "batch_size": {"choices": [8, 16]},
        "label_smoothing": {"low": 0.0, "high": 0.2},
    }
    mine = parse_space({"parameters": parameters}, "mine", "mine.yaml")
    found, left_out = front_of("other", str(tmp_path), None, mine, seed=0)
    assert [mine.problem(p.params) for p in found] == [None, None]
    assert found[0].params.items() >= {"method": "TinyTL-B", "base_lr": 1e-3, "batch_size": 8}.items()
    assert "joint-000: norm is not searched here" in left_out
    assert "joint-001: batch_size 32 is outside 8, 16" in left_out
    assert front_of("other", str(tmp_path), None, mine, seed=0)[0] == found


def test_a_study_without_a_complete_trial_has_no_front(tmp_path):
    optuna.create_study(study_name="empty", storage=open_storage(None, str(tmp_path)))
    with pytest.raises(ConfigError, match="--warm-start empty: that study has no complete trial yet"):
        front_of("empty", str(tmp_path), None, SPACE, seed=0)
    with pytest.raises(ConfigError, match="no study gone"):
        front_of("gone", str(tmp_path), None, SPACE, seed=0)


def test_baselines_keep_their_names():
    assert [p.source for p in baselines(SPACE)] == ["baseline user_report", "baseline tinytl_paper"]

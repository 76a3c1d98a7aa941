"""A study that was killed while it was being made, or that lost its folder or its record."""

import datetime
import json
import shutil
from pathlib import Path

import optuna
import pytest

from tests.tinytl.conftest import write_imagefolder
from tinytl.errors import ConfigError
from tuner.config import STUDY_FILE, parse_study
from tuner.record import schema
from tuner.record.journal import JOURNAL
from tuner.record.storage import load_study
from tuner.study.opening import opened
from tuner.study.prepare import prepare

NOW = datetime.datetime(2026, 1, 1)


@pytest.fixture
def argv(tmp_path: Path) -> list[str]:
    pictures = write_imagefolder(tmp_path / "pictures", {"red": 5, "blue": 5})
    flags = ["--dataset", "imagefolder", "--data-dir", str(pictures), "--weights", "none", "--trials", "7"]
    flags += ["--name", "mine", "--runs-dir", str(tmp_path / "runs")]
    flags += ["--set", "checkpoint=none", "--set", "stock_below_kib=0"]  # fewer plans to predict
    return [*flags, "--set", "method=FT-Last"]


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def resumed(runs_dir: Path, *flags: str) -> optuna.Study:
    config, _ = parse_study(["--name", "mine", "--resume", "--runs-dir", str(runs_dir), *flags])
    with opened(prepare(config, NOW)) as (study, _):
        return study


def test_a_kill_after_any_record_of_the_start_leaves_what_resume_needs(
    argv: list[str], runs_dir: Path
) -> None:
    with opened(prepare(parse_study(argv)[0], NOW)) as (study, _):
        whole = {key: value for key, value in study.user_attrs.items() if key not in ("sessions", "study_id")}
        waiting = [trial.params for trial in study.trials]
    made, lines = Path(f"{runs_dir}.whole"), (runs_dir / JOURNAL).read_bytes().splitlines(keepends=True)
    shutil.copytree(runs_dir, made)
    assert len(lines) > 15
    for kept in range(0, len(lines), 5):
        shutil.rmtree(runs_dir)
        shutil.copytree(made, runs_dir)
        (runs_dir / JOURNAL).write_bytes(b"".join(lines[:kept]))
        study = resumed(runs_dir)
        found = load_study("mine", str(runs_dir))
        assert {key: found.user_attrs[key] for key in whole} == whole, kept
        assert [trial.params for trial in found.trials] == waiting, kept
        assert study.user_attrs[schema.REQUESTED] == 7


def test_study_json_is_written_before_the_record(
    argv: list[str], runs_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(**_: object) -> None:
        assert json.loads((runs_dir / "mine" / STUDY_FILE).read_text())["trials"] == 7
        raise KeyboardInterrupt

    prepared = prepare(parse_study(argv)[0], NOW)
    monkeypatch.setattr(optuna, "create_study", killed)
    with pytest.raises(KeyboardInterrupt), opened(prepared):
        pass
    assert not (runs_dir / "mine" / STUDY_FILE).exists(), "what ends in order leaves nothing"


def test_a_folder_whose_record_is_gone_is_told(argv: list[str], runs_dir: Path) -> None:
    with opened(prepare(parse_study(argv)[0], NOW)):
        pass
    (runs_dir / JOURNAL).unlink()
    for index in range(2):
        (runs_dir / "mine" / f"joint-00{index}").mkdir()
        (runs_dir / "mine" / f"joint-00{index}" / "config.yaml").write_text("")
    with pytest.raises(
        ConfigError, match=r"has no study mine, though .* has 2 of its trials: bring the record back"
    ):
        resumed(runs_dir)


def test_a_record_whose_folder_is_gone_asks_for_the_flags_that_began_it(
    argv: list[str], runs_dir: Path
) -> None:
    with opened(prepare(parse_study(argv)[0], NOW)):
        pass
    shutil.rmtree(runs_dir / "mine")
    with pytest.raises(
        ConfigError, match=rf"has no {STUDY_FILE} with the flags of the study, which has .*: give the flags"
    ):
        resumed(runs_dir)
    study = resumed(runs_dir, *argv)
    assert study.user_attrs[schema.REQUESTED] == 7 and (runs_dir / "mine" / STUDY_FILE).exists()


def test_a_record_without_a_word_and_without_a_folder_is_to_be_removed(
    runs_dir: Path, argv: list[str]
) -> None:
    with opened(prepare(parse_study(argv)[0], NOW)):
        pass
    lines = (runs_dir / JOURNAL).read_bytes().splitlines(keepends=True)
    (runs_dir / JOURNAL).write_bytes(b"".join(lines[:2]))
    shutil.rmtree(runs_dir / "mine")
    with pytest.raises(
        ConfigError, match=r"was killed while it was being made, and its folder is gone: .*tuner delete mine"
    ):
        resumed(runs_dir)


OLD_FIELDS = ("data_seed", "update_layers", "bias_blocks", "select", "moments", "lr_ratio.weight")
"""Some of the fields that a study of an older version does not have."""


def begun_by_an_older_version(argv: list[str]) -> None:
    """Makes the study, with a trial, and the record that an older version would have written."""
    with opened(prepare(parse_study(argv)[0], NOW)) as (study, _):
        settings = {k: v for k, v in study.user_attrs[schema.SETTINGS].items() if k not in OLD_FIELDS}
        study.set_user_attr(schema.SETTINGS, settings | {"lr_ratio.lite_residual": 1.0})
        study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))


def test_a_study_from_before_a_field_existed_resumes_while_the_field_has_its_default(
    argv: list[str], runs_dir: Path
) -> None:
    begun_by_an_older_version(argv)
    settings = resumed(runs_dir).user_attrs[schema.SETTINGS]
    assert {name: settings[name] for name in OLD_FIELDS} == {
        "data_seed": None,
        "update_layers": "pw1",
        "bias_blocks": "same",
        "select": "last",
        "moments": "float32",
        "lr_ratio.weight": 1.0,
    }


def test_a_field_that_is_given_anew_is_named_with_the_version_that_began_the_study(
    argv: list[str], runs_dir: Path
) -> None:
    begun_by_an_older_version(argv)
    with pytest.raises(
        ConfigError,
        match=r"study mine, which an older version began, has not the fixed data_seed \(3\): leave that "
        r"out, or start another study \(--warm-start mine",
    ):
        resumed(runs_dir, "--set", "data_seed=3", "--set", "method=FT-Last")


@pytest.mark.parametrize(
    ("settings", "resumes"),
    [
        (["method=TinyTL-B,TinyTL-L"], False),
        (["method=TinyTL-B,FT-Full"], True),
        (["method=TinyTL-L", "optimizer=sgd", "moments=float32"], True),
    ],
)
def test_another_rate_of_lite_residuals_matters_only_if_a_trial_can_have_them(
    settings: list[str], resumes: bool, argv: list[str], runs_dir: Path
) -> None:
    flags = [*argv[:-2], "--space", "update_method"]
    begun_by_an_older_version([*flags, *(word for text in settings for word in ("--set", text))])
    if resumes:
        assert resumed(runs_dir).user_attrs[schema.SETTINGS]["lr_ratio.lite_residual"] is None
        return
    with pytest.raises(
        ConfigError,
        match=r"an older version began study mine, with lr_ratio.lite_residual 1.0, which today is 16: start "
        r"another study \(--warm-start mine",
    ):
        resumed(runs_dir)

import json

import optuna
import pytest
from optuna.trial import TrialState

from tests.support import mlflow_studies as made
from tinytl.errors import ConfigError
from tuner.__main__ import main
from tuner.bucket.copies import READ, copy_at, send
from tuner.record.claim import folder_claimed, holder_of
from tuner.record.journal import JOURNAL, journal_of, record_of
from tuner.record.journal_repair import repair, repair_all
from tuner.record.reading import open_study
from tuner.record.storage import load_study, open_storage, open_storage_of
from tuner.study.listing import list_studies


@pytest.fixture
def runs_dir(tmp_path):
    """Study `mine` with every kind of trial, and a small one beside it, before and after."""
    storage = open_storage(None, str(tmp_path))
    optuna.create_study(study_name="first", storage=storage).add_trial(optuna.create_trial(value=1.0))
    made.every_kind(made.prepared_study(tmp_path))
    other = optuna.create_study(study_name="last", storage=storage)
    for value in (0.25, 0.5):
        other.add_trial(optuna.create_trial(value=value, user_attrs={"name": f"last-{value}"}))
    return tmp_path


def seen(runs_dir):
    return {
        name: [(t.state, t.values, t.params, t.user_attrs) for t in load_study(name, str(runs_dir)).trials]
        for name in ("first", made.NAME, "last")
    }


def damage(runs_dir, number, change=lambda line: line.replace(b'"worker_id"', b'"w\xffrker_id"')):
    journal = runs_dir / JOURNAL
    lines = journal.read_bytes().split(b"\n")
    lines[number] = change(lines[number])
    journal.write_bytes(b"\n".join(lines))


def records(runs_dir):
    return [record_of(line) for line in (runs_dir / JOURNAL).read_bytes().split(b"\n")[:-1]]


def test_whatever_line_is_damaged_the_other_studies_are_as_they_were(runs_dir, tmp_path):
    """Each line in turn; of the study to which the line belongs, no more is lost than the line's trial."""
    whole, everything = (runs_dir / JOURNAL).read_bytes(), seen(runs_dir)
    owners, of_trials, of_studies = [], [], []
    for entry in records(runs_dir):
        if entry["op_code"] == 0:
            of_studies.append(entry["study_name"])
        study = entry.get("study_id", len(of_studies) - 1)
        if entry["op_code"] == 4:
            of_trials.append(study)
        owners.append(of_studies[of_trials[entry["trial_id"]] if "trial_id" in entry else study])
    for number, owner in enumerate(owners):
        (runs_dir / JOURNAL).write_bytes(whole)
        damage(runs_dir, number)
        with pytest.raises(
            ConfigError, match=rf"line {number + 1} is no record of a study: `python -m tuner"
        ):
            load_study("last", str(runs_dir))
        told = repair(runs_dir)
        assert len(told) == 2 and told[0].startswith(f"line {number + 1}: it ")
        found = seen(runs_dir)
        for name in everything.keys() - {owner}:
            assert found[name] == everything[name], (number, name)
        assert len(found[owner]) == len(everything[owner])
        pairs = zip(found[owner], everything[owner], strict=True)
        assert sum(one != other for one, other in pairs) <= 1, (number, owner)
        open_study(made.NAME, str(runs_dir))
        (copy,) = runs_dir.glob(f"{JOURNAL}.damaged*")
        copy.unlink()


def test_a_record_that_cannot_be_read_at_all_is_known_by_what_follows(runs_dir):
    everything = seen(runs_dir)
    number = next(
        i
        for i, entry in enumerate(records(runs_dir))
        if entry["op_code"] == 4 and "trial_id" in records(runs_dir)[i + 1]
    )
    damage(runs_dir, number, lambda line: b"\x00" * len(line))
    assert "it began a trial" in repair(runs_dir)[0]
    found = seen(runs_dir)
    assert found["first"] == everything["first"] and found["last"] == everything["last"]
    assert [t[0] for t in found[made.NAME]].count(TrialState.FAIL) >= 1


def test_half_a_record_before_a_whole_one_is_no_damage(runs_dir):
    everything = seen(runs_dir)
    damage(runs_dir, 5, lambda line: b'{"op_code":8,"worker_id":"half a' + line)
    assert seen(runs_dir) == everything
    assert "are whole" in repair(runs_dir)[0]


def test_what_was_there_is_kept_under_a_name_of_its_own(runs_dir):
    for expected in (".damaged", ".damaged1"):
        damage(runs_dir, 3, lambda line: b"garbage")
        before = (runs_dir / JOURNAL).read_bytes()
        *_, last = repair(runs_dir)
        copy = runs_dir / f"{JOURNAL}{expected}"
        assert last.endswith(f"as it was: {copy}") and copy.read_bytes() == before


def test_every_command_names_the_damage_in_one_line(runs_dir, capsys):
    damage(runs_dir, 3)
    for command in ("status", "best", "report", "sync", "export"):
        more = ["--out", str(runs_dir / "o")] if command == "export" else []
        assert main([command, made.NAME, "--runs-dir", str(runs_dir), *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and "line 4 is no record of a study" in error
    assert json.dumps(str(runs_dir))[1:-1] in error


@pytest.fixture
def in_bucket(tmp_path, monkeypatch):
    """A copy of a bucket with two studies."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    copy = copy_at(f"memory://{tmp_path.name}/runs", READ)
    for name in ("one", "other"):
        study = optuna.create_study(study_name=name, storage=open_storage_of(name, None, str(copy.root)))
        study.add_trial(optuna.create_trial(value=1.0))
        send(copy.root / name)
    return copy


def test_in_a_bucket_each_study_has_its_own_journal_and_is_repaired_there(in_bucket):
    whole = in_bucket.bucket.read("other/optuna.journal")
    damage(in_bucket.root / "one", 0)
    damaged = journal_of(in_bucket.root, "one").read_bytes()
    send(in_bucket.root / "one")
    told = list(repair_all(str(in_bucket.root)))
    assert told[0].startswith("line 1: it began study damaged-1") or "it began study one" in told[0]
    assert f"{in_bucket.bucket.address}/other/optuna.journal: all " in told[-1]
    assert in_bucket.bucket.read("one/optuna.journal.damaged") == damaged
    assert in_bucket.bucket.read("one/optuna.journal") == journal_of(in_bucket.root, "one").read_bytes()
    assert in_bucket.bucket.read("other/optuna.journal") == whole
    assert [trial.value for trial in load_study("other", str(in_bucket.root)).trials] == [1.0]


def test_a_study_that_its_driver_has_in_a_bucket_is_not_repaired(in_bucket):
    with folder_claimed(in_bucket.root / "one", "one"):
        assert holder_of(in_bucket.root / "one", {})["pid"] > 0
        with pytest.raises(ConfigError, match="study one is being run by process"):
            list(repair_all(str(in_bucket.root)))
    assert holder_of(in_bucket.root / "one", {}) is None


def test_studies_of_a_bucket_are_listed_from_their_journals(in_bucket):
    studies, unread = list_studies(str(in_bucket.root))
    assert [study.study for study in studies] == ["one", "other"] and unread == []
    with pytest.raises(
        ConfigError, match=f"no study none under {in_bucket.bucket.address}: there are one, other"
    ):
        load_study("none", str(in_bucket.root))

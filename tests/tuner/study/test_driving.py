import dataclasses
import uuid

import optuna
import pytest

from tests.support import mlflow_studies as made
from tinytl.errors import ConfigError
from tuner.bucket.claims import ClaimLostError, is_claim
from tuner.bucket.copies import READ, copy_at, copy_of
from tuner.bucket.store import Bucket, open_bucket
from tuner.cluster.nodes import Node
from tuner.prepared import PreparedStudy
from tuner.record.refusals import UnwrittenError
from tuner.record.storage import open_storage_of
from tuner.record.writer import StudyRecords
from tuner.study.driving import KeptHere, KeptInBucket, driven


@pytest.fixture
def address(tmp_path, monkeypatch):
    """A bucket in this process's memory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"memory://{uuid.uuid4().hex}/runs"


@pytest.fixture
def prepared(address, tmp_path) -> PreparedStudy:
    """A study that was prepared with the copy of the bucket that commands read."""
    study = made.prepared_study(tmp_path)
    root = copy_at(address, READ).root
    return dataclasses.replace(study, config=dataclasses.replace(study.config, runs_dir=str(root)))


def objects(address: str) -> dict[str, bytes]:
    bucket = open_bucket(address)
    return bucket.read_all(key for key in bucket.versions("") if not is_claim(key))


def test_a_study_in_a_folder_is_driven_there(tmp_path):
    study = made.prepared_study(tmp_path)
    with driven(study) as (same, kept):
        assert same is study and type(kept) is KeptHere
        kept.secure()
        kept.collect()
        assert kept.send_tracking() is None
        kept.check_nodes([])
        with pytest.raises(ConfigError, match="is being run by process"), driven(study):
            pass


def test_what_the_driver_writes_is_in_the_bucket_once_it_is_secure(prepared, address):
    with driven(prepared) as (study, kept):
        assert isinstance(kept, KeptInBucket)
        assert study.folder != prepared.folder and copy_of(study.folder).bucket.address == address
        trial = study.folder / "t-0"
        trial.mkdir(parents=True)
        for name in ("config.yaml", "curve.json", "last.pt", "metrics.jsonl"):
            (trial / name).write_text(name)
        (study.folder / "study.json").write_text("{}")
        (study.folder / "optuna.journal").write_text('{"op_code":0}\nhalf a li')
        (study.folder / "ray").mkdir()
        (study.folder / "ray" / "state.json").write_text("{}")
        kept.secure()
        name = study.name
        assert objects(address) == {
            f"{name}/study.json": b"{}",
            f"{name}/t-0/config.yaml": b"config.yaml",
            f"{name}/t-0/curve.json": b"curve.json",
            f"{name}/optuna.journal": b'{"op_code":0}\n',
        }
        (study.folder / "front.png").write_text("at the end")
    assert objects(address)[f"{study.name}/front.png"] == b"at the end"


def test_the_journal_is_written_last(prepared, address, monkeypatch):
    sent = []
    with driven(prepared) as (study, kept):
        (study.folder / "t-0").mkdir(parents=True)
        files = kept.copy.bucket.files
        write = files.pipe_file
        monkeypatch.setattr(files, "pipe_file", lambda path, *more: (sent.append(path), write(path, *more)))
        for path in ("optuna.journal", "t-0/config.yaml", "study.json"):
            (study.folder / path).write_text("\n")
        kept.secure()
    own = [path.rpartition("/")[2] for path in sent if ".claim" not in path]
    assert own == ["study.json", "config.yaml", "optuna.journal"]


def test_the_journal_in_the_bucket_names_no_trial_whose_configuration_is_not_there(
    prepared, address, monkeypatch
):
    write = Bucket.write

    def begin_a_trial(self, key, content):
        if key.endswith("report.html"):  # while that is sent, the search begins the next trial
            (study.folder / "t-7").mkdir()
            (study.folder / "t-7" / "config.yaml").write_text("its own")
            (study.folder / "optuna.journal").write_text("begun\nt-7\n")
        write(self, key, content)

    monkeypatch.setattr("tuner.study.driving.SEND_S", 3600.0)
    with driven(prepared) as (study, kept):
        study.folder.mkdir()
        (study.folder / "report.html").touch()
        (study.folder / "optuna.journal").write_text("begun\n")
        monkeypatch.setattr(Bucket, "write", begin_a_trial)
        kept.secure()
        assert objects(address)[f"{study.name}/optuna.journal"] == b"begun\n"
        assert f"{study.name}/t-7/config.yaml" not in objects(address)
        kept.secure()
    assert objects(address)[f"{study.name}/optuna.journal"] == b"begun\nt-7\n"
    assert objects(address)[f"{study.name}/t-7/config.yaml"] == b"its own"


def test_a_driver_that_lost_its_study_says_so_and_its_successors_record_stays_as_it_is(prepared, address):
    with pytest.raises(ConfigError, match="another process has taken over") as caught:
        with driven(prepared) as (study, kept):
            records = recorded(study)
            (study.folder / "study.json").write_text("{}")
            kept.secure()
            open_bucket(address).write(kept.claim.key, b'{"released": true}')  # as if it had slept
            resumed = dataclasses.replace(prepared, config=dataclasses.replace(prepared.config, resume=True))
            with driven(resumed) as (next_study, _):
                journal = next_study.folder / "optuna.journal"
                before = journal.read_bytes()
                with pytest.raises(UnwrittenError):
                    records.enqueue(({}, {}), {})
                assert journal.read_bytes() == before and not (study.folder / "optuna.journal").exists()
            raise ConfigError("its record cannot be written")
    assert "\n" not in str(caught.value)
    assert objects(address)[f"{study.name}/optuna.journal"] == before


def recorded(study: PreparedStudy) -> StudyRecords:
    store = open_storage_of(study.name, None, study.config.runs_dir)
    optuna.create_study(study_name=study.name, storage=store)
    return StudyRecords(store, study.name)


def test_the_next_driver_begins_with_what_the_bucket_has(prepared, address):
    with driven(prepared) as (study, _):
        study.folder.mkdir()
        (study.folder / "study.json").write_text("{}")
    lost = study.folder / "t-9" / "config.yaml"  # as if a kill had come before it was sent
    lost.parent.mkdir()
    lost.touch()
    with pytest.raises(ConfigError, match=f"study {study.name} exists under {address}"), driven(prepared):
        pass
    resumed = dataclasses.replace(prepared, config=dataclasses.replace(prepared.config, resume=True))
    with driven(resumed) as (again, _):
        assert (again.folder / "study.json").read_text() == "{}" and not lost.exists()


def test_what_trials_wrote_elsewhere_is_collected_and_the_drivers_files_are_left(prepared, address):
    with driven(prepared) as (study, kept):
        (study.folder / "t-0").mkdir(parents=True)
        (study.folder / "t-0" / "config.yaml").write_text("mine")
        open_bucket(address).write(f"{study.name}/t-0/metrics.jsonl", b"theirs")
        open_bucket(address).write(f"{study.name}/t-0/config.yaml", b"older")
        kept.collect()
        assert (study.folder / "t-0" / "metrics.jsonl").read_text() == "theirs"
        assert (study.folder / "t-0" / "config.yaml").read_text() == "mine"


def test_a_second_driver_is_refused_and_one_that_was_taken_for_gone_writes_nothing_more(prepared, address):
    with pytest.raises(ConfigError, match="another process has taken over"):
        with driven(prepared) as (study, kept):
            with pytest.raises(ConfigError, match="is being run by process"), driven(prepared):
                pass
            study.folder.mkdir()
            open_bucket(address).write(f"{study.name}/driver.claim/000002", b"{}")
            with pytest.raises(ClaimLostError):
                kept.claim.renew()
            (study.folder / "study.json").write_text("{}")
            with pytest.raises(ClaimLostError):
                kept.secure()
    assert objects(address) == {}


def test_a_study_of_which_nothing_was_written_leaves_nothing(prepared, address):
    with driven(prepared):
        pass
    assert open_bucket(address).versions("") == {}


def test_a_database_that_another_study_has_sent_stays_and_the_way_out_is_told(prepared, address):
    with driven(prepared) as (study, kept):
        (kept.copy.root / "mlflow.db").write_bytes(b"")
        assert kept.send_tracking() is None
        open_bucket(address).write("mlflow.db", b"of another")
        (kept.copy.root / "mlflow.db").write_bytes(b"")
        line = kept.send_tracking()
        assert f"`python -m tuner sync {study.name} --runs-dir {address}` adds this study" in line
    assert objects(address)["mlflow.db"] == b"of another"


def test_nodes_are_asked_whether_they_see_the_same_bucket(prepared, monkeypatch):
    asked = []
    monkeypatch.setattr("tuner.study.driving.check_bucket", lambda *args: asked.append(args))
    with driven(prepared) as (_, kept):
        node = Node(cpus=1.0)
        kept.check_nodes([node])
        assert asked == [([node], kept.copy.bucket, kept.claim)]

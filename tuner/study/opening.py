"""A study in its storage and its folder: made so that a kill at any moment leaves what `--resume` needs."""

import dataclasses
import json
import shutil
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage
from optuna.study import StudyDirection

from search_spaces.space import space_path
from tinytl.config.weights_source import with_whole_path
from tinytl.files import write_whole
from tinytl.passwords import without_password
from tuner import addresses
from tuner.bucket.copies import named
from tuner.config import STUDY_FILE
from tuner.next_commands import this_command
from tuner.prepared import PreparedStudy
from tuner.record import class_counts, schema, storage
from tuner.record.claim import storage_claimed
from tuner.record.identity import identity_of
from tuner.record.journal import journal_of
from tuner.record.refusals import told_in_one_line
from tuner.record.sessions import begin_session, with_session
from tuner.record.writer import StudyRecords, fits_by_now
from tuner.study import machine_times
from tuner.study.starting_points import baselines


@contextmanager
def opened(
    prepared: PreparedStudy, secure: Callable[[], None] = lambda: None
) -> Iterator[tuple[optuna.Study, StudyRecords]]:
    """Opens the study in its storage, new or as it stands, and keeps other drivers out.

    `secure` is called once what was recorded must not be lost.
    """
    config = prepared.config
    directions = [StudyDirection.MAXIMIZE]
    if prepared.searches_memory:
        directions.append(StudyDirection.MINIMIZE)
    place = storage.shown_storage(config.storage, str(journal_of(config.runs_dir, prepared.name).parent))
    with ExitStack() as stack:
        with told_in_one_line(place), _study_file_first(prepared):
            store = storage.open_storage_of(prepared.name, config.storage, config.runs_dir)
            study = optuna.create_study(
                study_name=prepared.name, storage=store, directions=directions, load_if_exists=True
            )
            records = StudyRecords(store, prepared.name, secure)
            if isinstance(store, RDBStorage):
                stack.enter_context(storage_claimed(store, records.study_id, prepared.name, records.give_up))
        with told_in_one_line(place, ", then add --resume"):
            records.reach(_name_metrics, study, prepared.base.metric)
            _write_study(prepared, records)
            _write_study_file(prepared)
            records.reach(secure)
        yield study, records


def _name_metrics(study: optuna.Study, metric: str) -> None:
    """Names the objectives for Optuna's dashboard, also of a study that began without names."""
    names = [metric, schema.PEAK_MEMORY_MIB][: len(study.directions)]
    if study.metric_names != names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(names)


@contextmanager
def _study_file_first(prepared: PreparedStudy) -> Iterator[None]:
    """Writes a new study's `study.json` before its record: a study that is killed here can be resumed.

    If the record cannot be made or had, the file goes again.
    """
    file = prepared.folder / STUDY_FILE
    if file.exists():
        yield
        return
    try:
        _write_study_file(prepared)
        yield
    except BaseException:
        for path in (
            file,
            prepared.folder / class_counts.FILE,
            prepared.folder / machine_times.FILE,
            prepared.folder / machine_times.GPU_FILE,
            prepared.folder / f"{prepared.space.name}.yaml",
        ):
            path.unlink(missing_ok=True)
        raise


def _write_study(prepared: PreparedStudy, records: StudyRecords) -> None:
    """Writes what is asked for, and enqueues what is tried first; what is already there is left alone."""
    records.set_study_attribute(schema.REQUESTED, prepared.config.trials)
    for key, value in identity_of(prepared).items():
        records.set_study_attribute(key, value)
    known = records.study_attributes()
    if schema.SESSIONS not in known and schema.STUDY_ID not in known and not records.trials():
        records.set_study_attribute(schema.STUDY_ID, uuid.uuid4().hex)
    known_sessions = known.get(schema.SESSIONS, [])
    records.set_study_attribute(schema.SESSIONS, with_session(known_sessions, begin_session(prepared)))
    sources = {
        trial.user_attrs.get(schema.SOURCE)
        for trial in records.trials()
        if not fits_by_now(trial, prepared.config.memory_budget_mib)
    }
    distributions = {parameter.name: parameter.distribution for parameter in prepared.space.parameters}
    for point in [*prepared.starting_points, *baselines(prepared.space)]:
        if point.source not in sources:
            params = (point.params, {name: distributions[name] for name in point.params})
            records.enqueue(params, {schema.SOURCE: point.source})


def _write_study_file(prepared: PreparedStudy) -> None:
    """Writes what made the study: command, settings, classes, and the space as it is now."""
    prepared.folder.mkdir(parents=True, exist_ok=True)
    config, copy = prepared.config, prepared.folder / f"{prepared.space.name}.yaml"
    content = dataclasses.asdict(config) | {"name": prepared.name}
    content |= {"space": named(copy), "runs_dir": named(config.runs_dir)}
    content["command"] = this_command()[1:]  # without `python`
    for key in ("storage", "tracking_uri"):
        if content[key] is not None:
            content[key] = addresses.with_whole_path(without_password(content[key]))
    # Absolute paths: a study may be resumed from another folder.
    if config.data_dir is not None:
        content["data_dir"] = str(Path(config.data_dir).expanduser().resolve())
    if config.exclude is not None:
        content["exclude"] = str(Path(config.exclude).expanduser().resolve())
    if config.from_config is not None:
        content["from_config"] = str(Path(config.from_config).resolve())
    content["weights"] = with_whole_path(config.weights)
    if config.lite_weights is not None:
        content["lite_weights"] = with_whole_path(config.lite_weights)
    if not copy.exists():
        shutil.copyfile(space_path(config.space), copy)
    write_whole(prepared.folder / STUDY_FILE, json.dumps(content, indent=2) + "\n")
    class_counts.write_class_counts(prepared.folder, class_counts.counts_of(prepared.data))
    machine_times.keep_times(prepared.folder)

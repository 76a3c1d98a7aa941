"""A study sent to a Ray cluster as a job, with the code and the files that it needs."""

import shlex
import shutil
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from search_spaces.space import list_spaces
from tinytl.config.weights_source import with_whole_path
from tinytl.errors import ConfigError
from tinytl.passwords import without_password
from tinytl.runs.directory import COMMIT, code_commit
from tuner.addresses import is_sqlite, sqlite_file
from tuner.bucket.address import is_bucket
from tuner.cluster.joining import PACKAGES, ROOT
from tuner.config import StudyConfig, read_study_file
from tuner.jobs import client as job_client
from tuner.next_commands import SCRIPT, tuner_command
from tuner.study.prepare import read_space
from tuner.study.server_checks import check_schemes
from tuner.study.starting_points import points_of_file

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

GIVEN = "given"
"""Folder of a job's working tree: the files that flags name, each in a folder of its flag."""


def submit(config: StudyConfig, argv: Sequence[str], console: Console) -> int:
    """Sends a study, follows its log to its end and returns its exit code; 130 if Ctrl-C detached.

    Raises:
        ConfigError: for a mistake that can be found here, before anything is sent.
    """
    assert config.submit is not None
    name = config.name or f"{Path(config.space).stem}-{datetime.now():%Y%m%d-%H%M%S}"
    _check_here(config, argv)
    client = job_client.connect("--submit", config.submit)
    ids = {job.submission_id: job for job in job_client.jobs_of_studies(client)}
    for job in ids.values():
        if job.metadata[job_client.STUDY] == name and job.status in job_client.ALIVE:
            raise ConfigError(f"study {name} is being run by job {job.submission_id}")
    free = (f"{name}-{count}" for count in range(2, len(ids) + 3))
    job_id = name if name not in ids else next(text for text in free if text not in ids)
    with tempfile.TemporaryDirectory() as folder:
        flags = _pack(config, argv, Path(folder))
        size_mib = sum(path.stat().st_size for path in Path(folder).rglob("*")) / 2**20
        flags += ["--address", "auto", "--name", name]
        commit = {COMMIT: code_commit() or ""}  # what is sent has no history
        try:
            client.submit_job(
                entrypoint=f"exec python {SCRIPT} {shlex.join(flags)}",
                submission_id=job_id,
                runtime_env={"working_dir": folder, "env_vars": commit},
                metadata={job_client.STUDY: name, job_client.RUNS_DIR: config.runs_dir},
                entrypoint_num_cpus=0,  # trials need them
            )
        except RuntimeError as error:
            raise ConfigError(f"--submit {config.submit}: it accepts no job ({error})") from None
    console.print(f"Sent to {config.submit} as job {job_id} ({size_mib:.1f} MiB)", highlight=False)
    return watch(client, config.submit, name, job_id, console)


def watch(client: "JobSubmissionClient", address: str, name: str, job_id: str, console: Console) -> int:
    """Follows a job's log; on Ctrl-C prints how to watch or stop the job, and returns 130.

    Raises:
        ConfigError: if the dashboard no longer answers; how to watch or stop the job is printed first.
    """

    def tell(what: str) -> None:
        console.print(
            f"\n{what}\n"
            f"Watch:  {tuner_command('jobs', '--follow', name, '--address', address)}\n"
            f"Stop:   {tuner_command('stop', name, '--address', address)}",
            highlight=False,
            soft_wrap=True,
        )

    try:
        return job_client.follow(client, job_id)
    except KeyboardInterrupt:
        tell(f"Detached: study {name} continues.")
        return 130
    except ConfigError:
        tell(f"Out of sight: study {name} may still be running.")
        raise


def _check_here(config: StudyConfig, argv: Sequence[str]) -> None:
    for word in argv:
        if (shown := without_password(word)) != word:
            raise ConfigError(
                f"--submit: Ray's dashboard shows a job's command: give {shown}, and set PGPASSWORD (MLflow: "
                "MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD) at the cluster's head; for weights, "
                "give a file of the cluster instead"
            )
    check_schemes(config)
    for flag, path in _paths(config).items():
        if not (sqlite_file(path) or Path(path)).is_absolute():
            raise ConfigError(
                f"--submit: {flag} {path} is looked for on the cluster: give its whole path there, which all "
                "nodes see"
            )
    if not config.resume or read_study_file(config.name or "", config.runs_dir):
        space, base = read_space(config)
        if config.from_config is not None:
            points_of_file(config.from_config, space, base)


def _paths(config: StudyConfig) -> dict[str, str]:
    """Returns what flags name on the cluster's disks: paths, and the addresses of SQLite's files."""
    paths = {} if is_bucket(config.runs_dir) else {"--runs-dir": config.runs_dir}
    if config.data_dir is not None:
        paths["--data-dir"] = config.data_dir
    if config.exclude is not None:
        paths["--exclude"] = config.exclude
    for flag, weights in (("--weights", config.weights), ("--lite-weights", config.lite_weights)):
        if weights is not None and with_whole_path(weights) != weights:
            paths[flag] = weights
    for flag, address in (("--storage", config.storage), ("--tracking-uri", config.tracking_uri)):
        if address is not None and is_sqlite(address):
            paths[flag] = address
    return paths


def _pack(config: StudyConfig, argv: Sequence[str], folder: Path) -> list[str]:
    """Copies what the job needs into `folder`; returns the job's flags, which name the copies."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    # Not the checkout's own file: an installed package has none.
    shutil.copyfile(ROOT / "tuner" / "commands" / "launch.py", folder / SCRIPT)
    flags = _without(argv, "--submit", "--name")
    files = {"--from-config": config.from_config}
    if config.space not in list_spaces():
        files["--space"] = config.space
    for flag, path in files.items():
        given = _without(flags, flag)
        if path is not None and given != flags:  # not what a resumed study has from its first call
            copy = folder / GIVEN / flag.strip("-") / Path(path).name
            copy.parent.mkdir(parents=True)
            shutil.copyfile(path, copy)
            flags = [*given, flag, str(copy.relative_to(folder))]
    return flags


def _without(argv: Sequence[str], *names: str) -> list[str]:
    """Returns a command line without some flags and their values."""
    kept, words = [], iter(argv)
    for word in words:
        if word in names:
            next(words, None)
        elif word.partition("=")[0] not in names:
            kept.append(word)
    return kept

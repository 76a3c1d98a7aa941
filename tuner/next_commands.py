"""The commands that are printed for what comes next, as the user would type them.

Every command that is printed is made here: folders are quoted, passwords left out. Imports nothing heavy.
"""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tinytl.config.train_config import TrainConfig
from tinytl.passwords import without_password, without_passwords
from tuner.bucket.copies import named
from tuner.config import StudyConfig

ROOT = Path(__file__).resolve().parents[1]
"""The folder of the packages: a checkout has `launch.py` there, an installed package does not."""
SCRIPT = "launch.py"
_called: list[Sequence[str]] = []
"""What `called_as` was given. All threads see it: Ray starts in one."""


def where_flags(runs_dir: str, storage: str | None = None) -> str:
    """Returns the flags that a command about the study needs beside its name."""
    flags = [] if runs_dir == StudyConfig.runs_dir else ["--runs-dir", named(runs_dir)]
    flags += [] if storage is None else ["--storage", storage]
    return _flags(*flags)


def tuner_command(command: str, *words: str, where: str = "", then: Sequence[str] = ()) -> str:
    """Returns a command of `python -m tuner`, which runs wherever the packages can be imported.

    `where`: flags as `where_flags` returns them. `then`: words after those.
    """
    return f"python -m tuner {command}{_flags(*words)}{where}{_flags(*then)}"


def check_command(config: TrainConfig) -> str:
    """Returns the command that says what may be wrong with the data set of `config`, its labels as well."""
    words = ["--dataset", config.dataset]
    words += [] if config.data_dir is None else ["--data-dir", config.data_dir]
    words += [] if config.exclude is None else ["--exclude", config.exclude]
    words += ["--min-per-class", str(config.min_per_class)] if config.min_per_class else []
    return f"python -m tinytl check{_flags(*words)} --labels"


def launch_command(*words: str, where: str = "") -> str:
    """Returns a command that starts a study: `python launch.py` in a checkout, else `python -m tuner launch`.

    A `launch.py` that runs this process is named as it was typed.
    """
    if Path(sys.argv[0]).name == SCRIPT:
        program = f"python {shlex.quote(sys.argv[0])}"
    elif (ROOT / SCRIPT).is_file() and Path.cwd() == ROOT:
        program = f"python {SCRIPT}"
    else:
        program = "python -m tuner launch"
    return f"{program}{_flags(*words)}{where}"


def resume_command(study: str, runs_dir: str, submit: str | None = None) -> str:
    """Returns the command that resumes a study, here or as a job of the cluster at `submit`."""
    words = ["--name", study, "--resume"] + ([] if submit is None else ["--submit", submit])
    return launch_command(*words, where=where_flags(runs_dir))


def ui_command(uri: str | None, where: str, study: str | None = None) -> str:
    """Returns the command that serves a database; None: that of RUNS_DIR, which `where` names in a flag.

    `study`: the one with the page that it names.
    """
    return tuner_command("ui", *([] if study is None else [study]), where=where, then=_tracking(uri))


def sync_command(study: str, where: str, uri: str | None = None) -> str:
    """Returns the command that writes a study to `uri`, or to where it was tracked."""
    return tuner_command("sync", study, where=where, then=_tracking(uri))


def this_command() -> list[str]:
    """Returns the words that start what this process runs, `python` first and no passwords."""
    return as_typed(_called[-1] if _called else sys.argv)


@contextmanager
def called_as(argv: Sequence[str]) -> Iterator[None]:
    """Makes `this_command` name `argv` within the block: a notebook's process was started by other words."""
    _called.append(argv)
    try:
        yield
    finally:
        _called.remove(argv)


def retrain_command(config_file: str) -> str:
    """Returns the command that trains a trial again from its `config.yaml`."""
    return f"python -m tinytl train{_flags('--config', config_file, '--out', 'DIR')}"


def as_typed(argv: Sequence[str]) -> list[str]:
    """Returns the words that start this program again, `python` first and no passwords."""
    path, words = Path(argv[0]), without_passwords(argv[1:])
    if path.suffix == ".py" and path.name != "__main__.py":
        return ["python", argv[0], *words]
    return ["python", "-m", path.parent.name if path.suffix else path.name, *words]


def _tracking(uri: str | None) -> list[str]:
    return [] if uri is None else ["--tracking-uri", uri]


def _flags(*words: str) -> str:
    return "".join(" " + shlex.quote(without_password(word)) for word in words)

"""Each driver of a study: its command, code, device and images, kept with the study."""

import getpass
import platform
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from tinytl.runs.directory import code_commit
from tuner.next_commands import this_command
from tuner.record import schema

if TYPE_CHECKING:
    from tuner.prepared import PreparedStudy

PACKAGES = ("torch", "torchvision", "ray", "optuna", "mlflow")


@dataclass(frozen=True, kw_only=True)
class Images:
    """The data set of a session."""

    name: str
    source: str
    """Its folder, or the package that holds it."""
    digest: str | None
    classes: int
    counts: Mapping[str, int]
    """Number of images per split."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """The driver of the trials that started after `began_ms`, until the next session."""

    began_ms: int
    command: str
    """The command as it was typed, without passwords."""
    commit: str | None
    versions: Mapping[str, str]
    device: str
    """cpu or cuda: the device of the trials."""
    images: Images
    user: str | None = None
    """The user who started it; older sessions do not know, and a container may have no name for its user."""

    @property
    def tags(self) -> dict[str, str]:
        """Returns `commit`, `device` and `version.PACKAGE`, and MLflow's own for user and source."""
        commit = {} if self.commit is None else {"commit": self.commit}
        versions = {f"version.{k}": v for k, v in self.versions.items()}
        return commit | {"device": self.device} | versions | self._mlflow_tags

    @property
    def _mlflow_tags(self) -> dict[str, str]:
        """What MLflow's pages show as user, source and version. A commit may be followed by `-dirty`."""
        found = {"mlflow.source.name": program_of(self.command), "mlflow.source.type": "LOCAL"}
        if self.user is not None:
            found["mlflow.user"] = self.user
        if self.commit is not None:
            found["mlflow.source.git.commit"] = self.commit.partition("-")[0]
        return found

    def to_json(self) -> dict[str, Any]:
        """Returns what the storage holds."""
        return asdict(self)


def begin_session(prepared: "PreparedStudy", now_ms: int | None = None) -> Session:
    """Returns the session of this process; the trials' device must be known."""
    data, base = prepared.data, prepared.base
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return Session(
        began_ms=int(time.time() * 1000) if now_ms is None else now_ms,
        command=shlex.join(this_command()),
        commit=code_commit(),
        versions={"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        device=base.device,
        user=_user(),
        images=Images(
            name=data.name,
            source=base.data_dir or base.dataset,
            digest=data.digest,
            classes=len(data.classes),
            counts={name: len(split) for name, split in splits.items() if split is not None},
        ),
    )


def program_of(command: str) -> str:
    """Returns the program of a command: `launch.py`, or `tuner` of `python -m tuner launch`."""
    words = [word for word in shlex.split(command) if word not in ("python", "-m")]
    return words[0] if words else ""


def _user() -> str | None:
    with suppress(OSError, KeyError, ImportError):  # a container may run under a number without a name
        return getpass.getuser()
    return None


def with_session(stored: Sequence[Mapping[str, Any]], new: Session) -> list[dict[str, Any]]:
    """Returns what the storage has to hold: no change if `new` differs from the last only in its time."""
    kept = [dict(session) for session in stored]
    if kept and kept[-1] | {"began_ms": new.began_ms} == new.to_json():
        return kept
    return [*kept, new.to_json()]


def read_sessions(attributes: Mapping[str, Any]) -> list[Session]:
    """Returns the sessions in a study's user attributes: none if an older version made the study."""
    return [
        Session(**{**content, "images": Images(**content["images"])})
        for content in attributes.get(schema.SESSIONS, [])
    ]


def session_at(sessions: Sequence[Session], moment_ms: int | None) -> Session | None:
    """Returns the session in which something started; the last one if that is not known."""
    begun = [s for s in sessions if moment_ms is None or s.began_ms <= moment_ms]
    return begun[-1] if begun else next(iter(sessions), None)

"""A real PostgreSQL server on a free port of the loopback."""

import os
import shutil
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.studies import free_port

USER, PASSWORD = "tuner", "se:cr@t"
"""The password has what a URL must quote."""


class PostgresServer:
    """Can be stopped and started again on its port, with what it holds."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self.log = log
        self.port = free_port()

    def url(self, database: str = "study", password: str = PASSWORD) -> str:
        """Returns the address of a database as SQLAlchemy and MLflow take it."""
        quoted = urllib.parse.quote(password)
        return f"postgresql://{USER}:{quoted}@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        (self.folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self.folder, self.folder / "password"):
                shutil.chown(path, "postgres")
        access = ["-U", USER, "-A", "scram-sha-256", "--pwfile", str(self.folder / "password")]
        self._run("initdb", "-D", str(self.folder / "data"), *access, "--no-sync")

    def start(self) -> None:
        settings = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "start", "-w", "-D", str(self.folder / "data"), "-o", settings)

    def stop(self) -> None:
        """Ends it as a kill would: connections break, nothing is written any more."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self.folder / "data"))

    def create(self, database: str) -> None:
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, database)

    def _run(self, program: str, *args: str) -> None:
        # PostgreSQL refuses to run as root.
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        argv = [*as_user, str(_programs() / program), *args]
        env = os.environ | {"PGPASSWORD": PASSWORD}
        with self.log.open("a") as log:  # not a pipe: the server would hold it open
            done = subprocess.run(argv, cwd=self.folder, stdout=log, stderr=log, timeout=60, env=env)
        assert done.returncode == 0, self.log.read_text()


@contextmanager
def postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    """Gives a running server with an empty database `study`; its log lies in `tmp_path`.

    Skips the test where PostgreSQL is not installed (Debian: apt install postgresql).
    """
    if not _programs().is_dir():
        pytest.skip("no PostgreSQL is installed (Debian: apt install postgresql)")
    # Not in tmp_path, into which only this user may look.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = PostgresServer(folder, tmp_path / "postgres.log")
    try:
        server.make()
        server.start()
        try:
            server.create("study")
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@contextmanager
def postgres_server(tmp_path: Path) -> Iterator[str]:
    """Gives the address of an empty database of a running server."""
    with postgres(tmp_path) as server:
        yield server.url()


def _programs() -> Path:
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql/bin"))

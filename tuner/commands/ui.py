"""`python -m tuner ui`: the MLflow UI on the studies here, in the foreground, until Ctrl-C."""

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from contextlib import suppress
from pathlib import Path

from tinytl.errors import ConfigError
from tinytl.passwords import without_password
from tuner.addresses import is_server
from tuner.bucket.copies import at_hand, copy_of, named
from tuner.bucket.database import mlflow_at_hand
from tuner.commands.study_flags import Commands, add_runs_dir_flag
from tuner.config import STUDY_FILE, StudyConfig
from tuner.next_commands import sync_command, where_flags
from tuner.ports import HOST, check_free, check_port

END_S = 5.0
"""How long the server may need to end by itself."""
POLL_S = 0.2
MOST_PAGES = 5
"""Studies whose address is printed, if none is named."""
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Evaluation jobs of language models: processes that are not needed here.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
ALLOWED_HOSTS = f"localhost,localhost:*,{HOST},{HOST}:*"
"""Names to which MLflow answers; else also those that begin as private addresses do: 10.evil.example."""


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    ui = commands.add_parser("ui", help="the MLflow UI on the studies here, and the address of each")
    ui.add_argument("name", metavar="NAME", nargs="?", help="show this study (default: the newest ones)")
    add_runs_dir_flag(ui)
    ui.add_argument(
        "--tracking-uri", metavar="URI", help="SQLite or PostgreSQL database (default: RUNS_DIR/mlflow.db)"
    )
    ui.add_argument(
        "--port", type=int, default=5000, metavar="PORT", help="port on 127.0.0.1 (default: 5000)"
    )
    ui.add_argument("--open", action="store_true", help="open the first address in the browser")
    ui.add_argument("-v", "--verbose", action="store_true", help="show what the server logs")
    ui.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serves until Ctrl-C."""
    runs_dir = at_hand(args.runs_dir, every=True)
    mlflow_at_hand(runs_dir)
    return serve_ui(runs_dir, args.tracking_uri, args.port, args.verbose, args.name, args.open)


def serve_ui(
    runs_dir: str,
    tracking_uri: str | None,
    port: int,
    verbose: bool,
    name: str | None = None,
    open_page: bool = False,
) -> int:
    """Serves until it is interrupted, or the server ends; returns an exit code.

    Prints the address of the runs of study `name`, or of the newest studies: MLflow's own first pages are
    those for language models. `tracking_uri`: a database; None: RUNS_DIR/mlflow.db. The server's output is
    shown if `verbose`, its last error if it does not start.

    Raises:
        ConfigError: if there is no such database, it has no study `name`, or the port is taken.
        KeyboardInterrupt: after Ctrl-C or SIGTERM, when the server has ended.
    """
    from tuner.tracking.client import artifacts_beside

    check_port(port, "--port")
    database = _database(runs_dir, tracking_uri)
    check_free(port, "--port")
    command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port)]
    # One process: there is one reader, and each process needs seconds and hundreds of MiB to start.
    command += ["--workers", "1"]
    # Studies that record through this server run on this machine: their files go beside the database's.
    command += ["--default-artifact-root", str(artifacts_beside(database, Path(runs_dir)))]
    command += ["--allowed-hosts", ALLOWED_HOSTS]
    url = f"http://{HOST}:{port}"
    pages = _pages(database, name, runs_dir)
    shown = named(runs_dir) if tracking_uri is None else without_password(tracking_uri)
    print(f"MLflow on {shown} is starting ...", flush=True)
    with tempfile.TemporaryFile("w+") as said:
        # A group of its own: only we get Ctrl-C, and we end the server with all its processes, once.
        server = subprocess.Popen(
            command,
            # Not a flag: all users of the machine can read flags, and it may hold a password.
            env=SETTINGS | os.environ | {"MLFLOW_BACKEND_STORE_URI": database},
            stdout=None if verbose else said,
            stderr=None if verbose else subprocess.STDOUT,
            process_group=0,
        )
        try:
            while server.poll() is None and not _answers(url):
                time.sleep(POLL_S)
            if server.poll() is None:
                print(f"{url} (Ctrl-C ends it)", flush=True)
                _show_pages(url, pages, open_page)
            code = server.wait()
        finally:
            _end(server)
        said.seek(0)
        why = without_password(_last_error(said.read()))
    print(f"tuner ui: MLflow's server ended with exit code {code}{why}", file=sys.stderr)
    return 1


def _pages(database: str, name: str | None, runs_dir: str) -> list[tuple[str, str]]:
    """Returns the studies in a database, newest first, each with its address relative to the server."""
    from tuner.tracking.pages import study_pages

    try:
        pages = study_pages(database, name)
    except ConfigError:
        if name is not None:
            raise
        return []  # the server will say what is wrong
    if name is not None and not pages:
        bring = sync_command(name, where_flags(runs_dir))
        raise ConfigError(f"MLflow has no study {name}: `{bring}` adds it")
    return pages


def _show_pages(url: str, pages: list[tuple[str, str]], open_page: bool) -> None:
    for study, path in pages[:MOST_PAGES]:
        print(f"{study}: {url}/{path}", flush=True)
    if len(pages) > MOST_PAGES:
        print(f"and {len(pages) - MOST_PAGES} more: name one", flush=True)
    if open_page:
        address = f"{url}/{pages[0][1]}" if pages else url
        if not _opened(address):
            print("No browser could be opened: open the address in yours", file=sys.stderr)


def _opened(address: str) -> bool:
    with suppress(Exception):  # each desktop has its own way to fail
        return webbrowser.open(address)
    return False


def _database(runs_dir: str, tracking_uri: str | None) -> str:
    """Returns the address of the database to serve; the database exists."""
    if tracking_uri is None:
        folder = Path(runs_dir)
        if (folder / "mlflow.db").exists():
            return StudyConfig(runs_dir=runs_dir).resolved_tracking_uri
        if not (folder / "optuna.journal").exists() and not any(folder.glob(f"*/{STUDY_FILE}")):
            raise ConfigError(f"no studies under {named(runs_dir)}: run a study, or give --runs-dir")
        uri = f"sqlite:///{folder}/mlflow.db" if copy_of(folder) is None else None
        bring = sync_command("NAME", where_flags(runs_dir), uri)
        raise ConfigError(
            f"no MLflow database under {named(runs_dir)}: `{bring}` makes one, or give --tracking-uri"
        )
    if is_server(tracking_uri):
        page = without_password(tracking_uri)
        raise ConfigError(f"--tracking-uri {page}: it is already a server: open {page} in a browser")
    from tuner.tracking.client import check_database

    check_database(tracking_uri)
    return tracking_uri


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _last_error(text: str) -> str:
    errors = re.findall(r"^[\w.]*(?:Error|Exception)\b.*$", text, re.MULTILINE) or text.splitlines()
    return f": {errors[-1]}" if errors else ""


def _end(server: subprocess.Popen[bytes]) -> None:
    """Ends the server's whole group of processes: by SIGTERM first, then by SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        server.wait(END_S)
    with suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()

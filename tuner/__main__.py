"""python -m tuner status | sync | ui | jobs | stop: look at studies, and stop them."""

import argparse
import json
import os
import sys
from pathlib import Path

from rich.console import Console

from tinytl.errors import ConfigError
from tinytl.flags import OneLineParser
from tinytl.pipe import run_for_reader
from tuner.config import StudyConfig

DASHBOARD = "http://127.0.0.1:8265"
"""Where Ray's dashboard is, unless it was told otherwise."""


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 2 (a user's mistake) or 130 (interrupted)."""
    args = build_parser().parse_args(argv)
    try:
        return run_for_reader(lambda: args.run(args))
    except ConfigError as error:
        print(f"tuner {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"tuner {args.command}: interrupted", file=sys.stderr)
        return 130


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of `python -m tuner`."""
    parser = OneLineParser(prog="tuner", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    status = commands.add_parser("status", help="trials by state, and the front")
    _add_study_flags(status)
    status.add_argument("--json", action="store_true", help="print JSON")
    status.set_defaults(run=_status)

    sync = commands.add_parser("sync", help="make MLflow say what the study's storage and folders say")
    _add_study_flags(sync)
    sync.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow server or database (default: the study's own)"
    )
    sync.set_defaults(run=_sync)

    ui = commands.add_parser("ui", help="the MLflow UI on the studies here")
    ui.add_argument("--runs-dir", default="runs", metavar="DIR", help="folder of all studies (default: runs)")
    ui.add_argument("--port", type=int, default=5000, help="port on 127.0.0.1 (default: 5000)")
    ui.set_defaults(run=_ui)

    jobs = commands.add_parser("jobs", help="studies that were sent to a Ray cluster (launch.py --submit)")
    jobs.add_argument(
        "--address", default=DASHBOARD, metavar="URL", help=f"the cluster's dashboard (default: {DASHBOARD})"
    )
    jobs.add_argument("--follow", metavar="NAME", help="show the log of a study until it ends")
    jobs.set_defaults(run=_jobs)

    stop = commands.add_parser("stop", help="stop a study gently: running epochs end and are saved")
    stop.add_argument("name", metavar="NAME", help="name of the study")
    stop.add_argument(
        "--runs-dir", default="runs", metavar="DIR", help="folder of all studies (default: runs)"
    )
    stop.add_argument("--address", metavar="URL", help="dashboard of the Ray cluster that it was sent to")
    stop.set_defaults(run=_stop)
    return parser


def _add_study_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the study")
    parser.add_argument(
        "--runs-dir", default="runs", metavar="DIR", help="folder of all studies (default: runs)"
    )
    parser.add_argument("--storage", metavar="URL", help="Optuna storage (default: the study's own)")


def _status(args: argparse.Namespace) -> int:
    from tuner.findings import print_findings, read_findings
    from tuner.storage import load_study

    study = load_study(args.name, args.runs_dir, args.storage)
    findings = read_findings(study, args.runs_dir)
    if args.json:
        print(json.dumps(findings.to_json(), indent=2))
    else:
        print_findings(Console(), study, findings)
    return 0


def _sync(args: argparse.Namespace) -> int:
    from tuner.sync import sync

    print(sync(args.name, args.runs_dir, args.storage, args.tracking_uri))
    return 0


def _ui(args: argparse.Namespace) -> int:
    config = StudyConfig(runs_dir=args.runs_dir)
    if not (Path(args.runs_dir) / "mlflow.db").exists():
        raise ConfigError(
            f"no studies under {args.runs_dir} (no file mlflow.db): run a study, or give --runs-dir"
        )
    print(f"MLflow on {args.runs_dir}: http://127.0.0.1:{args.port} (Ctrl-C ends it)", flush=True)
    command = ["mlflow", "server", "--backend-store-uri", config.resolved_tracking_uri]
    command += ["--host", "127.0.0.1", "--port", str(args.port)]
    os.execv(sys.executable, [sys.executable, "-m", *command])


def _jobs(args: argparse.Namespace) -> int:
    from tuner import job_client, jobs
    from tuner.submit import watch

    if args.follow is None:
        jobs.print_jobs(Console(), args.address)
        return 0
    client = job_client.connect("--address", args.address)
    job = job_client.newest_job(client, args.follow)
    return watch(client, args.address, args.follow, str(job.submission_id), Console())


def _stop(args: argparse.Namespace) -> int:
    from tuner import stop

    def tell(line: str) -> None:
        print(line, flush=True)

    runs_dir, where = args.runs_dir, ""
    if args.address is None:
        stop.stop_here(args.name, runs_dir, tell)
    else:
        runs_dir, where = stop.stop_job(args.name, args.address, tell), f" --submit {args.address}"
    where += "" if runs_dir == "runs" else f" --runs-dir {runs_dir}"
    tell(f"Stopped. Go on:  python launch.py --name {args.name} --resume{where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

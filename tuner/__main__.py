"""python -m tuner status | report | best | export | sync | ui | jobs | stop: look at studies or stop them."""

import argparse
import json
import sys

from tinytl.commands.pipe import run_for_reader
from tinytl.config.flags import OneLineParser
from tinytl.errors import ConfigError
from tuner.stopping import sigterm_as_ctrl_c
from tuner.terminal.console import terminal

DASHBOARD = "http://127.0.0.1:8265"
"""Where Ray's dashboard is, unless it was told otherwise."""


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit code: 0, 2 (a user's mistake) or 130 (interrupted)."""
    args = build_parser().parse_args(argv)
    try:
        with sigterm_as_ctrl_c():
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

    best = commands.add_parser("best", help="the most accurate trial, and the command that trains it")
    _add_study_flags(best)
    _add_budget_flag(best)
    best.add_argument("--json", action="store_true", help="print JSON")
    best.set_defaults(run=_best)

    export = commands.add_parser("export", help="write the best trial, or another, as ONNX for a device")
    _add_study_flags(export)
    which = export.add_mutually_exclusive_group()
    which.add_argument("--trial", metavar="TRIAL", help="trial to export (default: the best)")
    _add_budget_flag(which)
    export.add_argument("--out", metavar="DIR", help="folder to write (default: RUNS_DIR/NAME/export/TRIAL)")
    export.add_argument("--json", action="store_true", help="print model.json")
    export.set_defaults(run=_export)

    report = commands.add_parser("report", help="the whole study as one HTML file that loads nothing")
    _add_study_flags(report)
    report.add_argument("--out", metavar="FILE", help="file to write (default: RUNS_DIR/NAME/report.html)")
    report.add_argument("--open", action="store_true", help="open it in the browser")
    report.set_defaults(run=_report)

    sync = commands.add_parser("sync", help="make MLflow say what the study's storage and folders say")
    _add_study_flags(sync)
    sync.add_argument(
        "--tracking-uri", metavar="URI", help="MLflow server or database (default: the study's own)"
    )
    sync.set_defaults(run=_sync)

    ui = commands.add_parser("ui", help="the MLflow UI on the studies here")
    ui.add_argument("--runs-dir", default="runs", metavar="DIR", help="folder of all studies (default: runs)")
    ui.add_argument(
        "--tracking-uri", metavar="URI", help="SQLite or PostgreSQL database (default: RUNS_DIR/mlflow.db)"
    )
    ui.add_argument("--port", type=int, default=5000, help="port on 127.0.0.1 (default: 5000)")
    ui.add_argument("-v", "--verbose", action="store_true", help="show what the server logs")
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
    stop.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="wait so long for a study here that is still preparing (default: 0)",
    )
    stop.set_defaults(run=_stop)
    return parser


def _add_study_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the study")
    parser.add_argument(
        "--runs-dir", default="runs", metavar="DIR", help="folder of all studies (default: runs)"
    )
    parser.add_argument("--storage", metavar="URL", help="Optuna storage (default: the study's own)")


def _add_budget_flag(parser: "argparse._ActionsContainer") -> None:
    parser.add_argument(
        "--under-mib",
        type=float,
        metavar="MIB",
        help="most that a training step may take, in MiB (default: the study's own budget)",
    )


def _status(args: argparse.Namespace) -> int:
    from tuner.findings.findings import print_findings
    from tuner.record.reading import open_study

    study = open_study(args.name, args.runs_dir, args.storage)
    if args.json:
        print(json.dumps(study.to_json(), indent=2))
    else:
        print_findings(terminal(), study)
    return 0


def _best(args: argparse.Namespace) -> int:
    from tuner.findings.best import choose_best, print_best
    from tuner.record.reading import open_study

    best = choose_best(open_study(args.name, args.runs_dir, args.storage), args.under_mib)
    if args.json:
        print(json.dumps(best.to_json(), indent=2))
    else:
        print_best(terminal(), best)
    return 0


def _export(args: argparse.Namespace) -> int:
    from tuner.findings.export import export_trial
    from tuner.record.reading import open_study

    study = open_study(args.name, args.runs_dir, args.storage)
    print(export_trial(study, args.trial, args.under_mib, args.out, as_json=args.json))
    return 0


def _report(args: argparse.Namespace) -> int:
    from tuner.report.page import open_in_browser, write_report

    path = write_report(args.name, args.runs_dir, args.storage, args.out)
    print(f"Report: {path} ({path.stat().st_size / 1e6:.1f} MB)", flush=True)
    if args.open and not open_in_browser(path):
        print("No browser could be opened: open the file in yours", file=sys.stderr)
    return 0


def _sync(args: argparse.Namespace) -> int:
    from tuner.tracking.sync import sync

    print(sync(args.name, args.runs_dir, args.storage, args.tracking_uri))
    return 0


def _ui(args: argparse.Namespace) -> int:
    from tuner.commands.ui import serve_ui

    return serve_ui(args.runs_dir, args.tracking_uri, args.port, args.verbose)


def _jobs(args: argparse.Namespace) -> int:
    from tuner.jobs import client as job_client
    from tuner.jobs import listing as jobs
    from tuner.jobs.submit import watch

    if args.follow is None:
        jobs.print_jobs(terminal(), args.address)
        return 0
    client = job_client.connect("--address", args.address)
    job = job_client.newest_job(client, args.follow)
    return watch(client, args.address, args.follow, str(job.submission_id), terminal())


def _stop(args: argparse.Namespace) -> int:
    from tuner.jobs import stop

    def tell(line: str) -> None:
        print(line, flush=True)

    runs_dir, where = args.runs_dir, ""
    if args.address is None:
        stop.stop_here(args.name, runs_dir, tell, args.wait)
    else:
        runs_dir, where = stop.stop_job(args.name, args.address, tell), f" --submit {args.address}"
    where += "" if runs_dir == "runs" else f" --runs-dir {runs_dir}"
    tell(f"Stopped. Go on:  python launch.py --name {args.name} --resume{where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tuner jobs`: the studies that were sent to a Ray cluster."""

import argparse

from tuner.commands.study_flags import Commands

DASHBOARD = "http://127.0.0.1:8265"
"""Ray's default address of its dashboard."""


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    jobs = commands.add_parser("jobs", help="studies that were sent to a Ray cluster (launch.py --submit)")
    jobs.add_argument(
        "--address", default=DASHBOARD, metavar="URL", help=f"the cluster's dashboard (default: {DASHBOARD})"
    )
    jobs.add_argument("--follow", metavar="NAME", help="show the log of a study until it ends")
    jobs.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prints the cluster's studies, or the log of one."""
    from rich.console import Console

    from tuner.jobs import client as job_client
    from tuner.jobs.listing import print_jobs
    from tuner.jobs.submit import watch

    if args.follow is None:
        print_jobs(Console(), args.address)
        return 0
    client = job_client.connect("--address", args.address)
    job = job_client.newest_job(client, args.follow)
    return watch(client, args.address, args.follow, str(job.submission_id), Console())

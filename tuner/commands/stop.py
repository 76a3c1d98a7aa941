"""`python -m tuner stop`: a study ends gently, here or on a cluster."""

import argparse

from tuner.bucket.copies import at_hand
from tuner.commands.study_flags import Commands, add_runs_dir_flag


def add_parser(commands: Commands) -> None:
    """Adds the command to `python -m tuner`."""
    stop = commands.add_parser("stop", help="stop a study gently: running epochs end and are saved")
    stop.add_argument("name", metavar="NAME", help="name of the study")
    add_runs_dir_flag(stop)
    stop.add_argument("--address", metavar="URL", help="dashboard of the Ray cluster that it was sent to")
    stop.add_argument(
        "--wait",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="wait this long for a study here that is still preparing (default: 0)",
    )
    stop.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Stops the study, and prints how to resume it."""
    from tuner.jobs import stop
    from tuner.next_commands import resume_command

    def tell(line: str) -> None:
        print(line, flush=True)

    runs_dir = args.runs_dir
    if args.address is None:
        runs_dir = at_hand(runs_dir)
        stop.stop_here(args.name, runs_dir, tell, args.wait)
    else:
        runs_dir = stop.stop_job(args.name, args.address, tell)
    tell(f"Stopped. Resume:  {resume_command(args.name, runs_dir, args.address)}")
    return 0

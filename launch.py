"""Search how to fine-tune a mobile network: accuracy against the memory of training.

python launch.py --space separate_lr
"""

import datetime
import sys

from tinytl.errors import ConfigError
from tuner.cluster.start import Cluster
from tuner.config import parse_study
from tuner.stopping import sigterm_as_ctrl_c
from tuner.study.prepare import prepare
from tuner.study.summary import describe_spaces, print_dry_run, print_start, print_summary
from tuner.terminal.console import terminal
from tuner.verbosity import set_verbose


def main(argv: list[str] | None = None) -> int:
    """Runs a study; returns 0, 1 (every trial failed), 2 (a user's mistake) or 130 (interrupted)."""
    with sigterm_as_ctrl_c():
        return _main(argv)


def _main(argv: list[str] | None) -> int:
    console = terminal()
    try:
        config, list_only = parse_study(argv)
        if list_only:
            describe_spaces(console)
            return 0
        set_verbose(config.verbose)
        if config.submit is not None:
            from tuner.jobs.submit import submit

            return submit(config, sys.argv[1:] if argv is None else argv, console)
        cluster = Cluster(config)
        prepared = prepare(config, datetime.datetime.now(), cluster.begin)
        print_start(console, prepared)
        if config.dry_run:
            print_dry_run(console, prepared)
            return 0
        from tuner.study.run import run_study

        outcome = run_study(prepared, console, cluster)
        print_summary(console, prepared, outcome)
    except ConfigError as error:
        print(f"launch.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("launch.py: interrupted", file=sys.stderr)
        return 130
    return outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())

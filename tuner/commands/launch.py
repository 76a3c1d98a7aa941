"""`python -m tuner launch`, and `python launch.py` in a checkout: a study from its flags to its summary."""

import sys
from collections.abc import Sequence

from tinytl.errors import ConfigError, in_one_line
from tinytl.files import full_disk_line
from tinytl.streams import use_patient_streams
from tuner.commands.study_flags import Commands
from tuner.config import PROGRAM, StudyConfig, parse_study
from tuner.installed import check_installed
from tuner.stopping import sigterm_as_ctrl_c


def add_parser(commands: Commands) -> None:
    """Adds the command's name to `python -m tuner`; its flags are those of StudyConfig, parsed here."""
    commands.add_parser("launch", help="search: start a study, or resume one (launch --help)")


def main(argv: Sequence[str] | None = None, program: str = PROGRAM) -> int:
    """Runs a study; returns 0, 1 (every trial failed), 2 (a user's mistake) or 130 (interrupted)."""
    use_patient_streams()
    try:
        with sigterm_as_ctrl_c():
            config, list_only = parse_study(argv, program)
            check_installed()
            if list_only:
                return _list_spaces()
            return _run(config, sys.argv[1:] if argv is None else argv)
    except ConfigError as error:
        print(f"{program}: {in_one_line(error)}", file=sys.stderr)
        return 2
    except Exception as error:
        if (line := full_disk_line(error)) is None:
            raise
        print(f"{program}: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return 130


def _list_spaces() -> int:
    from rich.console import Console

    from tuner.study.spaces import describe_spaces

    describe_spaces(Console())
    return 0


def _run(config: StudyConfig, argv: Sequence[str]) -> int:
    from rich.console import Console

    from tuner.verbosity import set_verbose

    set_verbose(config.verbose)
    console = Console()
    if config.submit is not None:
        from tuner.jobs.submit import submit

        return submit(config, argv, console)
    from tuner.study.launching import launch_study

    outcome = launch_study(config, console)
    return 0 if outcome is None else outcome.exit_code


if __name__ == "__main__":
    sys.exit(main())

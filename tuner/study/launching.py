"""A study from its settings to its summary, for a command and for Python. Imports torch and ray if needed."""

import dataclasses
import datetime
from typing import TYPE_CHECKING

from rich.console import Console

from tuner.bucket.copies import at_hand
from tuner.config import StudyConfig
from tuner.terminal.notice import notices

if TYPE_CHECKING:
    from tuner.study.run import StudyOutcome


def launch_study(config: StudyConfig, console: Console) -> "StudyOutcome | None":
    """Checks a study, runs the trials that it lacks, and prints what it found; None after `--dry-run`.

    Raises:
        ConfigError: one line that says what is wrong and what to do.
        KeyboardInterrupt: if it is interrupted before its trials run.
    """
    config = dataclasses.replace(config, runs_dir=at_hand(config.runs_dir, config.name))
    with notices(console) as notice:
        notice("checking the study")
        from tuner.cluster.start import Cluster
        from tuner.study.prepare import prepare
        from tuner.study.summary import print_dry_run, print_start, print_summary

        cluster = Cluster(config)
        try:
            prepared = prepare(config, datetime.datetime.now(), cluster.begin, notice)
            notice(None)
            print_start(console, prepared)
            from tinytl.device import with_threads
            from tuner.study.run import run_study

            with with_threads(1):  # as a trial on a CPU has, of which memory is predicted here
                if config.dry_run:
                    print_dry_run(console, prepared, notice)
                    return None
                outcome = run_study(prepared, console, cluster, notice)
        finally:
            cluster.abandon()
    print_summary(console, prepared, outcome)
    return outcome

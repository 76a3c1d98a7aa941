"""A study run from Python: the flags of `launch.py` as keyword arguments, and a study in return."""

import dataclasses
from pathlib import Path
from typing import Any

from tinytl.errors import ConfigError
from tinytl.files import full_disk_line
from tuner.api.flags import config_of, words_of
from tuner.api.study import Study
from tuner.config import StudyConfig
from tuner.installed import check_installed
from tuner.next_commands import called_as
from tuner.report.pieces import own_look
from tuner.stopping import sigterm_as_ctrl_c


def run(
    space: str | Path | None = None, dataset: str | None = None, trials: int | None = None, **flags: Any
) -> Study:
    """Runs a study as `launch.py` does, and returns it. A notebook shows how far it is.

        study = tuner.run(space="joint", dataset="imagefolder", data_dir="pictures", trials=24,
                          memory_budget_mib=60, set={"resolution": [96, 128]})

    A study without a complete trial is returned, too: `.trials` has the reasons.

    Args:
        space: name of a file in search_spaces/, or the path of a .yaml. Default: joint.
        dataset: name of a data set. Default: digits.
        trials: configurations to train. Default: 12.
        flags: every other flag of `launch.py`, with `_` for `-`, and the same default; `set` takes a mapping,
            too. `name` and `resume=True` resume a study with its own flags.

    Raises:
        ConfigError: for an unknown name, with the nearest known one, and for all that the command refuses, in
            the same words.
        KeyboardInterrupt: if it was interrupted: running trials ended their epoch and are saved, and
            `resume=True` continues them.
    """
    check_installed()
    words = words_of({"space": space, "dataset": dataset, "trials": trials} | flags)
    config = config_of(words)
    try:
        with called_as(["tuner", "launch", *words]), sigterm_as_ctrl_c(), own_look():
            return _run(config)
    except ConfigError:
        raise
    except Exception as error:
        if (line := full_disk_line(error)) is None:
            raise
        raise ConfigError(line) from error


def _run(config: StudyConfig) -> Study:
    from rich.console import Console

    from tuner.study.launching import launch_study
    from tuner.terminal.notebook import in_notebook
    from tuner.terminal.notebook_screen import notebook_console
    from tuner.verbosity import apply_verbosity, set_verbose

    set_verbose(config.verbose)
    apply_verbosity()
    outcome = launch_study(config, notebook_console() if in_notebook() else Console())
    assert outcome is not None  # only a dry run has none
    if outcome.interrupted:
        where = "" if config.runs_dir == StudyConfig.runs_dir else f"runs_dir={config.runs_dir!r}, "
        raise KeyboardInterrupt(f"resume with tuner.run(name={outcome.study.name!r}, {where}resume=True)")
    # It was read before this driver let go of it.
    return Study(dataclasses.replace(outcome.study, holder=None), config.storage)

"""How fast the machine is with which a study's slowdowns are predicted: that on which it began."""

from pathlib import Path

from tinytl.step_time.kept import times_are_kept

FILE = "step_times.json"
"""In a study's folder: how long operations take, as it was when the study began."""


def is_known(folder: Path) -> bool:
    """Whether a study in `folder` has nothing to measure before it predicts. Imports no torch."""
    return (folder / FILE).exists() or times_are_kept()


def use_times(folder: Path) -> None:
    """Lets predicted slowdowns be those with which the study in `folder` began, or for a new one, of this
    machine, which is measured if it was not yet: while nothing else runs.

    Raises:
        ConfigError: for a file of times that is none.
    """
    from tinytl.step_time.calibration import read_step_times, step_times, use_step_times

    if (folder / FILE).exists():
        use_step_times(read_step_times(folder / FILE))
    else:
        use_step_times(None)  # not those of another study that this process has run
        step_times()


def keep_times(folder: Path) -> None:
    """Writes the times in use into the folder of a study that has none."""
    from tinytl.step_time.calibration import step_times, write_step_times

    if not (folder / FILE).exists():
        write_step_times(step_times(), folder / FILE)

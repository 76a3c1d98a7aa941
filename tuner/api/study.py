"""A study for Python: one reading of it, as tables, pairs, a report, and a summary in a notebook."""

from pathlib import Path
from typing import TYPE_CHECKING

from tinytl.errors import ConfigError
from tuner.api.pages import study_html
from tuner.api.pair import Pair, pair_of
from tuner.api.tables import (
    baselines_table,
    contenders_table,
    curve_table,
    front_table,
    gains_table,
    trials_table,
)
from tuner.findings.best import choose_best
from tuner.findings.text import counts_line
from tuner.record import reading as readings
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial
from tuner.terminal.notebook import in_notebook, show_page

if TYPE_CHECKING:
    from pandas import DataFrame


class Study:
    """A study as it stood when it was read; `refresh` reads it again.

    Tables are pandas DataFrames, made anew at each access: change them freely. Memory is in MiB (`_mib`),
    time in seconds (`_s`), accuracy a fraction; a figure that is not known is NaN. In a notebook the study
    shows a summary with the picture of its front.
    """

    def __init__(self, reading: StudyReading, storage: str | None = None) -> None:
        """`storage`: URL of its Optuna storage, if it was named."""
        self.reading = reading
        self._storage = storage

    @property
    def name(self) -> str:
        """Its name."""
        return self.reading.name

    @property
    def folder(self) -> Path:
        """Its folder: `config.yaml`, `metrics.jsonl` and `last.pt` of each trial, a folder each."""
        return self.reading.folder

    @property
    def state(self) -> str:
        """`running`: a driver lives; `finished`: it has all its trials; else `unfinished`."""
        return self.reading.state

    @property
    def trials(self) -> "DataFrame":
        """A row per trial, in order: its state, its figures, then what was searched."""
        return trials_table(self.reading)

    @property
    def front(self) -> "DataFrame":
        """A row per pair of configuration and plan that no other beats in accuracy and memory, by rising
        memory.
        """
        return front_table(self.reading)

    @property
    def baselines(self) -> "DataFrame":
        """A row per trial that is a baseline of the space, such as `user_report`."""
        return baselines_table(self.reading)

    @property
    def contenders(self) -> "DataFrame":
        """A row per trial within the budget that cannot be told apart from the best, which is the first."""
        return contenders_table(self.reading)

    @property
    def gains(self) -> "DataFrame":
        """A row per baseline: by how much the best is better (`mean`), and how sure that is."""
        return gains_table(self.reading)

    def best(self, under_mib: float | None = None) -> Pair:
        """Returns the most accurate trial with its fastest plan that needs `under_mib` MiB or less.

        None: the study's own budget, or any memory if it has none.

        Raises:
            ConfigError: if no complete trial fits, or the trial's `config.yaml` is gone or damaged.
        """
        if under_mib is not None and not isinstance(under_mib, (int, float)):
            raise ConfigError(f"under_mib={under_mib!r}: give a number of MiB")
        return pair_of(choose_best(self.reading, under_mib))

    def curve(self, trial: str | Trial | Pair) -> "DataFrame":
        """Returns a row per plan of a trial that no other beats in memory and time, the fastest first.

        Raises:
            ConfigError: if there is no trial of that name; it names similar ones.
        """
        name = trial.trial if isinstance(trial, Pair) else trial.name if isinstance(trial, Trial) else trial
        return curve_table(self.reading.trial(name))

    def report(self, path: str | Path | None = None, trial: str | None = None) -> Path:
        """Writes the study as one HTML file that loads nothing, and returns its path; a notebook shows it.

        `path`: default RUNS_DIR/NAME/report.html. `trial`: whose mistakes it shows; default: the best.

        Raises:
            ConfigError: if no trial is complete, there is no such trial, or the file cannot be written.
        """
        from tuner.report.page import write_report_of

        written = write_report_of(self.reading, self._storage, None if path is None else str(path), trial)
        if in_notebook():
            show_page(written)
        return written

    def refresh(self) -> "Study":
        """Returns the study as it stands now.

        Raises:
            ConfigError: if it is gone, or its storage does not answer.
        """
        return open_study(self.name, self.reading.runs_dir, self._storage)

    def __repr__(self) -> str:
        return f"<Study {counts_line(self.reading)}, {self.state}>"

    def _repr_html_(self) -> str:
        return study_html(self.reading)


def open_study(name: str, runs_dir: str | Path = "runs", storage: str | None = None) -> Study:
    """Reads a study as it stands, whether it runs or has ended; changes nothing.

        study = tuner.open_study("flowers")
        study.front[["trial", "accuracy_top1", "peak_memory_mib"]]
        study.best(under_mib=60).command

    Args:
        name: of the study.
        runs_dir: the folder of all studies, or their bucket, as `--runs-dir` names it.
        storage: the URL of its Optuna storage; default: what the study's folder names.

    Raises:
        ConfigError: if there is no study of that name, its storage does not answer, or a file of its folder
            is damaged.
    """
    return Study(readings.open_study(name, str(runs_dir), storage), storage)

"""Studies side by side for Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.api.study import Study
from tuner.api.tables import frame
from tuner.findings.compare import Comparison, cells
from tuner.findings.compare import compare as compare_readings

if TYPE_CHECKING:
    from pandas import DataFrame


class StudyComparison:
    """Studies under the same budgets. In a notebook it shows their fronts in one picture, and a table."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    @property
    def table(self) -> "DataFrame":
        """A row per study and budget: the best trial, its accuracy, memory (MiB) and slowdown.

        `leads`: whether no other study is surely more accurate under that budget. A figure that is not known
        is NaN.
        """
        return frame(self.comparison.rows())

    @property
    def hypervolumes(self) -> dict[str, float]:
        """By study: its share, 0 to 1, of the area below the reference that all share; NaN if it has none."""
        found = {c.label: c.hypervolume for c in self.comparison.studies}
        return {name: float("nan") if v is None else v.fraction for name, v in found.items()}

    @property
    def differences(self) -> list[str]:
        """Why accuracies cannot be compared: the images or the metric differ. Empty: they can."""
        return list(self.comparison.differences)

    def write(self, folder: str | Path) -> list[Path]:
        """Writes a page, the picture, CSV and JSON to a folder; returns the files.

        Raises:
            ConfigError: if they cannot be written.
        """
        from tuner.report.comparison import write_comparison

        return write_comparison(self.comparison, Path(folder))

    def __repr__(self) -> str:
        titles, rows = cells(self.comparison)
        return "\n".join("  ".join(row) for row in [titles, *rows])

    def _repr_html_(self) -> str:
        from tuner.report.comparison import comparison_html

        return comparison_html(self.comparison)


def compare(*studies: Study, budgets_mib: Sequence[float] = ()) -> StudyComparison:
    """Returns studies side by side, under `budgets_mib` or four budgets that span all fronts.

        tuner.compare(tuner.open_study("a"), tuner.open_study("b"), budgets_mib=[40, 60]).table

    Raises:
        ConfigError: for fewer than two studies, or one twice, a budget that is not a number above 0, or if no
            study has a complete trial.
    """
    return StudyComparison(compare_readings([study.reading for study in studies], budgets_mib))

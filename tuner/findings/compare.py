"""Several studies side by side: their best under the same budgets, hypervolumes from one reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tinytl.config.names import METRICS
from tinytl.errors import ConfigError
from tuner.findings.difference import Difference
from tuner.findings.sureness import Sureness, gain_texts
from tuner.findings.text import capitalized
from tuner.record import schema
from tuner.record.reading import StudyReading
from tuner.record.results import Hypervolume, hypervolume
from tuner.record.trials import Trial, known

BUDGETS = 4
"""How many budgets there are unless they are given."""
OF_THE_DATA = (schema.DATASET, schema.CLASSES, schema.IMAGES, schema.IMAGES_DIGEST)
"""What has to be the same, so that accuracies can be compared."""
OF_THE_SEARCH = (schema.BACKBONE, schema.EPOCHS, schema.MAX_SLOWDOWN, schema.SPACE)
"""What may differ: it is why one compares, and is named."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One of the studies."""

    study: StudyReading
    label: str
    """Its name; of two with one name, with its folder."""
    best: Mapping[float, Trial | None]
    """By budget in MiB: the most accurate trial with its fastest plan that fits; None: none fits."""
    hypervolume: Hypervolume | None
    """From the reference that all share; None without a complete trial, or if memory is no objective."""
    gains: Mapping[str, Difference] = field(default_factory=dict)
    """By baseline: by how much the best within the study's own budget is better."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Studies under the same budgets."""

    studies: Sequence[Compared]
    budgets_mib: Sequence[float]
    """Rising, in MiB."""
    reference_mib: float
    """All hypervolumes are measured from accuracy 0 in so many MiB: the largest peak of a complete trial."""
    differences: Sequence[str]
    """Why accuracies cannot be compared: the data or the metric differs. Empty: they can."""
    notes: Sequence[str]
    """What else differs."""

    @property
    def comparable(self) -> bool:
        """Whether accuracies are of the same images, by the same metric."""
        return not self.differences

    def leaders(self, budget_mib: float) -> set[str]:
        """Returns the studies than which none is surely better under a budget.

        None if they cannot be compared. Without standard errors (an older study): those with the best metric.
        """
        found = {c.label: trial for c in self.studies if (trial := c.best[budget_mib]) is not None}
        if not self.comparable or not found:
            return set()
        best = max(found.values(), key=lambda trial: trial.score)
        return {name for name, trial in found.items() if not _surely_better(best, trial)}

    def rows(self) -> list[dict[str, Any]]:
        """Returns a dictionary per study and budget, for a table."""
        return [
            {
                "study": compared.label,
                "budget_mib": budget,
                "trial": trial and trial.name,
                **{name: trial and known(getattr(trial, name)) for name in METRICS},
                "standard_error": trial and known(trial.standard_error),
                **{f"test_{name}": trial and trial.on_test.get(name) for name in METRICS},
                "peak_memory_mib": trial and trial.peak_memory_mib,
                "slowdown": trial and known(trial.slowdown),
                "leads": compared.label in self.leaders(budget),
            }
            for compared in self.studies
            for budget, trial in compared.best.items()
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns what `python -m tuner compare --json` prints."""
        return {
            "comparable": self.comparable,
            "differences": list(self.differences),
            "notes": list(self.notes),
            "reference_mib": self.reference_mib,
            "studies": [
                {
                    "study": c.label,
                    "trials": c.study.counts,
                    "hypervolume": c.hypervolume and asdict(c.hypervolume),
                    "gains": {
                        name: {"mean": gain.mean, "standard_error": known(gain.standard_error)}
                        for name, gain in c.gains.items()
                    },
                }
                for c in self.studies
            ],
            "best": self.rows(),
        }


def _surely_better(best: Trial, other: Trial) -> bool:
    """Whether a score is higher by more than chance; its studies' seeds and images count as independent."""
    if math.isnan(best.standard_error + other.standard_error):
        return best.score > other.score
    return Difference(best.score - other.score, math.hypot(best.standard_error, other.standard_error)).is_sure


def compare(studies: Sequence[StudyReading], budgets_mib: Sequence[float] = ()) -> Comparison:
    """Returns studies side by side; without `budgets_mib`, under four that span all fronts.

    Raises:
        ConfigError: for fewer than two studies, or one twice, a budget that is not a number above 0, or if no
            study has a complete trial.
    """
    _check(studies, budgets_mib)
    budgets = sorted(set(budgets_mib)) or spanning_budgets(studies)
    reference_mib = max(trial.peak_memory_mib for study in studies for trial in study.complete)
    return Comparison(
        studies=[
            Compared(
                study=study,
                label=label,
                best={budget: study.under(budget).best for budget in budgets},
                hypervolume=hypervolume(study.complete, reference_mib) if study.searches_memory else None,
                gains=Sureness(study).gains,
            )
            for study, label in zip(studies, labels_of(studies), strict=True)
        ],
        budgets_mib=budgets,
        reference_mib=reference_mib,
        differences=_differing_data(studies) + _differing_metric(studies),
        notes=[line for key in OF_THE_SEARCH if (line := _differing(studies, key))],
    )


def labels_of(studies: Sequence[StudyReading]) -> list[str]:
    """Returns the studies' names; those that have one name have their folders, too."""
    names = [study.name for study in studies]
    return [
        study.name if names.count(study.name) == 1 else f"{study.name} ({study.runs_dir})"
        for study in studies
    ]


def spanning_budgets(studies: Sequence[StudyReading]) -> list[float]:
    """Returns budgets in MiB from the least memory on a front to the largest, rounded up, evenly in ratio."""
    peaks = [trial.peak_memory_mib for study in studies for trial in study.front]
    low, high = min(peaks), max(peaks)
    steps = [low * (high / low) ** (index / (BUDGETS - 1)) for index in range(BUDGETS)]
    return sorted({_rounded_up(step) for step in steps})


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Prints what differs, a row per study, and what the columns mean."""
    for line in lines_of(comparison):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    titles, rows = cells(comparison, errors=True)
    if _width(titles, rows) > console.width:  # a column per study: of two or three the figures fit
        titles, *rows = (list(line) for line in zip(titles, *rows, strict=True))
    table = Table(box=None, header_style="bold", pad_edge=False)
    for index, title in enumerate(titles):
        wide = max(len(row[index]) for row in rows)
        # Titles may be names of studies, which are folded; figures are never cut off.
        table.add_column(title, overflow="fold", min_width=wide if index else None)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _width(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Returns how many characters a line of the table needs."""
    return sum(max(map(len, column)) + 2 for column in zip(titles, *rows, strict=True))


def lines_of(comparison: Comparison) -> list[str]:
    """Returns whether the studies can be compared, and what the table's cells mean."""
    lines = [f"Accuracies cannot be compared: {difference}." for difference in comparison.differences]
    lines += [f"They differ in {note}." for note in comparison.notes]
    stars = "; * no study is surely better" if comparison.comparable else ""
    words = METRICS[comparison.studies[0].study.metric] if comparison.comparable else "metric"
    return [
        *lines,
        f"{capitalized(words)} (MiB) of each study's best under a budget{stars}. Hypervolume from {words} 0 "
        f"in {comparison.reference_mib:.1f} MiB, 1 at most.",
        *(
            f"{compared.label}: the search gained {', '.join(gained)}."
            for compared in comparison.studies
            if (gained := gain_texts(compared.gains))
        ),
    ]


def cells(comparison: Comparison, *, errors: bool = False) -> tuple[list[str], list[list[str]]]:
    """Returns the titles and the rows of the table, as text; with `errors`, with standard errors: wider."""
    titles = ["study", "complete", *(f"{budget:g} MiB" for budget in comparison.budgets_mib), "hypervolume"]
    rows = []
    for compared in comparison.studies:
        name, volume = compared.label, compared.hypervolume
        best = [
            _cell(trial, name in comparison.leaders(budget), errors)
            for budget, trial in compared.best.items()
        ]
        share = "-" if volume is None else f"{volume.fraction:.3f}"
        rows.append([name, str(compared.study.counts["complete"]), *best, share])
    return titles, rows


def _cell(trial: Trial | None, leads: bool, errors: bool) -> str:
    if trial is None:
        return "-"
    error = known(trial.standard_error) if errors else None
    spread = "" if error is None else f" ± {error:.3f}"
    return f"{trial.score:.3f}{spread} ({trial.peak_memory_mib:.1f}){' *' if leads else ''}"


def _check(studies: Sequence[StudyReading], budgets_mib: Sequence[float]) -> None:
    places = [study.folder.resolve() for study in studies]
    if len(places) < 2 or len(set(places)) < len(places):
        raise ConfigError("name two studies or more to compare, each once")
    for budget in budgets_mib:
        if not (budget > 0 and math.isfinite(budget)):
            raise ConfigError(f"--under-mib {budget:g}: must be a number above 0")
    if not any(study.complete for study in studies):
        names = ", ".join(study.name for study in studies)
        raise ConfigError(f"there is no complete trial in {names}: nothing can be compared yet")


def _differing_data(studies: Sequence[StudyReading]) -> list[str]:
    """Returns the first thing in which the data differs; an older study does not know all."""
    for key in OF_THE_DATA:
        line = _differing(studies, key)
        if line:
            return [f"they are of different images ({line})"]
    return []


def _differing_metric(studies: Sequence[StudyReading]) -> list[str]:
    metrics = dict(zip(labels_of(studies), (study.metric for study in studies), strict=True))
    if len(set(metrics.values())) == 1:
        return []
    return [f"the metric differs ({_each(metrics)})"]


def _differing(studies: Sequence[StudyReading], key: str) -> str | None:
    """Returns each study's value of an attribute if they differ; None if not, as far as they are known."""
    found = (study.attributes.get(key) for study in studies)
    values = dict(zip(labels_of(studies), found, strict=True))
    known_values = {name: value for name, value in values.items() if value is not None}
    if len({str(value) for value in known_values.values()}) < 2:
        return None
    return f"{key.replace('_', ' ')}: {_each(known_values)}"


def _each(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _rounded_up(value: float) -> float:
    """Returns a number with two significant digits that is not smaller."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.6g}")

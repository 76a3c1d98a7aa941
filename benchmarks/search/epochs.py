r"""Epochs to the front that stock OptunaSearch (TPE) has after its whole budget, on a table of real trials.

Each search runs with the same two workers, 20 seeds; an epoch of any trial costs one. Its goal is the
hypervolume that stock OptunaSearch with the same seed has after its 64 trials, all trained to their end.
Only trials trained to their end count for the hypervolume. Minutes on one core.

    python -m benchmarks.search.epochs --table benchmarks/results/search_table_MACHINE_YYYYMM.json \
        --json benchmarks/results/search_epochs_MACHINE_YYYYMM.json --figure docs/search_epochs.png
"""

import argparse
import json
import logging
import math
import statistics
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import optuna

from benchmarks.search.epochs_figure import plot_search_epochs
from benchmarks.search.peers import Moasha, RaySearch, check_peers
from benchmarks.search.simulated import History, Searcher, Table, read_rows, simulate
from benchmarks.search.table import row_key, table_space
from benchmarks.shared.machine import write_result
from tinytl.errors import ConfigError
from tuner.search.sampling import Proposals
from tuner.search.scheduler import Rungs

WORKERS = 2
STOCK_TRIALS = 64
GIVES_UP = 2
"""A search that has not reached the goal after this many budgets counts as never reaching it."""
CURVE_POINTS = 64
REPEATED_IN_A_ROW = 500
"""Ours ends if this many candidates in a row have run before, as tuner/search/searcher.py does."""
STOCK = "Ray OptunaSearch (TPE)"
OURS = "ours"


class Ours:
    """The tuner's sampling and rungs, as `searcher.py` joins them: the next trial is chosen one ahead."""

    def __init__(
        self,
        table: Table,
        seed: int,
        *,
        sampler: str = "tpe",
        rule: str = "pareto",
        epochs: tuple[int, ...] = (2,),
        skips_known: bool = True,
        one_ahead: bool = True,
    ) -> None:
        self.table = table
        self.proposals = Proposals(sampler=sampler, seed=seed, space=table_space(), searches_memory=True)
        self.rungs = None if rule == "none" else Rungs(rule=rule, epochs=epochs, reduction_factor=3)
        self.skips_known = skips_known
        self.one_ahead = one_ahead
        self.known: set[str] = set()
        self.prepared = self._find() if one_ahead else None

    def next_trial(self) -> tuple[Hashable, Mapping[str, Any]] | None:
        """Returns the trial that was prepared, and prepares another."""
        if not self.one_ahead:
            return self._find()
        found = self.prepared
        if found is not None:
            self.prepared = self._find()
        return found

    def goes_on(self, trial: Hashable, epoch: int, accuracy: float, memory_mib: float) -> bool:
        """Asks the rungs; a stopped trial is reported to the sampler."""
        if self.rungs is None or epoch not in self.rungs:
            return True
        going = self.rungs.goes_on(str(trial), epoch, accuracy, memory_mib)
        if not going:
            self.proposals.stopped(trial, accuracy, memory_mib)
        return going

    def finished(self, trial: Hashable, accuracy: float, memory_mib: float) -> None:
        """Reports the trial to the sampler."""
        self.proposals.complete(trial, accuracy, memory_mib)

    def _find(self) -> tuple[Hashable, Mapping[str, Any]] | None:
        for _ in range(REPEATED_IN_A_ROW):
            number, values = self.proposals.propose()
            key = row_key(values)
            if key not in self.known or not self.skips_known:
                self.known.add(key)
                self.proposals.start(number)
                return number, values
            self.proposals.reject(number)
        return None


@dataclass(frozen=True)
class Competitor:
    """A search by name, and how to make it from the table and a seed."""

    name: str
    make: Callable[[Table, int], Searcher]
    ablation: bool = False


def competitors() -> list[Competitor]:
    """Returns stock first, then its peers, ours, and ours with a part left out or replaced."""
    found = [
        Competitor(STOCK, lambda table, seed: RaySearch(table_space(), seed)),
        Competitor(
            "Ray OptunaSearch (NSGA-II)",
            lambda table, seed: RaySearch(table_space(), seed, optuna.samplers.NSGAIISampler(seed=seed)),
        ),
        Competitor(
            "random",
            lambda table, seed: RaySearch(table_space(), seed, optuna.samplers.RandomSampler(seed=seed)),
        ),
        Competitor("Syne Tune MOASHA", lambda table, seed: Moasha(table_space(), seed, table.epochs)),
        Competitor(
            "Syne Tune MOASHA, ranks mended",
            lambda table, seed: Moasha(table_space(), seed, table.epochs, mended=True),
        ),
        Competitor(OURS, Ours),
    ]
    found += [
        Competitor(
            f"{sampler}, {rule}",
            lambda table, seed, s=sampler, r=rule: Ours(table, seed, sampler=s, rule=r),
            True,
        )
        for sampler in ("tpe", "nsga2", "random")
        for rule in ("none", "asha", "pareto")
        if (sampler, rule) != ("tpe", "pareto")
    ]
    found += [
        Competitor(
            "runs configurations again", lambda table, seed: Ours(table, seed, skips_known=False), True
        ),
        Competitor(
            "asked when a worker is free", lambda table, seed: Ours(table, seed, one_ahead=False), True
        ),
    ]
    found += [
        Competitor(
            f"rungs {', '.join(map(str, epochs))}",
            lambda table, seed, e=epochs: Ours(table, seed, epochs=e),
            True,
        )
        for epochs in ((1,), (4,), (1, 3), (2, 4))
    ]
    return found


def search(competitor: Competitor, table: Table, seed: int, goal: float) -> History:
    """Runs a search for the stock budget, and longer until it reaches `goal` or gives up."""
    budget = STOCK_TRIALS * table.epochs
    return simulate(
        competitor.make(table, seed),
        table,
        workers=WORKERS,
        epochs=budget,
        goal=goal,
        most_epochs=GIVES_UP * budget,
    )


def stock_history(table: Table, seed: int) -> History:
    """Runs stock OptunaSearch: its whole budget of trials, each to its end."""
    budget = STOCK_TRIALS * table.epochs
    return simulate(
        RaySearch(table_space(), seed), table, workers=WORKERS, epochs=budget, trials=STOCK_TRIALS
    )


def summary(
    name: str, histories: Sequence[History], stock: Sequence[History], table: Table, *, ablation: bool
) -> dict[str, Any]:
    """Returns the figures of one search over all seeds; ratios beyond GIVES_UP are None."""
    budget = STOCK_TRIALS * table.epochs
    goals = [history.at(budget) for history in stock]
    needed = [history.epochs_to(goal) for history, goal in zip(histories, goals, strict=True)]
    firsts = [history.epochs_to(goal) for history, goal in zip(stock, goals, strict=True)]
    whole = [math.inf if n is None else n / budget for n in needed]
    first = [math.inf if n is None else n / f for n, f in zip(needed, firsts, strict=True)]
    grid = [round(budget * i / CURVE_POINTS) for i in range(CURVE_POINTS + 1)]
    volumes = [[history.at(epochs) / table.hypervolume for history in histories] for epochs in grid]
    return {
        "search": name,
        "ablation": ablation,
        "epochs_needed": needed,
        "never": sum(n is None for n in needed),
        "of_whole_budget": quartiles(whole),
        "of_stock_first_reach": quartiles(first),
        "hypervolume_at_budget": quartiles(volumes[-1]),
        "trials_median": statistics.median(h.started for h in histories),
        "complete_median": statistics.median(h.complete for h in histories),
        "curve": {"epochs": grid, "quartiles": [quartiles(column) for column in volumes]},
    }


def quartiles(values: Sequence[float]) -> list[float | None]:
    """Returns the lower quartile, the median and the upper quartile; None if one is infinite.

    Of the two values around a quantile the larger counts: an average with infinity would mean nothing.
    """
    ordered = sorted(values)
    picked = [ordered[math.ceil(q * (len(ordered) - 1))] for q in (0.25, 0.5, 0.75)]
    return [None if math.isinf(value) else value for value in picked]


def markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of a table: median and quartiles."""
    lines = [
        "| search | epochs / stock's whole budget | epochs / stock's own to get there | never "
        "| front at the budget |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (_spread(row[key]) for key in ("of_whole_budget", "of_stock_first_reach"))
        share = row["hypervolume_at_budget"]
        lines.append(
            f"| {row['search']} | {' | '.join(cells)} | {row['never']} of {len(row['epochs_needed'])} "
            f"| {share[1]:.3f} ({share[0]:.3f} to {share[2]:.3f}) |"
        )
    return lines


def _spread(values: Sequence[float | None]) -> str:
    low, middle, high = ("never" if value is None else f"{value:.2f}" for value in values)
    return f"{middle} ({low} to {high})"


@cache
def _table(path: Path) -> Table:
    return read_rows(json.loads(path.read_text())["rows"])


def _run(job: tuple[Path, str, int, float | None]) -> History:
    """Runs a search by name with a seed; without a goal, stock's whole budget."""
    path, name, seed, goal = job
    logging.disable()  # Ray and Optuna announce each study
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    if goal is None:
        return stock_history(_table(path), seed)
    competitor = next(c for c in competitors() if c.name == name)
    return search(competitor, _table(path), seed, goal)


def main() -> None:
    """Runs every search with every seed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--table", type=Path, required=True, help="result of benchmarks.search.table")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[], help="names of searches; default: all")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    try:
        check_peers()
    except ConfigError as error:
        parser.error(str(error))
    table = _table(args.table)
    seeds = range(args.seeds)
    budget = STOCK_TRIALS * table.epochs
    rows = []
    with ProcessPoolExecutor(args.processes, get_context("spawn")) as pool:
        stock = list(pool.map(_run, [(args.table, STOCK, seed, None) for seed in seeds]))
        goals = [history.at(budget) for history in stock]
        for competitor in competitors():
            if args.only and competitor.name not in args.only:
                continue
            jobs = [(args.table, competitor.name, *pair) for pair in zip(seeds, goals, strict=True)]
            histories = stock if competitor.name == STOCK else list(pool.map(_run, jobs))
            rows.append(summary(competitor.name, histories, stock, table, ablation=competitor.ablation))
            print(markdown(rows[-1:])[-1], flush=True)
    print("\n".join(["", *markdown(rows)]))
    result = {
        "settings": {
            "table": args.table.name,
            "configurations": len(table.rows),
            "workers": WORKERS,
            "seeds": args.seeds,
            "stock_trials": STOCK_TRIALS,
            "epochs_a_trial": table.epochs,
            "budget_epochs": budget,
            "given_up_after_budgets": GIVES_UP,
            "reference_point": {"accuracy_top1": 0.0, "peak_memory_mib": table.worst_memory_mib},
            "goal_of_table": quartiles([goal / table.hypervolume for goal in goals]),
            "stock_reached_goal_after_epochs": [h.epochs_to(g) for h, g in zip(stock, goals, strict=True)],
        },
        "rows": rows,
    }
    if args.json:
        write_result(args.json, result)
    if args.figure:
        plot_search_epochs(result, args.figure)


if __name__ == "__main__":
    main()

"""Studies of trials that train nothing, through the real driver, whose calls are timed.

The driver of a study (`tuner.study.run.run_study`) runs as it is: searcher, samplers, scheduler, record and
the terminal's lines. Ray and training are replaced. A loop calls what Ray Tune's loop calls, in its order, as
the epochs of a simulated study end: accuracies rise as learning curves do, one trial in fifty fails, and each
trial's `metrics.jsonl` is written when it ends. Predictions are replaced, too: a formula gives each
configuration's curve of plans. (A real one needs 2 to 6 s of CPU for each new shape, and is kept.) The final
front is neither trained again nor measured. Ray's own work is not in these figures: `overhead` has it.
"""

import datetime
import functools
import heapq
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.search.overhead import resident_mib

TENTHS = 10
NAME = "scale"


@dataclass(frozen=True, kw_only=True)
class Size:
    """One study that is simulated."""

    trials: int
    epochs: int
    workers: int
    sampler: str
    scheduler: str
    storage: str

    @property
    def flags(self) -> list[str]:
        """The flags of `launch.py`, without those of places."""
        names = ("trials", "epochs", "workers", "sampler", "scheduler")
        values = [word for name in names for word in (f"--{name}", str(getattr(self, name)))]
        return [*values, "--space", "joint", "--weights", "none", "--tracking-uri", "none", "--name", NAME]


class Meter:
    """CPU time of single calls in their own threads, by tenth of the study."""

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.spent: dict[str, list[list[float]]] = {}
        self.tenths: list[dict[str, float]] = []
        self.warm_mib = self.ended = 0.0

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns `function`, with its calls timed under `name`."""
        own = self.spent.setdefault(name, [[] for _ in range(TENTHS)])

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                own[min(TENTHS - 1, int(self.ended * TENTHS / self.trials))].append(
                    time.thread_time() - start
                )

        return call

    def trial_ended(self, warm_up: int) -> None:
        """Counts a trial."""
        self.ended += 1
        if self.ended == min(warm_up, self.trials):
            self.warm_mib = resident_mib()

    def figures(self) -> dict[str, Any]:
        """Returns means in ms by name, of all and by tenth, and the slowest report."""
        found: dict[str, Any] = {}
        for name, tenths in self.spent.items():
            every = [spent for tenth in tenths for spent in tenth]
            found[f"{name}_ms"] = round(statistics.fmean(every) * 1e3, 4)
            found[f"{name}_ms_by_tenth"] = [
                round(statistics.fmean(tenth) * 1e3, 4) if tenth else None for tenth in tenths
            ]
            found[f"{name}_ms_slowest"] = round(max(every) * 1e3, 2)
        now = resident_mib()
        return found | {
            "reports": sum(map(len, self.spent["report"])),
            "driver_mib": round(now, 1),
            "driver_growth_mib": round(now - self.warm_mib, 1),
        }


def made_up_curve(config: Any) -> list[Any]:
    """Returns plans of a configuration by a formula, the fastest first; no prediction is made."""
    from tinytl.config.plan import Plan

    share = {"FT-Last": 0.6, "TinyTL-B": 0.7, "TinyTL-L": 0.8, "TinyTL-L+B": 0.9, "FT-Norm+Last": 1.7}
    sample_mib = 5 * share.get(config.method, 2.5) * (config.resolution / 96) ** 2
    fixed_mib = 12.0 + config.kernel_size + 4 * config.expand
    halvings = 1 if config.norm == "batch_norm" else config.batch_size.bit_length()
    sizes = [config.batch_size >> halved for halved in range(halvings)]
    return [
        Plan(
            micro_batch_size=size,
            checkpoint=checkpoint,
            stock_below_kib=0.0,
            peak_memory_mib=fixed_mib + sample_mib * size * part,
            slowdown=config.batch_size / size * 0.15 + 0.85 + extra,
        )
        for size in sizes
        for checkpoint, part, extra in (("none", 1.0, 0.0), ("depthwise", 0.7, 0.07))
    ]


class SimulatedTrial:
    """A trial's epochs: an accuracy that rises to a height, as `tuner.trial.trainable` reports them."""

    def __init__(self, suggestion: Mapping[str, Any], epochs: int) -> None:
        from tinytl.runs.directory import RunDirectory

        self.ray = SimpleNamespace(trial_id=suggestion["name"], config=dict(suggestion))
        self.config, self.epochs = suggestion["config"], epochs
        self.draw = random.Random(suggestion["name"])
        self.directory = RunDirectory(Path(suggestion["folder"]))
        self.rows: list[dict[str, Any]] = []
        size = self.config.resolution / 96
        rate = abs(math.log10(self.config.base_lr) + 3)
        self.height = min(0.98, 0.55 + 0.3 * size - 0.1 * rate + self.draw.gauss(0, 0.03))
        self.epoch_time_s = (5 + suggestion["trained_memory_mib"] / 20) * self.draw.uniform(0.9, 1.1)
        self.fails_at = self.draw.randint(1, epochs) if self.draw.random() < 0.02 else None

    def report(self) -> dict[str, Any]:
        """Returns the report of the next epoch."""
        epoch, given = len(self.rows) + 1, self.ray.config
        if epoch == self.fails_at:
            failure = {"failure": f"the loss is nan in epoch {epoch}"}
            return {"done": True, "epoch": epoch, "peak_memory_mib": given["peak_memory_mib"]} | failure
        accuracy = self.height * (1 - 0.6 * math.exp(-4 * epoch / self.epochs)) + self.draw.gauss(0, 0.004)
        measured_mib = given["trained_memory_mib"] * self.draw.uniform(0.98, 1.03)
        row = {
            "epoch": epoch,
            "loss": 2.3 * (1 - accuracy) + 0.1,
            "train_accuracy_top1": accuracy - 0.03,
            "accuracy_top1": accuracy,
            "balanced_accuracy": accuracy - 0.01,
            "macro_f1": accuracy - 0.01,
            "val_loss": 2.3 * (1 - accuracy),
            "epoch_time_s": self.epoch_time_s,
            "images_per_s": 1000 / self.epoch_time_s,
            "measured_peak_mib": measured_mib,
            "lr.classifier": self.config.base_lr * (1 - epoch / self.epochs),
            "peak_memory_mib": given["peak_memory_mib"],
            "trained_memory_mib": given["trained_memory_mib"],
            **given["plans"],
            "timestamp_ms": int(time.time() * 1000),
            "device_name": "simulated",
        }
        self.rows.append(row)
        finished = epoch == self.epochs
        names = ("epoch", "accuracy_top1", "peak_memory_mib", "measured_peak_mib", "epoch_time_s")
        return (
            {"score": accuracy}
            | {name: row[name] for name in names}
            | {"row": row, "finished": finished, "done": finished}
        )


def simulate(search: Any, scheduler: Any, callback: Any, size: Size, meter: Meter) -> None:
    """Calls what Ray Tune's loop calls, with `size.workers` trials at a time, until the search is done."""
    from ray.tune.schedulers import TrialScheduler
    from ray.tune.search.searcher import Searcher

    suggest = meter.timed("suggest", search.suggest)
    complete = meter.timed("complete", search.on_trial_complete)

    def report(trial: SimulatedTrial, result: dict[str, Any]) -> bool:
        """Whether the trial goes on: Ray asks the scheduler about all reports but the last."""
        decision = (
            TrialScheduler.STOP if result["done"] else scheduler.on_trial_result(None, trial.ray, result)
        )
        if decision != TrialScheduler.STOP:
            search.on_trial_result(trial.ray.trial_id, result)
        callback.on_trial_result(0, [], trial.ray, result)
        return bool(decision != TrialScheduler.STOP)

    report = meter.timed("report", report)
    ends: list[tuple[float, int, SimulatedTrial]] = []
    begun, now, more = 0, 0.0, True
    while more or ends:
        while more and len(ends) < size.workers:
            trial_id = f"{begun:05d}"
            suggestion = suggest(trial_id)
            if suggestion == Searcher.FINISHED or (suggestion is None and not search.remaining):
                more = False
            elif suggestion is None:
                time.sleep(0.001)  # no worker waits in a simulated study: the next one is looked for
            else:
                trial = SimulatedTrial(suggestion, size.epochs)
                trial.ray.trial_id = trial_id
                heapq.heappush(ends, (now + trial.epoch_time_s, begun, trial))
                begun += 1
        if not ends:
            break
        now, number, trial = heapq.heappop(ends)
        result = trial.report()
        if report(trial, result):
            heapq.heappush(ends, (now + trial.epoch_time_s, number, trial))
        else:
            trial.directory.write_metrics(trial.rows)
            complete(trial.ray.trial_id, result)
            meter.trial_ended(size.workers)


def drive(size: Size, runs_dir: str, url: str | None, resume: bool = False) -> dict[str, Any]:
    """Runs the study, or extends it to `size.trials`, in this process; returns what it cost."""
    from rich.console import Console

    from tuner.cluster.resources import TrialResources
    from tuner.config import parse_study
    from tuner.search import candidates, sampling
    from tuner.study import ray_tune, run
    from tuner.study.prepare import prepare
    from tuner.study.summary import print_summary

    flags = [*size.flags, "--runs-dir", runs_dir]
    flags += [] if url is None else ["--storage", url]
    config = parse_study([*flags, *(["--resume"] if resume else [])])[0]
    prepared = prepare(config, datetime.datetime.now())
    meter = Meter(size.trials)

    opened: dict[str, float] = {}

    def run_trials(prepared: Any, search: Any, scheduler: Any, resources: Any) -> None:
        opened["s"] = round(time.process_time() - begun_s, 1)
        simulate(search, scheduler, ray_tune._Epochs(search.observers), size, meter)

    cluster: Any = SimpleNamespace(begin=lambda: None, end=lambda: None, dashboard_url=lambda: "")
    resources = TrialResources(workers=size.workers, cpus_per_trial=1.0)
    run.nodes_of = lambda *given: []
    run.plan_resources = lambda *given: resources
    run._predict_first = run._look_again = lambda *given: None
    ray_tune.run_trials = run_trials
    candidates.curve_under_plan = made_up_curve
    candidates.Candidates.find = meter.timed("find", candidates.Candidates.find)
    sampling.Proposals.propose = meter.timed("propose", sampling.Proposals.propose)
    begun_s, start = time.process_time(), time.monotonic()
    with Path(os.devnull).open("w") as nowhere:
        console = Console(file=nowhere)
        outcome = run.run_study(prepared, console, cluster)
        cpu_s = round(time.process_time() - begun_s, 1)
        print_summary(console, prepared, outcome)  # as `launch.py` does; it keeps what decides
    assert outcome.study.ended == size.trials, outcome.study.counts
    if resume:
        means = meter.figures()
        return {"resume_s": opened["s"]} | {
            f"resumed_{key}": means[key] for key in ("propose_ms", "report_ms")
        }
    counts = {"trials_by_state": outcome.study.counts, "on_front": len(outcome.study.front)}
    return counts | {"cpu_s": cpu_s, "wall_s": round(time.monotonic() - start, 1)} | meter.figures()


def drive_apart(*args: Any, **given: Any) -> dict[str, Any]:
    """Returns the result of `drive` in a process of its own."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(drive, *args, **given).result()

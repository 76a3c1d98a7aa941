"""What does the search itself cost: time per report and per trial, and the driver's memory?

A thousand trials that train nothing, with five reports each, go through the real search, scheduler,
callbacks, storage and tracking (SQLite), with two workers and with the samplers tpe and random. They are
compared with bare Ray Tune (random search, actors reused, no callback), and with a hundred trials of it with
Ray's MLflowLoggerCallback. Each runs in a process of its own. `report_ms` is the time per report in the
driver's thread inside `on_trial_result` of scheduler, search and callbacks. `driver_cpu_ms` is all CPU time
of the process per report, Ray's own and other threads included. Ray's start is not counted, the study's
closing is. Memory growth is counted from the end of the fiftieth trial to the end of the last.

    python -m benchmarks.search.overhead --json benchmarks/results/search_overhead_MACHINE_YYYYMM.json
"""

import argparse
import datetime
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import write_result
from benchmarks.shared.places import ROOT

SPACE_FILE = Path(__file__).with_suffix(".yaml")
REPORTS = 5
WORKERS = 2
WARM_UP = 50
PREDICTED = {"report_ms": 0.5, "overhead_ms_a_trial": 70, "memory_growth_mib": 80}
"""Figures of ours with tpe, expected before the first run."""


def resident_mib() -> float:
    """Returns this process's resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


class Meter:
    """Counts what a run costs, from `begin` to `figures`."""

    def __init__(self) -> None:
        self.report_s: dict[str, list[float]] = {}
        self.ended: list[tuple[float, float]] = []
        """When each trial ended, in seconds of a monotonic clock, and the process's MiB then."""

    def begin(self, *things: object) -> None:
        """Starts the clocks; `on_trial_result` of Ray's callbacks and of `things` is timed."""
        from ray.tune.callback import CallbackList

        for kind in (CallbackList, *map(type, things)):
            kind.on_trial_result = self._timed(kind.__name__, kind.on_trial_result)
        self.started, self.cpu = time.monotonic(), time.process_time()

    def trial_ended(self) -> None:
        """Notes the end of a trial."""
        self.ended.append((time.monotonic(), resident_mib()))

    def figures(self) -> dict[str, Any]:
        """Returns what a trial and a report cost."""
        wall_s, cpu_s = time.monotonic() - self.started, time.process_time() - self.cpu
        trials = len(self.ended)
        reports = trials * REPORTS
        means = {name: sum(spent) / reports * 1e3 for name, spent in self.report_s.items()}
        warm, last_mib = self.ended[min(WARM_UP, trials) - 1][1], self.ended[-1][1]
        gaps = [b - a for (a, _), (b, _) in itertools.pairwise(self.ended)]
        return {
            "trials": trials,
            "report_ms": round(sum(means.values()), 4),
            "report_ms_by_class": {name: round(mean, 4) for name, mean in means.items()},
            "report_ms_slowest": round(
                max((max(s) for s in self.report_s.values() if s), default=0) * 1e3, 2
            ),
            "driver_cpu_ms": round(cpu_s / reports * 1e3, 3),
            "overhead_ms_a_trial": round(wall_s / trials * 1e3, 2),
            "between_ends_ms": {
                "first_half": round(statistics.mean(gaps[: trials // 2]) * 1e3, 2),
                "second_half": round(statistics.mean(gaps[trials // 2 :]) * 1e3, 2),
            },
            "memory_mib": [round(warm, 1), round(last_mib, 1)],
            "memory_growth_mib": round(last_mib - warm, 1),
        }

    def _timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        spent = self.report_s.setdefault(name, [])

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent.append(time.perf_counter() - start)

        return call


def ours(sampler: str, trials: int, folder: Path) -> dict[str, Any]:
    """Runs `launch.py`'s search, with a trainable that trains nothing but writes its rows."""
    from ray.tune import Trainable
    from rich.console import Console

    from tinytl.runs.directory import RunDirectory
    from tuner.cluster.start import Cluster
    from tuner.config import parse_study
    from tuner.study import ray_tune
    from tuner.study.prepare import prepare
    from tuner.study.run import run_study

    class NoOp(Trainable):
        """Reports as an epoch would."""

        def setup(self, config: dict[str, Any], **shared: Any) -> None:
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.directory = RunDirectory(Path(new_config["folder"]))
            self.peak_memory_mib, self.epoch = new_config["peak_memory_mib"], 0
            return True

        def step(self) -> dict[str, Any]:
            self.epoch += 1
            row = epoch(self.epoch, self.peak_memory_mib)
            self.directory.append_metrics(row)
            finished = self.epoch == REPORTS
            names = ("epoch", "accuracy_top1", "peak_memory_mib", "measured_peak_mib", "epoch_time_s")
            result = {name: row[name] for name in names} | {"score": row["accuracy_top1"]}
            return result | {"row": row, "finished": finished, "done": finished}

    class Ends:
        """Follows the study, and notes when trials end."""

        def trial_started(self, name: str, params: object, searched: object, source: object) -> None:
            pass

        def epoch_ended(self, name: str, row: object) -> None:
            pass

        def trial_ended(self, name: str, state: str, reason: str | None) -> None:
            meter.trial_ended()

    meter = Meter()
    flags = [
        "--trials",
        str(trials),
        "--epochs",
        str(REPORTS),
        "--workers",
        str(WORKERS),
        "--weights",
        "none",
    ]
    flags += ["--sampler", sampler, "--space", str(SPACE_FILE), "--runs-dir", str(folder)]
    config = parse_study(flags)[0]
    cluster = Cluster(config)
    prepared = prepare(config, datetime.datetime.now(), cluster.begin)
    real = ray_tune.run_trials

    def run_trials(prepared: Any, search: Any, scheduler: Any, resources: Any) -> None:
        search.observers = [*search.observers, Ends()]
        meter.begin(search, scheduler)
        real(prepared, search, scheduler, resources, trainable=NoOp)

    ray_tune.run_trials = run_trials
    with Path(os.devnull).open("w") as nowhere:
        run_study(prepared, Console(file=nowhere), cluster)
    return meter.figures()


def bare(trials: int, folder: Path, with_mlflow: bool) -> dict[str, Any]:
    """Runs Ray Tune with random search."""
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class NoOp(tune.Trainable):
        """Reports as an epoch would."""

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.epoch = 0
            return True

        def setup(self, config: dict[str, Any]) -> None:
            self.epoch = 0

        def step(self) -> dict[str, Any]:
            self.epoch += 1
            return epoch(self.epoch, 30.0) | {"done": self.epoch == REPORTS}

    class Ends(tune.Callback):
        """Notes when trials end."""

        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            meter.trial_ended()

        def __getstate__(self) -> dict[str, Any]:
            return {}

    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    meter = Meter()
    callbacks: list[Any] = []
    if with_mlflow:
        callbacks.append(MLflowLoggerCallback(f"sqlite:///{folder}/mlflow.db", experiment_name="digits"))
    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    tuner = tune.Tuner(
        NoOp,
        param_space={"base_lr": tune.loguniform(1e-4, 1e-2), "batch_size": tune.choice([8, 16])},
        tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=WORKERS, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(folder), callbacks=[*callbacks, Ends()], verbose=0),
    )
    meter.begin()
    tuner.fit()
    return meter.figures()


def epoch(number: int, peak_memory_mib: float) -> dict[str, Any]:
    """Returns the report of an epoch."""
    flat = {"epoch": number, "loss": 1 / number, "train_accuracy_top1": 0.5, "accuracy_top1": 1 - 1 / number}
    flat |= {"val_loss": 1 / number, "epoch_time_s": 0.0, "images_per_s": 0.0, "lr.classifier": 1e-3}
    return flat | {
        "peak_memory_mib": peak_memory_mib,
        "measured_peak_mib": peak_memory_mib,
        "timestamp_ms": int(time.time() * 1000),
    }


def main() -> None:
    """Runs each arm in a process of its own, prints and writes the figures."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--arms", nargs="+", default=["random", "tpe", "bare", "mlflow_callback"])
    parser.add_argument("--only", nargs=2, metavar=("ARM", "FILE"), help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.only:
        arm, file = args.only
        folder = Path(file).parent
        if arm in ("bare", "mlflow_callback"):
            row = bare(args.trials, folder, with_mlflow=arm == "mlflow_callback")
        else:
            row = ours(arm, args.trials, folder)
        Path(file).write_text(json.dumps(row))
        return
    rows = {}
    load = os.getloadavg()[0]
    for arm in args.arms:
        # The bare arms are slow if Tune does not reuse their processes.
        trials = max(1, args.trials // 10) if arm in ("bare", "mlflow_callback") else args.trials
        with tempfile.TemporaryDirectory() as temporary:
            file = Path(temporary) / "figures.json"
            command = [sys.executable, "-m", "benchmarks.search.overhead", "--trials", str(trials)]
            done = subprocess.run([*command, "--only", arm, file], cwd=ROOT, capture_output=True, text=True)
            if not file.exists():
                raise RuntimeError(f"{arm}: {(done.stdout + done.stderr)[-3000:]}")
            rows[arm] = json.loads(file.read_text())
        print(arm, rows[arm], flush=True)
        if args.json:  # after each arm: a later failure loses no measurement
            figures = {"load_average_before": round(load, 2), "predicted_before": PREDICTED, "arms": rows}
            write_result(args.json, figures | {"reports": REPORTS, "workers": WORKERS})


if __name__ == "__main__":
    main()

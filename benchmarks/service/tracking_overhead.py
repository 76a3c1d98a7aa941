r"""What does MLflow over HTTP cost the driver? 200 trials of 20 epochs, recorded on a real server.

The calls are those of a study, in its order, with two trials at a time and an epoch every `--epoch-s` seconds
(far faster than any real one). Tracking gathers what comes within a second; here within a tenth of an epoch,
and more if the server falls behind. The same program without tracking is subtracted.

- `calls_ms_a_report`: time of the main thread inside StudyTracking's calls.
- `cpu_ms_a_report`: CPU time of the driver's process, its MLflow thread included.
- `percent_of_driver`: that CPU time over the time between two reports, for epochs of this many seconds;
  `percent_where_each_report_is_a_call`: the same if nothing were gathered, which is the most that it can be.

`close` comes after the last epoch, when nothing trains; its seconds are counted apart.

    python -m benchmarks.service.tracking_overhead \
        --json benchmarks/results/tracking_overhead_MACHINE_YYYYMM.json
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import write_result
from tuner.tracking import live as tracking

PREDICTED = {"calls_ms_a_report": 0.02, "cpu_ms_a_report": 8.0, "percent_of_driver_5s": 0.4, "close_s": 10}
"""Expected before the first run."""
EPOCHS_S = (1.0, 2.0, 5.0, 20.0)
WORKERS = 2


def measure(trials: int, epochs: int, epoch_s: float, with_tracking: bool) -> dict[str, Any]:
    """Records a study on a server as its driver would; returns seconds."""
    from tests.support import mlflow_studies as made
    from tests.support.mlflow_server import Server
    from tinytl.config.flat import flat_from_config
    from tuner.tracking.client import open_mlflow

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        open_mlflow(f"sqlite:///{folder / 'mlflow.db'}")
        server = Server(folder / "mlflow.db")
        try:
            prepared = made.prepared_study(folder, tracking_uri=server.uri)
            study = made.new_study(prepared)
            told_of = tracking.StudyTracking(prepared, study) if with_tracking else None
            calls = 0
            if told_of is not None:
                log_batch = told_of.runs.client.log_batch

                def counted(*args: Any, **kwargs: Any) -> None:
                    nonlocal calls
                    calls += 1
                    log_batch(*args, **kwargs)

                told_of.runs.client.log_batch = counted
            inside = 0.0
            started, cpu = time.monotonic(), time.process_time()
            begun = started
            for first in range(0, trials, WORKERS):
                group = range(first, min(first + WORKERS, trials))
                names = {index: made.trial_name(index) for index in group}
                asked = {index: made.start(study, index) for index in group}
                params = {i: flat_from_config(made.planned_config(i)) for i in group}
                told: list[tuple[Any, ...]] = [
                    ("trial_started", names[i], params[i], asked[i].params, None) for i in group
                ]
                for epoch in range(1, epochs + 1):
                    begun += epoch_s
                    time.sleep(max(0.0, begun - time.monotonic()))
                    now = {"timestamp_ms": int(time.time() * 1000)}
                    told += [("epoch_ended", names[i], full_row(i, epoch) | now) for i in group]
                    inside += tell(told_of, told)
                    told = []
                for index in group:
                    made.write_folder(prepared, index, epochs)
                    made.end(study, asked[index], index)
                inside += tell(told_of, [("trial_ended", names[i], "complete", None) for i in group])
            wall_s, cpu_s = time.monotonic() - started, time.process_time() - cpu
            before = time.monotonic()
            if told_of is not None:
                told_of.close(study, interrupted=False)
            close_s = time.monotonic() - before
        finally:
            server.kill()
    return {"wall_s": wall_s, "cpu_s": cpu_s, "inside_s": inside, "close_s": close_s, "calls": calls}


def full_row(index: int, epoch: int) -> dict[str, Any]:
    """Returns a row with every metric that a trial of the joint space has."""
    from tests.support import mlflow_studies as made

    more = {"train_accuracy_top1": 0.5, "val_loss": 1.0, "measured_peak_mib": 40.0, "images_per_s": 100.0}
    return made.row(index, epoch) | more | {"lr.late": 1e-3, "lr.early": 1e-4}


def tell(told_of: Any, told: list[tuple[Any, ...]]) -> float:
    """Makes the calls; returns the seconds inside them."""
    if told_of is None:
        return 0.0
    start = time.perf_counter()
    for name, *args in told:
        getattr(told_of, name)(*args)
    return time.perf_counter() - start


def main() -> None:
    """Measures with and without tracking, prints and writes the figures."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--epoch-s", type=float, default=0.1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    load = os.getloadavg()[0]
    tracking.GATHER_S = args.epoch_s / 10
    told = measure(args.trials, args.epochs, args.epoch_s, True)
    without = measure(args.trials, args.epochs, args.epoch_s, False)
    reports = args.trials * args.epochs
    cpu_ms = 1e3 * (told["cpu_s"] - without["cpu_s"]) / reports
    a_call_ms = cpu_ms * reports / told["calls"]  # with the making and ending of runs
    figures = {
        "load_average_before": round(load, 2),
        "predicted_before": PREDICTED,
        "trials": args.trials,
        "epochs": args.epochs,
        "workers": WORKERS,
        "epoch_s": args.epoch_s,
        "calls_of_log_batch_before_close": told["calls"],
        "calls_ms_a_report": round(1e3 * told["inside_s"] / reports, 4),
        "cpu_ms_a_report": round(cpu_ms, 3),
        "cpu_ms_a_call": round(a_call_ms, 2),
        "percent_of_driver": {f"{s:g} s": round(cpu_ms / 10 / (s / WORKERS), 3) for s in EPOCHS_S},
        "percent_where_each_report_is_a_call": {
            f"{s:g} s": round(a_call_ms / 10 / (s / WORKERS), 3) for s in EPOCHS_S
        },
        "close_s": round(told["close_s"], 2),
    }
    print(figures)
    if args.json:
        write_result(args.json, figures)


if __name__ == "__main__":
    main()

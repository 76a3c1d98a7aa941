"""How far does one study go? Thousands of trials on 64 workers that train nothing, through the real driver.

`benchmarks.search.driven_study` says what is real in such a study, and what is replaced.

Then the project's commands run on the study as processes of their own: `status`, `best`, `report`, for
`status` as text a second time without what was kept of what decides (`status_as_text_anew_s`), for
studies of up to `--sync-most` trials `sync` to MLflow (SQLite), and `--resume` with the sampler tpe and as
many more trials as there are workers: `resume_s` until the first can start, `resumed_propose_ms` for each
configuration.

Times are CPU seconds of a thread or a process, so that others on the machine count little. `report_ms` is the
main thread's time per report in `on_trial_result` of scheduler, search and callbacks. `find_ms` is the time
per trial in the search's own thread until its configuration is known and recorded, `propose_ms` the sampler's
part of it. Each has a value for every tenth of the study, so growth shows. Memory grows from the end of the
64th trial to the end of the last. A row is kept as soon as it is measured: a call that was cut off resumes.

    python -m benchmarks.search.scale --json benchmarks/results/search_scale_MACHINE_YYYYMM.json
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.search.driven_study import NAME, Size, drive_apart
from benchmarks.shared.machine import write_result
from benchmarks.shared.places import ROOT
from tuner.findings.kept_importance import FILE as WHAT_DECIDES

MUSTS = {"report_ms": 0.1, "driver_growth_mib": 500, "status_s": 5, "report_s": 60}
PREDICTED = {
    "report_ms": 0.02,
    "driver_growth_mib": 300,
    "journal_mb": 45,
    "postgresql_mb_of_1000": 12,
    "propose_ms_last_tenth": 400,
    "status_s": 12,
    "report_s": 120,
    "report_mb": 25,
    "sync_s_of_1000": 60,
    "breaks_first": "the sampler (tpe over 10,000 trials), then the report's importance of parameters",
}
"""For 10,000 trials of 20 epochs, expected before the first run."""


def timed_command(command: str, *flags: str, out: Path, name: str | None = None) -> dict[str, float]:
    """Runs `python -m tuner COMMAND` on the study; returns its CPU seconds, and by the clock."""
    start = time.monotonic()
    with out.open("w") as output:
        argv = [sys.executable, "-m", "tuner", command, NAME, *flags]
        process = subprocess.Popen(argv, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command}: {out.read_text()[-2000:]}")
    return {
        f"{name or command}_s": round(usage.ru_utime + usage.ru_stime, 2),
        f"{name or command}_wall_s": round(time.monotonic() - start, 2),
    }


def sizes_on_disk(runs_dir: Path, url: str | None) -> dict[str, float]:
    """Returns what the record and the study's folder need, in MB; a trial's checkpoints are not written."""
    files = [path for path in (runs_dir / NAME).rglob("*") if path.is_file()]
    found = {"files": len(files), "folder_mb": round(sum(path.stat().st_size for path in files) / 1e6, 1)}
    if url is None:
        return found | {"journal_mb": round((runs_dir / "optuna.journal").stat().st_size / 1e6, 2)}
    from sqlalchemy import create_engine, text

    with create_engine(url).connect() as connection:
        held = connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()
    return found | {"postgresql_mb": round(held / 1e6, 2)}


@contextlib.contextmanager
def database(storage: str, folder: Path) -> Iterator[str | None]:
    """Gives the address of an empty database, None for the journal."""
    if storage == "journal":
        yield None
        return
    from tests.support.postgres import postgres

    with postgres(folder) as server:
        yield server.url()


def measure(size: Size, sync: bool) -> dict[str, Any]:
    """Returns the figures of one study."""
    row: dict[str, Any] = {"storage": size.storage, "trials": size.trials, "epochs": size.epochs}
    row |= {"workers": size.workers, "sampler": size.sampler, "scheduler": size.scheduler}
    with tempfile.TemporaryDirectory() as temporary, database(size.storage, Path(temporary)) as url:
        runs_dir, out = Path(temporary) / "runs", Path(temporary) / "out"

        row |= drive_apart(size, str(runs_dir), url)
        print(row, flush=True)
        row |= sizes_on_disk(runs_dir, url)
        flags = ["--runs-dir", str(runs_dir), *([] if url is None else ["--storage", url])]
        for command in ("status", "best"):
            row |= timed_command(command, "--json", *flags, out=out)
        row |= timed_command("status", *flags, out=out, name="status_as_text")
        (runs_dir / NAME / WHAT_DECIDES).unlink(missing_ok=True)
        row |= timed_command("status", *flags, out=out, name="status_as_text_anew")
        row |= timed_command("report", *flags, out=out)
        row["report_mb"] = round((runs_dir / NAME / "report.html").stat().st_size / 1e6, 1)
        if sync:
            mlflow = ["--tracking-uri", f"sqlite:///{runs_dir / 'mlflow.db'}"]
            row |= timed_command("sync", *flags, *mlflow, out=out)
            row["mlflow_mb"] = round((runs_dir / "mlflow.db").stat().st_size / 1e6, 1)
            row |= timed_command("sync", *flags, *mlflow, out=out, name="sync_again")
        more = replace(size, trials=size.trials + size.workers, sampler="tpe")
        row |= drive_apart(more, str(runs_dir), url, resume=True)
    return row


def main() -> None:
    """Measures each size that the file does not have yet."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--trials", type=int, nargs="+", default=[200, 1000, 3000, 10000])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--sampler", default="tpe")
    parser.add_argument("--scheduler", default="none", help="none, asha or pareto")
    parser.add_argument("--storage", choices=("journal", "postgresql"), default="journal")
    parser.add_argument("--sync-most", type=int, default=200, help="largest study that goes to MLflow")
    parser.add_argument("--quick", action="store_true", help="20 trials of 3 epochs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    trials, epochs = ([20], 3) if args.quick else (args.trials, args.epochs)
    rows = []
    if args.json and args.json.exists():
        rows = json.loads(args.json.read_text())["rows"]
    for count in trials:
        size = Size(
            trials=count,
            epochs=epochs,
            workers=args.workers,
            sampler=args.sampler,
            scheduler=args.scheduler,
            storage=args.storage,
        )
        if any(all(row[name] == value for name, value in vars(size).items()) for row in rows):
            continue
        load = round(os.getloadavg()[0], 2)
        row = measure(size, sync=count <= args.sync_most) | {"load_average_before": load}
        print(json.dumps(row), flush=True)
        rows.append(row)
        if args.json:
            write_result(args.json, {"musts": MUSTS, "predicted_before": PREDICTED, "rows": rows})


if __name__ == "__main__":
    main()

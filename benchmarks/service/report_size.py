"""How large is the report of a large study, and how long until its last figure is drawn?

A study of 500 trials of 20 epochs that were never trained is written with the code for real ones: Optuna's
journal, a run folder per trial, two rungs, a front, failures. `python -m tuner report` makes its page, which
then opens five times in headless Chromium, at desktop and at phone width. By the page's own clock, from the
navigation on: `front_s` until the front is drawn, `opened_s` until every figure in or near the window is
drawn, `all_figures_s` with the time to draw every figure for printing. `opening_cpu_s` is the work of the
page's own thread until it was open. Nothing else should run beside it.

    python -m benchmarks.service.report_size --json benchmarks/results/report_size_MACHINE_YYYYMM.json
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.shared.machine import write_result
from benchmarks.shared.places import ROOT
from tests.support.browser import DESKTOP, PHONE, opened_page
from tests.support.synthetic_study import write_study

OPENINGS = 5
DRAW_ALL = """() => {
  const start = performance.now();
  dispatchEvent(new Event("beforeprint"));
  return performance.now() - start;
}"""
"""What printing does: every figure is drawn, also those that are already drawn."""
PREDICTED = {"mb": 5.8, "make_s": 15, "front_s": 0.9, "opened_s": 1.2, "all_figures_s": 2.0}
"""Expected at desktop width before the first run; `opened_s`, for figures drawn late, was added later."""


def opening(page_file: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Opens the page in a fresh browser; returns seconds until figures are drawn, and requests."""
    asked: list[str] = []
    with opened_page(size) as page:
        page.on("request", lambda request: asked.append(request.url))
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        page.goto(page_file.as_uri())
        page.wait_for_selector("html[data-opened]", state="attached")
        front_ms, opened_ms = page.evaluate(
            "['front drawn', 'opened'].map(name => performance.getEntriesByName(name)[0].startTime)"
        )
        metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
        others_ms = page.evaluate(DRAW_ALL)
    return {
        "front_s": round(front_ms / 1000, 3),
        "opened_s": round(opened_ms / 1000, 3),
        "opening_cpu_s": round(metrics["TaskDuration"], 3),
        "all_figures_s": round((opened_ms + others_ms) / 1000, 3),
        "other_requests": sum(url != page_file.as_uri() for url in asked),
    }


def figures(trials: int, epochs: int) -> dict[str, Any]:
    """Returns size and seconds of the report of a synthetic study."""
    with tempfile.TemporaryDirectory() as folder:
        write_study(Path(folder), "large", trials, epochs)
        command = [sys.executable, "-m", "tuner", "report", "large", "--runs-dir", folder]
        start = time.monotonic()
        subprocess.run(command, cwd=ROOT, check=True)
        made_s = time.monotonic() - start
        page_file = Path(folder, "large", "report.html")
        found: dict[str, Any] = {
            "trials": trials,
            "epochs": epochs,
            "load_average_before": round(os.getloadavg()[0], 2),
            "mb": round(page_file.stat().st_size / 1e6, 3),
            "make_s": round(made_s, 2),
        }
        for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
            runs = [opening(page_file, size) for _ in range(OPENINGS)]
            found[name] = {
                key: round(statistics.median(run[key] for run in runs), 3)
                for key in ("front_s", "opened_s", "opening_cpu_s", "all_figures_s")
            } | {"runs": runs}
    return found


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    found = figures(args.trials, args.epochs)
    for name in ("desktop", "phone"):
        own = found[name]
        print(
            f"{name}: front {own['front_s']} s, opened {own['opened_s']} s ({own['opening_cpu_s']} s of the "
            f"page's thread), all {own['all_figures_s']} s"
        )
    print(f"{found['mb']} MB, made in {found['make_s']} s")
    if args.json:
        write_result(args.json, {"predicted": PREDICTED} | found)


if __name__ == "__main__":
    main()

"""How large is the report of a large study, and how long until its last figure is drawn?

A study of 500 trials of 20 epochs that were never trained is written with the code for real ones: Optuna's
journal, a run folder per trial, two rungs, a front, failures. `python -m tuner report` makes its page, which
then opens five times in headless Chromium, at desktop and at phone width. By the page's own clock, from the
navigation on: `front_s` until the front is drawn, `opened_s` until every figure in or near the window is
drawn, `all_figures_s` with the time to draw every figure for printing. `opening_cpu_s` is the work of the
page's own thread until it was open. Nothing else should run beside it.

With `--classes`, its trials have judged pictures of so many classes, and `tinytl check` has found something:
the page has all its galleries. The pictures are noise in colours, which JPEG compresses badly: thumbnails are
as large as they may be.

    python -m benchmarks.service.report_size --json benchmarks/results/report_size_MACHINE_YYYYMM.json
    python -m benchmarks.service.report_size --trials 100 --classes 20 --json FILE
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
from tests.support.checked_pictures import blurred, patterned, several, write_pictures
from tests.support.judged_study import judge_complete_trials
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
PREDICTED_WITH_GALLERIES = {"mb": 7.1, "opened_s": 1.5}
"""Of 100 trials: 5.0 MB without galleries, and 300 thumbnails of 5 KiB, a third larger as text."""


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
        "other_requests": sum(url != page_file.as_uri() and not url.startswith("data:") for url in asked),
    }


def write_pictures_to_show(folder: Path, n_classes: int) -> None:
    """Writes pictures of 256 px: some are copies across splits, some dark, some blurred."""
    counts = {f"train/c{turn:03d}": 6 for turn in range(n_classes)}
    pictures = several(counts | {f"val/c{turn:03d}": 6 for turn in range(n_classes)})
    pictures = {name: patterned(turn, (256, 256)) for turn, name in enumerate(pictures)}
    for turn in range(n_classes):
        pictures[f"train/c{turn:03d}/copy.png"] = pictures[f"val/c{turn:03d}/0.png"]
        pictures[f"train/c{turn:03d}/dark.png"] = patterned(10**6 + turn, (256, 256), high=30)
        pictures[f"train/c{turn:03d}/blurred.png"] = blurred(patterned(2 * 10**6 + turn, (256, 256)))
    write_pictures(folder, pictures)


def figures(trials: int, epochs: int, n_classes: int) -> dict[str, Any]:
    """Returns size and seconds of the report of a synthetic study; with classes, it has galleries."""
    with tempfile.TemporaryDirectory() as folder:
        study = write_study(Path(folder), "large", trials, epochs)
        program, env = [sys.executable, "-m"], os.environ | {"XDG_CACHE_HOME": f"{folder}/cache"}
        if n_classes:
            pictures = Path(folder, "pictures")
            write_pictures_to_show(pictures, n_classes)
            judge_complete_trials(study, Path(folder, "large"), pictures)
            check = ["tinytl", "check", "--dataset", "imagefolder", "--data-dir", str(pictures)]
            subprocess.run([*program, *check], cwd=ROOT, env=env, check=True, stdout=subprocess.DEVNULL)
        command = [*program, "tuner", "report", "large", "--runs-dir", folder]
        start = time.monotonic()
        subprocess.run(command, cwd=ROOT, env=env, check=True)
        made_s = time.monotonic() - start
        page_file = Path(folder, "large", "report.html")
        found: dict[str, Any] = {
            "trials": trials,
            "epochs": epochs,
            "load_average_before": round(os.getloadavg()[0], 2),
            "mb": round(page_file.stat().st_size / 1e6, 3),
            "make_s": round(made_s, 2),
        }
        if n_classes:
            found |= {"classes": n_classes, "thumbnails": page_file.read_text().count("data:image/jpeg")}
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
    parser.add_argument("--classes", type=int, default=0, help="of the pictures in its galleries")
    parser.add_argument("--json", type=Path, help="file to write")
    args = parser.parse_args()
    found = figures(args.trials, args.epochs, args.classes)
    for name in ("desktop", "phone"):
        own = found[name]
        print(
            f"{name}: front {own['front_s']} s, opened {own['opened_s']} s ({own['opening_cpu_s']} s of the "
            f"page's thread), all {own['all_figures_s']} s"
        )
    shown = f", {found['thumbnails']} thumbnails" if args.classes else ""
    print(f"{found['mb']} MB{shown}, made in {found['make_s']} s")
    if args.json:
        predicted = PREDICTED_WITH_GALLERIES if args.classes else PREDICTED
        write_result(args.json, {"predicted": predicted} | found)


if __name__ == "__main__":
    main()

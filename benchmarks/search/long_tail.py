"""Does a search by macro F1 find a better network for rare classes than one by top-1 accuracy?

For each seed a long-tailed copy of the images is made: the largest class has `FACTOR` times the training
pictures of the smallest, with an exponential law between (Cui et al., Class-Balanced Loss, CVPR 2019). The
classes are ranked by the pictures that they have; the seed draws which of them stay. Test images are as they
were, and the copy is one of links. Validation images are cut from the training ones and have the tail, too,
as a user's have. Then two studies of the same space, seed, trials and epochs run on it, one by each metric,
and the test images judge the best of each.

Studies are kept under `--runs`, so a call that was cut off resumes. Without `--data-dir` the images are those
of digits.

    python -m benchmarks.search.long_tail --data-dir FOLDER \
        --json benchmarks/results/search_long_tail_MACHINE_YYYYMM.json
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks.shared.machine import write_result
from benchmarks.shared.places import ROOT
from tinytl.data.sets.digits import load_digits
from tinytl.data.sets.imagefolder import load_imagefolder
from tinytl.data.splits import ImageFiles, ImageSet, Split
from tinytl.files import write_whole
from tuner.config import STUDY_FILE
from tuner.record.reading import open_study

FACTOR = 20.0
SPACE = Path(__file__).with_suffix(".yaml")
METRICS = ("macro_f1", "accuracy_top1")
"""The first is held against the second."""
PREDICTED = {
    "test macro_f1, by macro_f1 minus by accuracy_top1": 0.02,
    "test accuracy_top1, by macro_f1 minus by accuracy_top1": -0.005,
    "the best by macro_f1 weights classes or balances its sampling, of three seeds": 3,
}
"""On emoji. Written before the first run."""


def tail(available: Sequence[int], factor: float = FACTOR) -> list[int]:
    """Returns how many pictures of each class stay, so that the largest is `factor` times the smallest.

    Classes are ranked by their pictures; rank k of K has factor ** (-k / (K - 1)) of the first one's. As many
    stay as all classes have for that.

    Raises:
        ValueError: if the smallest class would have none, or there are fewer than two classes.
    """
    if len(available) < 2:
        raise ValueError(f"{len(available)} classes have no tail")
    ranked = sorted(range(len(available)), key=lambda label: -available[label])
    shares = {label: factor ** (-rank / (len(ranked) - 1)) for rank, label in enumerate(ranked)}
    largest = min(available[label] / shares[label] for label in ranked)
    kept = [min(most, round(largest * shares[label])) for label, most in enumerate(available)]
    if min(kept) < 1:
        raise ValueError(f"classes of {list(available)} pictures have no tail of factor {factor:g}")
    return kept


def drawn(labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Returns the rows that stay, `(M,)`, in order."""
    rng = np.random.default_rng(seed)
    kept = tail(np.bincount(labels).tolist())
    rows = [rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in enumerate(kept)]
    return np.sort(np.concatenate(rows))


def long_tailed(source: Path, folder: Path, seed: int) -> Path:
    """Makes the long-tailed copy of a folder of classes, of links, unless it is there; returns its folder."""
    root = folder / f"{source.resolve().name}-tail-{FACTOR:g}-{seed}"
    if _mark(root).exists():
        return root
    data = load_imagefolder(str(source), side=1)
    test = data.val if data.test is None else data.test
    training = [data.train] if data.test is None else [data.train, data.val]
    files = [(path, label) for part in training for path, label in _files(part)]
    rows = drawn(np.array([label for _, label in files], dtype=np.int64), seed)
    _link([files[row] for row in rows], root / "train", data.classes)
    _link(_files(test), root / "test", data.classes)
    write_whole(_mark(root), "")
    return root


def digits_folder(folder: Path) -> Path:
    """Writes the digits as a folder of training and of test images, unless it is there; returns it."""
    root = folder / "digits"
    if _mark(root).exists():
        return root
    data = load_digits()
    assert data.test is not None
    for split, parts in (("train", (data.train, data.val)), ("test", (data.test,))):
        for number, part in enumerate(parts):
            assert isinstance(part, ImageSet)
            for row, (image, label) in enumerate(zip(part.images, part.labels, strict=True)):
                place = root / split / data.classes[label] / f"{number}-{row:04d}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(place)
    write_whole(_mark(root), "")
    return root


def _mark(root: Path) -> Path:
    """Returns the file beside a copy that says that the copy is whole."""
    return root.with_name(f"{root.name}.whole")


def _files(part: Split) -> list[tuple[Path, int]]:
    assert isinstance(part, ImageFiles)
    return [(part.path(row).resolve(), int(label)) for row, label in enumerate(part.labels)]


def _link(files: Sequence[tuple[Path, int]], folder: Path, classes: Sequence[str]) -> None:
    for number, (path, label) in enumerate(files):
        link = folder / classes[label] / f"{number:05d}{path.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(path)


def study_of(images: Path, seed: int, metric: str, args: argparse.Namespace) -> dict[str, Any]:
    """Runs or resumes a study by a metric; returns what its best says of the test images."""
    name = f"{images.name}-{metric}"
    command = [sys.executable, "launch.py", "--name", name, "--runs-dir", str(args.runs.resolve())]
    command += ["--trials", str(args.trials)]
    if (args.runs / name / STUDY_FILE).exists():
        command.append("--resume")
    else:
        command += ["--space", str(SPACE), "--dataset", "imagefolder", "--data-dir", str(images.resolve())]
        command += ["--metric", metric, "--seed", str(seed), "--epochs", str(args.epochs)]
        command += ["--set", f"resolution={args.resolution}", "--race-share", "0", "--tracking-uri", "none"]
    subprocess.run(command, cwd=ROOT, check=True)
    best = open_study(name, str(args.runs)).best
    assert best is not None and best.on_test, f"study {name} has no best that was tested"
    return {
        "trial": best.name,
        "params": dict(best.params),
        "validation": round(best.score, 4),
        **{f"test_{name}": round(best.on_test[name], 4) for name in (*METRICS, "balanced_accuracy")},
    }


def searched(seed: int, source: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Runs both studies of a seed; returns what they found, and by how much the first is better."""
    images = long_tailed(source, args.runs / "images", seed)
    counts = {part.name: len(list(part.iterdir())) for part in sorted((images / "train").iterdir())}
    row: dict[str, Any] = {"seed": seed, "training_pictures": counts}
    row |= {metric: study_of(images, seed, metric, args) for metric in METRICS}
    for name in METRICS:
        key = f"test_{name}"
        row[f"gain_{name}"] = round(row[METRICS[0]][key] - row[METRICS[1]][key], 4)
    return row


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns mean and standard error over the seeds of both bests' figures and of their differences."""
    figures: dict[str, list[float]] = {}
    for row in rows:
        for name in METRICS:
            figures.setdefault(f"gain_{name}", []).append(row[f"gain_{name}"])
            for metric in METRICS:
                figures.setdefault(f"test_{name}_by_{metric}", []).append(row[metric][f"test_{name}"])
    return {
        name: {
            "mean": round(statistics.mean(values), 4),
            "standard_error": round(statistics.stdev(values) / math.sqrt(len(values)), 4)
            if len(values) > 1
            else None,
        }
        for name, values in figures.items()
    }


def main() -> None:
    """Runs what is missing; prints and writes each seed and the summary."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data-dir", type=Path, help="folder of classes; val/ without test/ is tested on")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks/long_tail"))
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    os.nice(5)  # a benchmark of accuracies: what is timed goes first
    source = args.data_dir or digits_folder(args.runs / "images")
    settings = {name: getattr(args, name) for name in ("trials", "epochs", "resolution")} | {"factor": FACTOR}
    rows: list[dict[str, Any]] = []
    for seed in args.seeds:
        rows.append(searched(seed, source, args))
        print(rows[-1], flush=True)
        found = {"predicted_before": PREDICTED, "images": source.resolve().name, "settings": settings}
        write_result(args.json, found | {"summary": summary(rows), "rows": rows})


if __name__ == "__main__":
    main()

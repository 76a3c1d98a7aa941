"""Writes the tables and figures of docs/results.md, and the first table into README.md, from result files."""

import argparse
import json
import statistics

from benchmarks.shared.markdown import Result, cells, fill, source, table
from benchmarks.shared.places import RESULTS, ROOT
from benchmarks.transfer.published import (
    CHECKPOINT_REPORT_MB,
    FINETUNE_CHECKPOINT_MB,
    FINETUNE_REPORT,
    FINETUNE_REPORT_MB,
    FINETUNE_REPORT_TOP1,
    PAPER_CIFAR10,
    TINYTL_REPORT_CIFAR10,
)
from tinytl.config.names import METHODS

SPARSE = "Sparse, frozen_bn, as TinyTL-L+B, fisher"

SETS = {"emoji-val-as-test": "emoji", "digits": "digits"}
"""Data sets by name, and as the page calls them."""
ORDER_OF_NORMS = ("frozen_bn", "batch_norm", "group_norm")
PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"


def top1(row: Result) -> str:
    """Returns mean and standard error over seeds, in percent."""
    error = "" if row["standard_error"] is None else f" ± {100 * row['standard_error']:.1f}"
    return f"{100 * row['accuracy_top1_mean']:.1f}{error}"


def comparison(result: Result) -> list[str]:
    """One line per variant: accuracy and rate on each data set and backbone, and memory on the first set."""
    rows = {(row["dataset"], row["backbone"], row["variant"]): row for row in result["rows"]}
    places = sorted({(dataset, backbone) for dataset, backbone, _ in rows}, key=place_order)
    first = places[0][0]
    lines = []
    for name in sorted({row["variant"] for row in result["rows"]}, key=variant_order):
        found = [rows.get((*place, name)) for place in places]
        memory = [rows.get((*place, name)) for place in places if place[0] == first]
        lines.append(
            cells(
                name,
                *("" if row is None else f"{top1(row)} ({row['base_lr']:.1g})" for row in found),
                *("" if row is None else f"{row['least_mib']:.1f}" for row in memory),
            )
        )
    heads = [f"{SETS[dataset]}, {backbone}" for dataset, backbone in places]
    mib = [f"MiB, {backbone}" for dataset, backbone in places if dataset == first]
    return [*table(["top-1, % (base lr)", *heads, *mib], lines), *source(result)]


def place_order(place: tuple[str, str]) -> tuple[int, str]:
    """By data set, then by backbone."""
    return list(SETS).index(place[0]), place[1]


def variant_order(name: str) -> tuple[int, int, int, str]:
    """By method, norm, and whether something is stored in fewer bits."""
    method, norm, *more = name.split(", ")
    return METHODS.index(method), ORDER_OF_NORMS.index(norm), len(more), name


def published(figures: tuple[float, float] | None) -> str:
    """Returns accuracy and memory as they were published."""
    return "" if figures is None else f"{figures[1]:g} · {figures[0]} MB"


def methods(result: Result) -> list[str]:
    """Every backbone and method: memory at 96 and 224 px, and published figures."""
    lines = []
    for row in result["rows"]:
        memory = (row["memory"][pixels] for pixels in ("96", "224"))
        report = TINYTL_REPORT_CIFAR10.get(row["backbone"], {}).get(row["method"])
        paper = PAPER_CIFAR10.get(row["method"]) if row["backbone"] == "proxylessnas_mobile" else None
        lines.append(
            cells(
                f"{row['backbone']}, {row['method']}, {row['norm']}",
                *(f"{at['lean_mib']:.1f} of {at['stock_mib']:.1f}" for at in memory),
                published(report),
                published(paper),
            )
        )
    ours = ["MiB of stock's, 96 px", "MiB of stock's, 224 px"]
    theirs = ["the report: *train* top-1, % · MB", "the paper: test top-1, % · MB"]
    return [*table(["", *ours, *theirs], lines), *source(result)]


def ratios(result: Result) -> list[str]:
    """Memory of each method as a share of full fine-tuning's, at 224 px: ours and as published."""
    at_224 = {(row["backbone"], row["method"]): row["memory"]["224"] for row in result["rows"]}
    lines = []
    for backbone, report in TINYTL_REPORT_CIFAR10.items():
        paper = PAPER_CIFAR10 if backbone == "proxylessnas_mobile" else {}
        for method in report:
            ours = at_224[backbone, method]
            full = at_224[backbone, "FT-Full"]
            lines.append(
                cells(
                    f"{backbone}, {method}",
                    *(f"{ours[way] / full[way]:.2f}" for way in ("stock_mib", "lean_mib")),
                    f"{report[method][0] / report['FT-Full'][0]:.2f}",
                    f"{paper[method][0] / paper['FT-Full'][0]:.2f}" if paper else "",
                )
            )
    head = ["memory, FT-Full = 1", "stock", "lean", "the report, of a process", "the paper, by its formula"]
    return [*table(head, lines), *source(result)]


def checkpoints(result: Result) -> list[str]:
    """Full fine-tuning of MobileNetV2 without and with checkpoints, here and in both reports."""
    found = {
        (row["batch_size"], row["engine"], row["checkpoint"]): row["predicted_mib"]
        for row in result["rows"]
        if (row["backbone"], row["norm"]) == ("mobilenet_v2", "batch_norm")
    }
    lines = [
        cells(
            batch_size,
            *(
                fall((found[batch_size, engine, "none"], found[batch_size, engine, "all"]))
                for engine in ("stock", "lean")
            ),
            *(fall(report.get(batch_size)) for report in (FINETUNE_CHECKPOINT_MB, CHECKPOINT_REPORT_MB)),
        )
        for batch_size in dict.fromkeys(size for size, _, _ in found)
    ]
    head = ["batch", "stock, MiB", "lean, MiB", "report on separate rates, MB", "TinyTL report, MB"]
    return [*table(head, lines), *source(result)]


def fall(memory: tuple[float, float] | None) -> str:
    """Returns memory without and with checkpoints, and their ratio."""
    return "" if memory is None else f"{memory[0]:g} → {memory[1]:g} ({memory[1] / memory[0]:.2f})"


def readme(result: Result) -> list[str]:
    """The photographs under frozen statistics, a line per method: accuracy, and memory on the last backbone.

    Of Sparse the line of TinyTL-L+B's memory.
    """
    dataset = next(iter(SETS))
    rows = {(row["backbone"], row["variant"]): row for row in result["rows"] if row["dataset"] == dataset}
    backbones = sorted({backbone for backbone, _ in rows})
    lines = []
    names = {f"{method}, frozen_bn" for method in METHODS} | {SPARSE}
    for name in sorted(names & {name for _, name in rows}, key=variant_order):
        found = [rows[backbone, name] for backbone in backbones if (backbone, name) in rows]
        if len(found) == len(backbones):
            words = name.replace(", frozen_bn", "")
            lines.append(cells(words, *map(top1, found), f"{found[-1]['least_mib']:.1f}"))
    return table(["top-1, %, and MiB of a step", *backbones, f"{backbones[-1]}, MiB"], lines)


def memory(result: Result) -> list[str]:
    """Batches of 1 and of 64: measured MiB of each way, and those of the report."""
    found = {(r["method"], r["batch_size"], r["way"]): r["measured_mib"] for r in result["rows"]}
    ways = list(dict.fromkeys(way for _, _, way in found))
    lines = []
    for method, batch_size in dict.fromkeys((m, n) for m, n, _ in found):
        report = FINETUNE_REPORT_MB[method][0 if batch_size == 1 else 1]
        measured = [f"{found[method, batch_size, way]:.1f}" for way in ways]
        lines.append(cells(f"{method}, batch {batch_size}", *measured, report))
    return [*table(["", *ways, "the report, MB"], lines), *source(result)]


def variants(result: Result) -> list[str]:
    """The compared variants, the most accurate first, with accuracy, rate and memory."""
    lines = [
        cells(row["variant"], top1(row), f"{row['base_lr']:.1g}", f"{row['least_mib']:.1f}")
        for row in sorted(result["rows"], key=lambda row: -row["accuracy_top1_mean"])
    ]
    return [*table(["", "top-1, %", "base lr", "MiB"], lines), *source(result)]


def reported(result: Result) -> list[str]:
    """What the report that the comparison is of found on other data sets."""
    lines = [cells(name, f"{value:.1f}") for name, value in FINETUNE_REPORT_TOP1.items()]
    return table([f"{FINETUNE_REPORT}, validation", "top-1, %"], lines)


def lite_branches(result: Result) -> list[str]:
    """One line per arm with its question: accuracy on test images and training loss on each backbone."""
    runs: dict[tuple[str, str], list[Result]] = {}
    for row in result["rows"]:
        runs.setdefault((row["arm"], row["backbone"]), []).append(row)
    backbones = list(dict.fromkeys(backbone for _, backbone in runs))
    lines = [
        cells(
            arm,
            *(mean_and_error(runs.get((arm, backbone), []), "test_top1", 100, 1) for backbone in backbones),
            *(mean_and_error(runs.get((arm, backbone), []), "train_loss", 1, 2) for backbone in backbones),
        )
        for arm in dict.fromkeys(arm for asked in result["experiments"].values() for arm in asked["arms"])
        if any((arm, backbone) in runs for backbone in backbones)
    ]
    heads = [f"{what}, {name}" for what in ("top-1, %", "training loss") for name in backbones]
    return [*table(["method, rate of the head", *heads], lines), *source(result)]


def mean_and_error(rows: list[Result], name: str, factor: float, digits: int) -> str:
    """Returns the mean of a value and, of several seeds, its standard error."""
    values = [factor * row[name] for row in rows]
    if len(values) < 2:
        return "".join(f"{value:.{digits}f}" for value in values)
    error = statistics.stdev(values) / len(values) ** 0.5
    return f"{statistics.mean(values):.{digits}f} ± {error:.{digits}f}"


def augmentation(result: Result) -> list[str]:
    """One line per kind: accuracy and rate on each data set, after few epochs and after many."""
    rows: dict[str, dict[tuple[str, int], Result]] = {}
    for row in result["rows"]:
        place = row["dataset"], row["settings"]["epochs"]
        rows.setdefault(row["variant"].partition(",")[0], {})[place] = row
    places = sorted({place for of_kind in rows.values() for place in of_kind})
    lines = [
        cells(
            kind,
            *(f"{top1(found[p])} ({found[p]['base_lr']:.1g})" if p in found else "" for p in places),
            f"{next(iter(found.values()))['least_mib']:.1f}",
        )
        for kind, found in rows.items()
    ]
    heads = [f"{SETS[dataset]}, {epochs} epochs" for dataset, epochs in places]
    return [*table(["top-1, % (base lr)", *heads, "MiB"], lines), *source(result)]


TABLES = {
    "comparison": ("transfer_comparison", comparison),
    "methods": ("transfer_methods", methods),
    "ratios": ("transfer_methods", ratios),
    "checkpoints": ("memory_checkpoint", checkpoints),
    "memory": ("transfer_memory", memory),
    "separate": ("transfer_separate_lr", variants),
    "reported": ("transfer_methods", reported),
    "scratch": ("transfer_scratch", variants),
    "lite": ("transfer_lite_branches", lite_branches),
    "augmentation": ("transfer_augmentation", augmentation),
}
CURVES = {"transfer_separate_lr": "separate_lr.png", "transfer_scratch": "from_scratch.png"}


def main() -> None:
    """Reads results, writes pages and figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stamp", required=True, help="end of the result files' names: 2cpu_202611")
    stamp = parser.parse_args().stamp
    folder = RESULTS
    files = {name: folder / f"{name}_{stamp}.json" for name, _ in TABLES.values()}
    results = {name: json.loads(path.read_text()) for name, path in files.items() if path.exists()}
    tables = {title: make(results[of]) for title, (of, make) in TABLES.items() if of in results}
    PAGE.write_text(fill(PAGE.read_text(), tables, str(PAGE)))
    from benchmarks.transfer.figure import plot_comparison, plot_curves

    if "transfer_comparison" in results:
        compact = {"comparison": readme(results["transfer_comparison"])}
        README.write_text(fill(README.read_text(), compact, str(README)))
        plot_comparison(results["transfer_comparison"], SETS, ROOT / "docs" / "comparison.png")
    for name, picture in CURVES.items():
        if name in results:
            plot_curves(results[name], ROOT / "docs" / picture)
    for title in sorted(TABLES.keys() - tables.keys()):
        print(f"not written, its result is missing: {title}")


if __name__ == "__main__":
    main()

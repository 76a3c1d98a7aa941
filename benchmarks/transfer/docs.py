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

PAGE = ROOT / "docs" / "results.md"
README = ROOT / "README.md"


def top1(row: Result) -> str:
    """Returns mean and standard deviation over seeds, in percent."""
    if "accuracy_top1_mean" not in row:
        return "no weights"
    spread = "" if row["accuracy_top1_std"] is None else f" ± {100 * row['accuracy_top1_std']:.1f}"
    return f"{100 * row['accuracy_top1_mean']:.1f}{spread}"


def rate(row: Result) -> str:
    """Returns the learning rate that was chosen; `*` if it was the grid's lowest or highest."""
    if "base_lr" not in row:
        return ""
    return f"{row['base_lr']:g}{'*' if row['at_the_grid_s_edge'] else ''}"


def published(figures: tuple[float, float] | None) -> str:
    """Returns accuracy and memory as they were published."""
    return "" if figures is None else f"{figures[1]:g} · {figures[0]} MB"


def methods(result: Result) -> list[str]:
    """Every backbone and method: accuracy here, memory here and at 224 px, and published figures."""
    small = str(result["settings"]["resolution"])
    lines = []
    for row in result["rows"]:
        here, at_224 = row["memory"][small], row["memory"]["224"]
        report = TINYTL_REPORT_CIFAR10.get(row["backbone"], {}).get(row["method"])
        paper = PAPER_CIFAR10.get(row["method"]) if row["backbone"] == "proxylessnas_mobile" else None
        lines.append(
            cells(
                f"{row['backbone']}, {row['method']}, {row['norm']}",
                top1(row),
                rate(row),
                f"{here['lean_mib']:.1f} of {here['stock_mib']:.1f}",
                f"{at_224['lean_mib']:.1f} of {at_224['stock_mib']:.1f}",
                published(report),
                published(paper),
            )
        )
    head = ["", "top-1, %", "base lr", f"MiB of stock's, {small} px", "MiB of stock's, 224 px"]
    theirs = ["the report: *train* top-1, % · MB", "the paper: test top-1, % · MB"]
    return [*table([*head, *theirs], lines), *source(result)]


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
    """The backbones with weights, one line per method."""
    small = str(result["settings"]["resolution"])
    rows = {(row["backbone"], row["method"]): row for row in result["rows"] if "base_lr" in row}
    backbones = list(dict.fromkeys(backbone for backbone, _ in rows))
    lines = []
    for method in dict.fromkeys(method for _, method in rows):
        of_method = [rows[backbone, method] for backbone in backbones]
        memory = of_method[-1]["memory"][small]
        lines.append(
            cells(
                method,
                *(top1(row) for row in of_method),
                f"{memory['lean_mib']:.1f}",
                f"{memory['stock_mib']:.1f}",
            )
        )
    head = ["top-1, %, and MiB of a step", *backbones, f"{backbones[-1]}, MiB", "stock PyTorch, MiB"]
    return table(head, lines)


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
    """The compared variants, with accuracy, rate, memory and time."""
    lines = [
        cells(
            row["variant"],
            top1(row),
            rate(row),
            f"{row['predicted_peak_mib']:.1f}",
            f"{row['epoch_time_s']:.1f}",
        )
        for row in result["rows"]
    ]
    return [*table(["", "top-1, %", "base lr", "MiB", "epoch, s"], lines), *source(result)]


def datasets(result: Result) -> list[str]:
    """One line per method, one column per data set; then the report's figures for other sets."""
    found = {(row["method"], row["dataset"]): row for row in result["rows"]}
    names = list(dict.fromkeys(dataset for _, dataset in found))
    lines = [
        cells(method, *(f"{top1(found[method, name])} ({rate(found[method, name])})" for name in names))
        for method in dict.fromkeys(method for method, _ in found)
    ]
    head = ["top-1, % (base lr)", *("emoji" if name == "imagefolder" else name for name in names)]
    reported = [cells(name, f"{value:.1f}") for name, value in FINETUNE_REPORT_TOP1.items()]
    return [
        *table(head, lines),
        *source(result),
        "",
        *table([f"{FINETUNE_REPORT}, validation", "top-1, %"], reported),
    ]


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


TABLES = {
    "methods": ("transfer_methods", methods),
    "ratios": ("transfer_methods", ratios),
    "checkpoints": ("memory_checkpoint", checkpoints),
    "memory": ("transfer_memory", memory),
    "separate": ("transfer_separate_lr", variants),
    "scratch": ("transfer_scratch", variants),
    "datasets": ("transfer_datasets", datasets),
    "lite": ("transfer_lite_branches", lite_branches),
}
FIGURES = {
    "transfer_methods": "methods.png",
    "transfer_separate_lr": "separate_lr.png",
    "transfer_scratch": "from_scratch.png",
}


def curves(result: Result) -> Result:
    """Returns of a comparison of methods the six that the reports draw, on their backbone."""
    report = TINYTL_REPORT_CIFAR10["mobilenet_v2"]
    rows = [row for row in result["rows"] if row["backbone"] == "mobilenet_v2" and row["method"] in report]
    return result | {"rows": [row | {"variant": row["method"]} for row in rows]}


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
    if "transfer_methods" in results:
        compact = {"methods": readme(results["transfer_methods"])}
        README.write_text(fill(README.read_text(), compact, str(README)))
    from benchmarks.transfer.figure import plot_variants

    for name, picture in FIGURES.items():
        if name in results:
            drawn = curves(results[name]) if name == "transfer_methods" else results[name]
            plot_variants(drawn, ROOT / "docs" / picture)
    for title in sorted(TABLES.keys() - tables.keys()):
        print(f"not written, its result is missing: {title}")


if __name__ == "__main__":
    main()

"""Writes the tables of docs/memory.md, devices.md and engine.md, and docs/memory_time.png, from results/.

A table is between `<!-- table: NAME -->` and `<!-- end -->`, so that no figure is typed by hand. A table
stays as it is, and is named, if its result file is missing.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Mapping

from benchmarks.memory.device_docs import DEVICE_TABLES
from benchmarks.memory.engine_docs import ENGINE_TABLES
from benchmarks.shared.markdown import Result, cells, fill, source, table
from benchmarks.shared.places import RESULTS, ROOT
from benchmarks.transfer.docs import comparison
from benchmarks.transfer.figure import IN_FEWER_BITS
from benchmarks.transfer.published import CHECKPOINT_REPORT, CHECKPOINT_REPORT_MB
from tinytl.config.names import BACKBONES

PAGE = ROOT / "docs" / "memory.md"
DEVICES = ROOT / "docs" / "devices.md"
ENGINE = ROOT / "docs" / "engine.md"
STEPS = (
    ("frozen_bn", "FT-Last", 8),
    ("frozen_bn", "TinyTL-B", 8),
    ("frozen_bn", "TinyTL-L+B", 8),
    ("group_norm", "TinyTL-B", 8),
    ("group_norm", "TinyTL-L+B", 8),
    ("frozen_bn", "FT-Full", 8),
    ("group_norm", "FT-Full", 8),
    ("frozen_bn", "TinyTL-B", 1),
    ("frozen_bn", "TinyTL-L+B", 1),
    ("group_norm", "TinyTL-L+B", 1),
    ("frozen_bn", "FT-Full", 1),
)
"""Lines of a table of numbers: norm, method, samples at a time."""
MUSTS = dict(zip(STEPS, (70, 75, 92.9, 215, 255, None, None, 25, 40, 60, 85), strict=True))
"""Limits in MiB that were set for MobileNetV2; None: this share of stock."""
MUST_SHARE = 0.70
MUST_TIME = 1.05
"""Limit of a step's time with plan `fast`, as a multiple of the faster of stock's two memory formats."""


def ratio(row: Result) -> str:
    """Returns a step's time as a multiple of stock's."""
    return f"{row['step_ratio']:.2f}" if "step_ratio" in row else "-"


def numbers(result: Result) -> list[str]:
    """What a step needs, stock and lean, with the limits that were set for MobileNetV2."""
    found = {(r["norm"], r["method"], r["micro_batch_size"], r["way"]): r for r in result["rows"]}
    limited = result["backbone"] == "mobilenet_v2"
    head = ["trained", "at a time", "stock", "lean, `fast`", "of stock"]
    head += ["must"] if limited else []
    head += ["depthwise again", "all again", "time: `fast`", "depthwise", "all"]
    lines = []
    for step in STEPS:
        if (*step, "stock") not in found:
            continue
        norm, method, micro = step
        rows = {way: found[(*step, way)] for way in ("stock", "fast", "depthwise", "all")}
        mib = {way: row["measured_mib"] for way, row in rows.items()}
        line = [f"{method}, {norm}", micro, f"{mib['stock']:.1f}", f"**{mib['fast']:.1f}**"]
        line += [f"{mib['fast'] / mib['stock']:.0%}"]
        if limited:
            must = MUSTS[step] or MUST_SHARE * mib["stock"]
            line += [f"{must:.1f}" if mib["fast"] <= must else f"{must:.1f}, missed"]
        line += [f"{mib[way]:.1f}" for way in ("depthwise", "all")]
        missed = ", missed" if rows["fast"].get("step_ratio", 0) > MUST_TIME else ""
        line += [ratio(rows["fast"]) + missed, ratio(rows["depthwise"]), ratio(rows["all"])]
        lines.append(cells(*line))
    return table(head, lines) + source(result)


def oracle(results: Result) -> list[str]:
    """How far predictions are from the allocator."""
    lines = []
    for backbone in BACKBONES:
        rows = [r for r in results[f"memory_engine_{backbone}"]["rows"] if r["predicted_mib"] is not None]
        for engine in ("stock", "lean"):
            lines.append(
                off_line(
                    f"{backbone}, {engine}",
                    {
                        f"{r['method']}, {r['norm']}, {r['micro_batch_size']} at a time, {r['way']}": (
                            r["predicted_mib"] / r["measured_mib"] - 1
                        )
                        for r in rows
                        if (r["way"] == "stock") == (engine == "stock")
                    },
                )
            )
    every = {
        f"{r['method']}, {r['norm']}, {r['micro_batch_size']} at a time, {r['engine']}": (
            r["predicted_peak_mib"] / r["measured_peak_mib"] - 1
        )
        for r in results["memory_all_mobilenet_v2"]["rows"]
    }
    lines.append(off_line("mobilenet_v2, every method, norm and engine", every))
    head = ("", "configurations", "median off", "most off", "where")
    note = "*From the runs of the tables of numbers; the last line from `python -m tinytl memory --all`.*"
    return [*table(head, lines), "", note]


def off_line(name: str, off: dict[str, float]) -> str:
    """Returns a line on the relative errors of predictions; `off` has them by what was predicted."""
    worst = max(off, key=lambda what: abs(off[what]))
    median = statistics.median(map(abs, off.values()))
    return cells(name, len(off), f"{median:.1%}", f"{off[worst]:+.1%}", worst)


def peers(result: Result) -> list[str]:
    """A step by stock, by what torch offers, and by this engine."""
    methods = list(result["methods"])
    by_peer: dict[str, dict[str, Result]] = {}
    for method, rows in result["methods"].items():
        for row in rows:
            by_peer.setdefault(row["peer"], {})[method] = row
    lines = []
    for peer, of_method in by_peer.items():
        line = []
        for method in methods:
            row = of_method.get(method)
            if row is None or "failed" in row:
                line += ["-" if row is None else "failed"]
                continue
            time = f" · {row['step_ratio']:.2f}" if "step_ratio" in row else ""
            line += [f"{row['peak_mib']:.1f}{time}"]
        for key in ("gradient_error_float64", "gradient_error"):
            errors = [r[key] for r in of_method.values() if r.get(key) is not None]
            line += [f"{max(errors):.0e}" if errors else "-"]
        lines.append(cells(peer, *line))
    head = ["", *(f"{method}, MiB · time" for method in methods), "error, float64", "error, float32"]
    return table(head, lines) + source(result)


def checkpoint(result: Result) -> list[str]:
    """Full fine-tuning without and with a checkpoint at every block: predicted MiB, and seconds if timed."""
    lines = []
    kinds = dict.fromkeys((r["engine"], r["checkpoint"]) for r in result["rows"])
    steps = dict.fromkeys((r["backbone"], r["norm"], r["batch_size"]) for r in result["rows"])
    found = {
        (r["backbone"], r["norm"], r["batch_size"], r["engine"], r["checkpoint"]): r for r in result["rows"]
    }
    for step in steps:
        rows = [found[(*step, *kind)] for kind in kinds]
        texts = [
            f"{row['predicted_mib']:.1f}" + (f" · {row['step_s']:.2f} s" if row["step_s"] else "")
            for row in rows
        ]
        reported = CHECKPOINT_REPORT_MB.get(step[2]) if step[:2] == ("mobilenet_v2", "batch_norm") else None
        texts.append("{} → {}".format(*reported) if reported else "")
        lines.append(cells(f"{step[0]}, {step[1]}, batch {step[2]}", *texts))
    head = ["FT-Full", *(f"{engine}, {'every block again' if c == 'all' else c}" for engine, c in kinds)]
    note = f"*Last column: {CHECKPOINT_REPORT}, without → with checkpoints.*"
    return [*table([*head, "the report, MB"], lines), *source(result), "", note]


def fast_times(result: Result) -> list[str]:
    """Plan fast against stock, by the size of the input."""
    ratios: dict[tuple[int, int], list[float]] = {}
    for row in result["fast"]:
        ratios.setdefault((row["resolution"], row["batch_size"]), []).append(row["fast_to_stock"])
    lines = [
        cells(f"{px} px, batch {n}", f"{min(r):.2f}", f"{statistics.median(r):.2f}", f"{max(r):.2f}")
        for (px, n), r in ratios.items()
    ]
    kinds = {(row["backbone"], row["method"], row["norm"]) for row in result["fast"]}
    head = ["time of `fast`, stock = 1", "least", "median", "most"]
    note = (
        f"*{len(kinds)} networks, methods and norms a line; ratio of medians of {result['rounds']} rounds.*"
    )
    return [*table(head, lines), "", note, *source(result)]


def plan_order(result: Result) -> list[str]:
    """The measured time of every choice of the planner, beside its rule's estimate."""
    lines = []
    for row in result["order"]:
        if (row["method"], row["resolution"]) == ("TinyTL-L+B", 96):
            way = f"micro-batches of {row['micro_batch_size']}, {row['checkpoint']}"
            lines.append(cells(way, f"{row['measured']:.2f}", f"{row['estimated']:.2f}"))
    off = [abs(row["estimated"] / row["measured"] - 1) for row in result["order"]]
    note = (
        f"*MobileNetV2, TinyTL-L+B, group norm, 96 px, batch 8; fastest = 1. Of {len(off)} choices measured, "
        f"two methods at 96 and 224 px, the predicted slowdown is off by {statistics.median(off):.0%} in the "
        f"median and {max(off):.0%} at most.*"
    )
    return [*table(["choice", "measured", "predicted"], lines), "", note]


def moments(result: Result) -> list[str]:
    """What 8-bit moments save, and what they cost in time."""
    head = [
        "MobileNetV2, frozen_bn",
        "at a time",
        "float32",
        "int8",
        "moments, int8",
        "time, int8",
        "expected",
    ]
    found = {
        (r["method"], r["plan"], r["resolution"], r["batch_size"], r["moments"]): r for r in result["rows"]
    }
    lines = []
    for (method, plan, resolution, batch_size, kind), row in found.items():
        if kind == "int8":
            plain = found[method, plan, resolution, batch_size, "float32"]
            lines.append(
                cells(
                    f"{method}, {batch_size} x {resolution} px, plan {plan}",
                    row["way"].split(",")[0].removeprefix("micro-batches of "),
                    f"{plain['measured_mib']:.1f}",
                    f"**{row['measured_mib']:.1f}**",
                    f"{row['moments_mib']:.1f} of {plain['moments_mib']:.1f}",
                    f"{row['to_float32']:.2f}",
                    f"{row['to_float32_expected']:.2f}" if "to_float32_expected" in row else "-",
                )
            )
    return table(head, lines) + source(result)


def stored_accuracy(result: Result) -> list[str]:
    """Accuracy with frozen weights or moments in fewer bits, each below its method with 32."""
    fewer = {row["variant"] for row in result["rows"] if row["variant"].endswith(IN_FEWER_BITS)}
    wanted = fewer | {name.rpartition(", ")[0] for name in fewer}
    return comparison(result | {"rows": [row for row in result["rows"] if row["variant"] in wanted]})


TABLES: dict[str, tuple[str, Callable[[Result], list[str]]]] = {
    **{f"numbers {backbone}": (f"memory_engine_{backbone}", numbers) for backbone in BACKBONES},
    "peers": ("memory_peers_mobilenet_v2", peers),
    "checkpoint": ("memory_checkpoint", checkpoint),
    "fast": ("plan_time", fast_times),
    "order": ("plan_time", plan_order),
    "moments": ("memory_moments", moments),
    "stored accuracy": ("transfer_comparison", stored_accuracy),
}
"""Each table's name in the page, the result file for it, and the function that makes it."""


def made(
    makers: Mapping[str, tuple[str, Callable[[Result], list[str]]]], results: Mapping[str, Result]
) -> dict[str, list[str]]:
    """Returns the tables for which there is a result, by name."""
    return {name: make(results[of]) for name, (of, make) in makers.items() if of in results}


def main() -> None:
    """Reads results, writes the page and the figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stamp", required=True, help="end of the result files' names: 2cpu_202611")
    stamp = parser.parse_args().stamp
    folder = RESULTS
    oracles = [f"memory_engine_{backbone}" for backbone in BACKBONES] + ["memory_all_mobilenet_v2"]
    every = TABLES | DEVICE_TABLES | ENGINE_TABLES
    names = oracles + [of for of, _ in every.values()]
    files = {name: folder / f"{name}_{stamp}.json" for name in names}
    results = {name: json.loads(path.read_text()) for name, path in files.items() if path.exists()}
    tables, of_devices, of_engine = (made(of, results) for of in (TABLES, DEVICE_TABLES, ENGINE_TABLES))
    if all(name in results for name in oracles):
        tables["oracle"] = oracle(results)
    PAGE.write_text(fill(PAGE.read_text(), tables, str(PAGE)))
    DEVICES.write_text(fill(DEVICES.read_text(), of_devices, str(DEVICES)))
    ENGINE.write_text(fill(ENGINE.read_text(), of_engine, str(ENGINE)))
    if "memory_engine_mobilenet_v2" in results:
        from benchmarks.memory.time_figure import plot_memory_time

        plot_memory_time(results["memory_engine_mobilenet_v2"], ROOT / "docs" / "memory_time.png")
    for name in sorted({*every, "oracle"} - tables.keys() - of_devices.keys() - of_engine.keys()):
        print(f"not written, its result is missing: {name}")


if __name__ == "__main__":
    main()

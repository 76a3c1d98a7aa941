"""The tables of docs/engine.md: networks that the engine was not written for, and its peers on them."""

import statistics
from collections.abc import Callable

from benchmarks.shared.markdown import Result, cells, source, table
from tinytl.plural import counted


def nets(result: Result) -> list[str]:
    """Networks that the engine was not written for."""
    lines = []
    for row in result["rows"]:
        missed = ", missed" if row["least_percent"] > row["must_percent"] else ""
        lines.append(
            cells(
                row["net"],
                f"{row['stock_mib']:.0f}",
                f"{row['none_mib']:.0f}",
                f"{row['block_mib']:.0f}",
                f"{row['small_mib']:.0f}",
                f"**{row['least_percent']:.1f} %**",
                f"{row['must_percent']} %{missed}",
                f"{row['int8_mib']:.0f}",
                f"{row['passes_mib']:.0f}",
                *(f"{row[f'{way}_time']:.2f}" for way in ("none", "block", "small", "passes")),
                f"{row['error_stock_float32']:.0e} / {row['error_lean_float32']:.0e}",
                f"{row['error_lean_float64']:.0e}",
            )
        )
    head = [
        "network",
        "stock, MiB",
        "lean",
        "recomputed",
        "small slices",
        "least",
        "must",
        "in 8 bits",
        "two passes",
        "time: lean",
        "recomputed",
        "small slices",
        "two passes",
        "errors in float32",
        "in float64",
    ]
    return table(head, lines) + source(result)


def random_configurations(result: Result) -> list[str]:
    """Predicted against measured, by engine and threads, of configurations that were drawn at random."""
    lines = []
    for engine in ("lean", "stock"):
        for threads in (1, 2):
            rows = [r for r in result["rows"] if (r["engine"], r["threads"]) == (engine, threads)]
            off = [abs(row["off"]) for row in rows]
            lines.append(
                cells(
                    f"{engine}, {counted(threads, 'thread')}",
                    len(rows),
                    len({row["backbone"] for row in rows}),
                    f"{statistics.median(off):.3%}",
                    f"**{max(off):.1%}**",
                )
            )
    head = ["engine", "configurations", "networks", "off: median", "largest"]
    return table(head, lines) + source(result)


def net_peers(result: Result) -> list[str]:
    """A step of each network and way to freeze, by stock, by its peers, and by this engine."""
    lines = []
    for (net, freeze), of_way in by_case(result).items():
        stock = of_way["stock"]["peak_mib"]
        shares = [_share(of_way.get(way), stock) for way in PEERS]
        torchs = [row for row in _budgets(of_way, "compile") if "failed" not in row]
        ours = _budgets(of_way, "fit")
        refused = sum("refused" in row for row in ours)
        kept = [
            f"{sum(map(_promise_kept, torchs))} · {sum(row['mib_kept'] for row in torchs)}",
            f"{sum(row.get('mib_kept', False) for row in ours)}"
            + (f", {refused} refused" if refused else ""),
        ]
        lines.append(cells(f"{net}, {freeze}", f"{stock:.0f}", *shares, *kept))
    head = ["network, what trains", "stock, MiB", *PEERS.values(), "budgets kept: torch", "ours"]
    note = (
        f"*Peak, % of stock's · time, stock = 1; batch {result['batch']}, {result['resolution']} px. Budgets "
        "kept by torch, of five: of the activations after forward · in MiB of the whole step.*"
    )
    return [*table(head, lines), "", note, *source(result)]


def net_budgets(result: Result) -> list[str]:
    """What becomes of five budgets, over all networks and ways to freeze."""
    cases = by_case(result).values()
    budgets = sorted({row["budget"] for row in result["rows"] if "budget" in row}, reverse=True)
    lines = []
    for budget in budgets:
        line: list[str] = []
        for kind in ("compile", "fit"):
            pairs = [(of_way["stock"], of_way.get(f"{kind} {budget}")) for of_way in cases]
            rows = [(stock, row) for stock, row in pairs if row and "failed" not in row]
            ran = [(stock, row) for stock, row in rows if "refused" not in row]
            if kind == "compile":
                line.append(f"{sum(_promise_kept(row) for _, row in ran)} of {len(rows)}")
            line.append(f"{sum(row['mib_kept'] for _, row in ran)} of {len(rows)}")
            line += [str(len(rows) - len(ran))] if kind == "fit" else []
            shares = [100 * row["peak_mib"] / stock["peak_mib"] for stock, row in ran]
            line.append(f"{statistics.median(shares):.0f} %" if ran else "-")
            line.append(f"{statistics.median(row['time'] for _, row in ran):.2f}" if ran else "-")
        lines.append(cells(f"{100 * budget:.0f} %", *line))
    head = ["budget", "torch: activations kept", "MiB kept", "peak", "time"]
    return table([*head, "ours: MiB kept", "refused", "peak", "time"], lines)


TOLERANCE = 1.01
"""What forward keeps over what torch promises that still counts as kept: the net's output is among it."""
PEERS = {
    "selective saving": "memsave_torch's idea",
    "checkpoint": "checkpoint",
    "compile": "compile",
    "compile 0.1": "compile, budget 10 %",
    "lean": "lean",
    "lean, block": "recomputed",
}
"""The columns of `net_peers`: a way, and its name."""


def by_case(result: Result) -> dict[tuple[str, str], dict[str, Result]]:
    """Returns the rows of each network and way to freeze, by way, once stock is among them."""
    found: dict[tuple[str, str], dict[str, Result]] = {}
    for row in result["rows"]:
        found.setdefault((row["net"], row["freeze"]), {})[row["way"]] = row
    return {case: of_way for case, of_way in found.items() if "stock" in of_way}


def _budgets(of_way: dict[str, Result], kind: str) -> list[Result]:
    return [row for way, row in of_way.items() if way.startswith(f"{kind} ")]


def _promise_kept(row: Result) -> bool:
    return row["kept_mib"] <= TOLERANCE * row["promised_mib"]


def _share(row: Result | None, stock_mib: float) -> str:
    if row is None or "failed" in row:
        return "-" if row is None else "failed"
    return f"{100 * row['peak_mib'] / stock_mib:.0f} % · {row['time']:.2f}"


ENGINE_TABLES: dict[str, tuple[str, Callable[[Result], list[str]]]] = {
    "nets": ("memory_nets", nets),
    "random configurations": ("memory_random_configurations", random_configurations),
    "net peers": ("memory_net_peers", net_peers),
    "net budgets": ("memory_net_peers", net_budgets),
}
"""The tables of docs/engine.md, and the result file of each."""

"""What `benchmarks.gpu.check` found, as one page of text."""

from collections.abc import Mapping, Sequence
from typing import Any

NO_GPU = "no GPU: a CPU's kernels on a GPU's path, which says that the script runs, and nothing of a GPU"
WAYS = ("stock", "stock_nchw", "stock_compiled", "lean", "lean_graph")


def page(content: Mapping[str, Any]) -> str:
    """Returns a page for a terminal: a paragraph per part; a part that is missing or failed says so."""
    parts = content["parts"]
    lines = [f"{content['gpu'] or NO_GPU}, torch {content['torch']}"]
    for name, describe in DESCRIBED.items():
        part = parts.get(name)
        if part is None:
            lines += ["", f"{name}: not run yet, the next call does it"]
        elif "error" in part:
            lines += ["", f"{name}: failed, {part['error']}"]
        else:
            lines += ["", *describe(part)]
    return "\n".join(lines) + "\n"


def _exactness(part: Mapping[str, Any]) -> list[str]:
    return [f"exactness: lean gradients in float64 are off by {part['most']:.1e} of the largest, at most"]


def _memory(part: Mapping[str, Any]) -> list[str]:
    left = f" ({part['left']} left for the next call)" if part.get("left") else ""
    if not part["rows"]:
        return [f"memory: nothing measured{left}"]
    return [
        f"memory: {len(part['rows'])} configurations{left}, predictions are off by {part['median']:.1%} in "
        f"the median, {part['lowest']:+.1%} to {part['highest']:+.1%}"
    ]


def _kernels(part: Mapping[str, Any]) -> list[str]:
    return [
        "kernels: time of the way that lean blocks take, of that of the other one, in the median",
        *(f"  {result}: {ratio:g}" for result, ratio in part["taken_to_other_median"].items()),
    ]


def _syncs(part: Mapping[str, Any]) -> list[str]:
    return [f"syncs: {part['why']}" if part["waits"] is None else "syncs: a step does not wait for the GPU"]


def _graph(part: Mapping[str, Any]) -> list[str]:
    if "why" in part:
        return [f"graph: {part['why']}"]
    return [
        f"graph: {len(part['rows'])} trainings as CUDA graphs are off by {part['most']:.1e} of the largest "
        "change of a parameter, at most"
    ]


def _times(part: Mapping[str, Any]) -> list[str]:
    left = f", {part['left']} left for the next call" if part["left"] else ""
    heads = (
        "method",
        "norm",
        "batch",
        "precision",
        *(f"{way} ms" for way in WAYS),
        "lean/stock",
        "graph/stock",
    )
    rows = [
        (
            row["method"],
            row["norm"],
            str(row["batch_size"]),
            row["precision"],
            *(str(row.get(f"{way}_ms", "-")) for way in WAYS),
            str(row["lean_to_stock"]),
            str(row.get("graph_to_stock", "-")),
        )
        for row in part["rows"]
    ]
    reasons = sorted({row["not_recorded"] for row in part["rows"] if "not_recorded" in row})
    return [
        f"times: milliseconds of a step{left}",
        *_table(heads, rows),
        *(f"lean_graph was not measured: {reason}" for reason in reasons),
        _must(part["must"]),
    ]


def _must(must: Mapping[str, Any]) -> str:
    limit, found = must["graph_to_stock"], must["found"]
    outcome = "not measured"
    if found is not None:
        outcome = f"at most {found:g}, {'met' if found <= limit else 'missed'}"
    return f"must: lean_graph at batch {must['batch_size']} within {limit:g} of stock's time; {outcome}"


def _processes(part: Mapping[str, Any]) -> list[str]:
    rates = ", ".join(f"{row['processes']}: {row['steps_per_s']:g}" for row in part["rows"])
    return [f"processes on one device, steps per second together: {rates}"]


def _two_ranks(part: Mapping[str, Any]) -> list[str]:
    if "why" in part:
        return [f"two ranks: {part['why']}"]
    return [f"two ranks: a step is off by {part['off_most']:.1e} from that of one process, at most"]


DESCRIBED = {
    "exactness": _exactness,
    "memory": _memory,
    "kernels": _kernels,
    "syncs": _syncs,
    "graph": _graph,
    "two_ranks": _two_ranks,
    "times": _times,
    "processes": _processes,
}


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in (heads, *rows)) for column in range(len(heads))]
    return [
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in (heads, *rows)
    ]

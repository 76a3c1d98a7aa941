"""One training step of twelve networks, three ways to freeze: stock, lean, and what others offer, in one run.

Peers: the idea of memsave_torch (`selective_saving`), `torch.utils.checkpoint` around each block,
`torch.compile` (backend `aot_eager`: min-cut partitioner, no C++ compiler), and that with
`torch._functorch.config.activation_memory_budget` at five budgets. Ours: lean, `recompute="block"`, and
`fit_budget`. Of a budget of 0.3, torch says that 30 % of the activations are kept that it keeps by default,
so that is what its rows are held to: MiB in memory after forward, above what was there before. In MiB of the
whole step, 0.3 is stock's peak less 70 % of what stock's forward keeps: `fit_budget` gets that number, and
compiled rows are compared with it, too.

Each row: the peak by the allocator's events (parameters, gradients, moments, batch included), and process CPU
seconds of a step over stock's, both in turns (medians), on one thread and in channels_last; the gradient's
distance from stock's; `ready_s`: wall seconds until the first gradient, compiling or the search of a fit
included. A network and a way to freeze have a process of their own, a way a limit of time. Rows of the file
are not measured again.

    python -m benchmarks.memory.net_peers --json benchmarks/results/memory_net_peers_MACHINE_YYYYMM.json
"""

import argparse
import copy
import gc
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
import torch._functorch.config
from torch import Tensor

from benchmarks.memory.net_peer_ways import (
    BATCH,
    FREEZE,
    NETS,
    Row,
    Step,
    budget_mib,
    freeze_,
    loss_of,
    prepared,
    torchs_budget,
    ways_of,
)
from benchmarks.memory.nets import build, fitted_
from benchmarks.shared.machine import write_result
from tinytl.errors import ConfigError
from tinytl.memory.measure import MIB, PeakMeter
from tinytl.memory_efficient.ops.measured_scratch import AllocatedPeak, memory_profile

RESOLUTION, ROUNDS = 224, 3
LIMIT_S = 150
"""Of one way, compiling and measuring."""
PREDICTED = {
    "selective saving, biases and head, % of stock": 60,
    "selective saving, everything, % of stock": 105,
    "checkpoint, % of stock": 45,
    "compile, % of stock": 90,
    "compile, share of its budgets kept": 0.7,
    "lean, biases and head, % of stock": 20,
    "lean, last quarter, % of stock": 35,
    "lean, everything, % of stock": 80,
    "lean, block, everything, % of stock": 45,
    "fit, share of budgets kept or rightly refused": 1.0,
    "fit, budgets refused, of 180": 20,
}
"""Written before the first run; shares of stock are medians over the networks."""


def kept_mib(step: Step, images: Tensor) -> float:
    """Returns what is there after a forward pass that was not there before."""
    allocated = AllocatedPeak()
    with memory_profile() as events:
        loss = loss_of(step.called(images))
    allocated.add(events)
    del loss
    return allocated.now_bytes / MIB


class Measured:
    """Measures the ways of one network, frozen in one way."""

    def __init__(self, name: str, freeze: str, known: dict[str, Row]) -> None:
        torch.manual_seed(0)
        self.net = freeze_(fitted_(build(name)), freeze).to(memory_format=torch.channels_last)
        images = torch.randn(BATCH, 3, RESOLUTION, RESOLUTION)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.known = dict(known)
        self.named = {"net": name, "freeze": freeze}
        self.stock = prepared("stock", copy.deepcopy(self.net), self.images, None)[0]
        self.truth = self.stock.gradients(self.images)
        self.stock.take(self.images)

    def row(self, way: str) -> Row:
        """Returns the row of a way; says why if it fails."""
        start = time.perf_counter()
        row: Row = self.named | {"way": way}
        budget = float(way.split()[-1]) if way[-1].isdigit() else None
        try:
            with (
                time_limit(LIMIT_S),
                torch._functorch.config.patch(activation_memory_budget=torchs_budget(way)),
            ):
                row |= self._figures(way, start)
        except ConfigError as error:
            row["refused"] = str(error)
        except Exception as error:
            reason = next(iter(str(error).strip().splitlines()), "")
            row["failed"] = f"{type(error).__name__}: {reason}"[:300]
        if budget is not None and "failed" not in row:
            row |= self._judged(way, budget, row)
        self.known[way] = row
        torch._dynamo.reset()
        gc.collect()
        return row

    def _figures(self, way: str, start: float) -> Row:
        net = copy.deepcopy(self.net)
        step, row = prepared(way, net, self.images, self.known.get("stock"))
        error = float((step.gradients(self.images) - self.truth).norm() / self.truth.norm())
        step.optimizer.step()  # makes the moments
        step.optimizer.zero_grad(set_to_none=True)
        row["ready_s"] = round(time.perf_counter() - start, 1)
        with PeakMeter(net, step.optimizer, [self.images]) as meter:
            step.take(self.images)
        row["peak_mib"] = round(meter.peak_mib, 3)
        if step.micro_batch_size == BATCH:
            row["kept_mib"] = round(kept_mib(step, self.images), 3)
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(ROUNDS):
            for found, one in zip(times, (self.stock, step), strict=True):
                before = time.process_time()
                one.take(self.images)
                found.append(time.process_time() - before)
        stock_s, own_s = map(statistics.median, times)
        row |= {"step_s": round(own_s, 4), "time": round(own_s / stock_s, 3)}
        return row | {"gradient_error": float(f"{error:.2g}")}

    def _judged(self, way: str, budget: float, row: Row) -> Row:
        """Returns whether a budget is kept: in MiB of the step, and as torch understands it."""
        found: Row = {"budget": budget, "budget_mib": round(budget_mib(self.known["stock"], budget), 3)}
        if "refused" in row:
            return found
        found["mib_kept"] = row["peak_mib"] <= found["budget_mib"]
        whole = self.known.get(way.split()[0], {}).get("kept_mib")
        if whole is not None and "kept_mib" in row:
            found["promised_mib"] = round(budget * whole, 3)
            found["promise_kept"] = row["kept_mib"] <= found["promised_mib"]
        return found


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises TimeoutError in what takes longer."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def in_own_process(name: str, freeze: str, file: Path) -> Iterator[Row]:
    """Yields rows as another process measures them."""
    words = [sys.executable, "-m", "benchmarks.memory.net_peers", "--here"]
    words += ["--net", name, "--freeze", freeze, "--json", str(file)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("{"):
                yield json.loads(line)


def rows_in(file: Path) -> list[Row]:
    """Returns the rows that were measured before."""
    return json.loads(file.read_text())["rows"] if file.exists() else []


def missing(rows: list[Row], name: str, freeze: str) -> tuple[dict[str, Row], list[str]]:
    """Returns what is known of a network, by way, and the ways without a row."""
    known = {row["way"]: row for row in rows if (row["net"], row["freeze"]) == (name, freeze)}
    return known, [way for way in ways_of(name, freeze) if way not in known]


def main() -> None:
    """Adds the rows that are missing to the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--net", action="append", help="one of them, may be repeated (default: all)")
    parser.add_argument("--freeze", action="append", choices=FREEZE, help="(default: all)")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--here", action="store_true", help="print the rows of one network, as its process")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = rows_in(args.json)
    for freeze in args.freeze or FREEZE:
        for name in args.net or NETS:
            known, ways = missing(rows, name, freeze)
            if args.here:
                measured = Measured(name, freeze, known)
                for way in ways:
                    print(json.dumps(measured.row(way)), flush=True)
                continue
            for row in in_own_process(name, freeze, args.json) if ways else ():
                rows.append(row)
                print(row, flush=True)
                figures = {"batch": BATCH, "resolution": RESOLUTION, "rounds": ROUNDS, "limit_s": LIMIT_S}
                write_result(args.json, figures | {"predicted_before": PREDICTED, "rows": rows})


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as cache:  # no process finds what another has compiled
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", cache)
        main()

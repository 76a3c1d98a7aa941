"""What a machine with a GPU has to say, in under eight minutes: exactness, memory, time, several processes.

Needs torch and this project's `tinytl`; neither Ray, Optuna nor MLflow. Each part, and each row of memory and
of times, is written as it ends, so a run that was cut off or out of time goes on where it stopped, with the
same `--json`.
Without a GPU, `--device cpu` follows the same script with the CPU's kernels on a GPU's path: it shows that
the script runs, and nothing of a GPU.

    python -m benchmarks.gpu.check --json benchmarks/results/gpu_check_MACHINE_YYYYMM.json
"""

import argparse
import dataclasses
import gc
import itertools
import json
import random
import re
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.emulated_path import random_config, shown
from benchmarks.gpu.graph import NEEDS_GPU, recorded_step, trained_alike
from benchmarks.gpu.kernels import kernels as of_kernels
from benchmarks.gpu.page import page
from benchmarks.shared.machine import about, row_a_line
from tinytl.build import build_model
from tinytl.config.names import BACKBONES
from tinytl.config.plan import is_recorded, lean_plan
from tinytl.config.train_config import TrainConfig
from tinytl.device import gpu_emulated
from tinytl.memory.measured_step import measure_memory
from tinytl.memory.predict import predict_ahead, predict_memory
from tinytl.step_time.measure import prepared_step

BUDGET_S = 420
"""No part, and no row of memory or times, begins after so long: the next call does the rest."""
MEMORY_CONFIGURATIONS = 24
RECORDED_EACH = 4
"""Of so many of these, one runs as a CUDA graph."""
METHODS = (("TinyTL-L+B", "frozen_bn"), ("TinyTL-B", "group_norm"), ("FT-Full", "group_norm"))
BATCHES = (8, 1, 64)
"""What most depends on comes first: time may run out."""
PRECISIONS = ("float32", "tf32", "bfloat16")
PREDICTED = {
    "exactness_most": 1e-8,
    "memory_most": 0.02,
    "lean_to_stock_batch_8": 1.5,
    "graph_to_stock_batch_8": 0.4,
    "graph_most": 1e-3,
}
"""Written before a GPU was at hand: without graphs a lean step is bound by its launches."""
MUST = {"batch_size": 8, "graph_to_stock": 0.5}
"""A lean step as a CUDA graph needs at most so much of the time of the faster stock step that is none."""


class Check:
    """The parts of a run, as they are written."""

    def __init__(self, device: torch.device, path: Path | None, quick: bool) -> None:
        self.device, self.path, self.quick = device, path, quick
        self.began = time.monotonic()
        self.parts: dict[str, Any] = {}
        if path is not None and path.exists():
            known = json.loads(path.read_text())
            if all(known.get(name) == value for name, value in self.where.items()):
                self.parts = dict(known.get("parts", {}))

    def run(self, name: str, part: Callable[["Check"], Any]) -> None:
        """Runs a part that is missing, and writes it; an error is its result, and the next one follows."""
        known = self.parts.get(name, {"error": "not run yet"})
        if "error" not in known and not known.get("left"):
            print(f"{name}: known", flush=True)
            return
        if self.is_over:
            print(f"{name}: left for the next call", flush=True)
            return
        started = time.monotonic()
        try:
            self.parts[name] = part(self)
        except Exception as error:
            traceback.print_exc()
            rows = {"rows": self.parts[name]["rows"]} if "rows" in self.parts.get(name, {}) else {}
            self.parts[name] = rows | {"error": f"{type(error).__name__}: {error}"[:500]}
        self.parts[name]["seconds"] = round(known.get("seconds", 0.0) + time.monotonic() - started, 1)
        print(f"{name}: {json.dumps({k: v for k, v in self.parts[name].items() if k != 'rows'})}", flush=True)
        self.write()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def is_over(self) -> bool:
        """Whether nothing more may begin in this call."""
        return time.monotonic() - self.began > BUDGET_S

    @property
    def content(self) -> dict[str, Any]:
        """What the file holds."""
        return about() | self.where | {"predicted_before": PREDICTED, "parts": self.parts}

    @property
    def where(self) -> dict[str, Any]:
        """Where figures are measured, and whether a few only: those of elsewhere are no part of these."""
        gpu = torch.cuda.get_device_name() if self.device.type == "cuda" else None
        return {"gpu": gpu, "quick": self.quick}

    def write(self) -> None:
        """Writes what there is."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(row_a_line(self.content))

    def path_of_gpu(self) -> AbstractContextManager[None]:
        """Returns the context in which a step takes a GPU's path."""
        return nullcontext() if self.device.type == "cuda" else gpu_emulated()


def exactness(check: Check) -> dict[str, Any]:
    """Gradients of lean blocks in float64: their largest difference from stock's over the largest of all."""
    rows = []
    for backbone, (method, norm) in itertools.product(BACKBONES[:1] if check.quick else BACKBONES, METHODS):
        config = TrainConfig(
            backbone=backbone, weights="none", method=method, norm=norm, num_classes=10, resolution=64,
            batch_size=4, dropout=0.0, device=check.device.type,
        )  # fmt: skip
        with check.path_of_gpu():
            stock, lean = (
                _gradients(dataclasses.replace(lean_plan(config), engine=engine), check.device)
                for engine in ("stock", "lean")
            )
        most = max(float(gradient.abs().max()) for gradient in stock.values())
        off = max(float((stock[name] - lean[name]).abs().max()) for name in stock)
        rows.append({"backbone": backbone, "method": method, "norm": norm, "off": off / most})
    return {"most": max(row["off"] for row in rows), "rows": rows}


def _gradients(config: TrainConfig, device: torch.device) -> dict[str, Tensor]:
    torch.manual_seed(0)
    net = build_model(config).net.double().to(device)
    torch.manual_seed(1)
    images = torch.rand(config.batch_size, 3, config.resolution, config.resolution, dtype=torch.float64)
    labels = torch.arange(config.batch_size, device=device) % 10
    F.cross_entropy(net(images.to(device)), labels).backward()
    return {name: p.grad for name, p in net.named_parameters() if p.grad is not None}


def memory(check: Check) -> dict[str, Any]:
    """Predicted peaks against those of the second step."""
    n_wanted = 4 if check.quick else MEMORY_CONFIGURATIONS
    wanted = {json.dumps(named := _named(config)): (config, named) for config in _drawn(check, n_wanted)}
    known = check.parts.get("memory", {}).get("rows", [])
    rows = {key: row for row in known if (key := json.dumps(_name_of(row))) in wanted and "error" not in row}
    left = {key: of for key, of in wanted.items() if key not in rows}
    predict_ahead(config for config, _ in left.values())  # a GPU is asked once for what all of them need
    for key, (config, named) in left.items():
        if check.is_over:
            break
        rows[key] = named | _predicted_and_measured(check, config)
        print(*rows[key].values(), flush=True)
        check.parts["memory"] = _memory_of(list(rows.values()), n_wanted)
        check.write()
    return _memory_of(list(rows.values()), n_wanted)


def _drawn(check: Check, n: int) -> list[TrainConfig]:
    """Returns as many different configurations, the same in every call; some as CUDA graphs."""
    rng = random.Random(0)
    drawn: dict[TrainConfig, None] = {}
    while len(drawn) < n:
        config = random_config(rng)
        if check.device.type == "cuda" and len(drawn) % RECORDED_EACH == 0:
            recorded = dataclasses.replace(config, cuda_graph=True)
            config = recorded if is_recorded(recorded) else config
        drawn[config] = None
    return list(drawn)


def _named(config: TrainConfig) -> dict[str, Any]:
    fields = ("optimizer", "upsample_type", "cuda_graph")
    return shown(config) | {name: getattr(config, name) for name in fields}


def _name_of(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _named(TrainConfig()) if name in row}


def _predicted_and_measured(check: Check, config: TrainConfig) -> dict[str, Any]:
    try:
        predicted = predict_memory(config).peak_mib
        with check.path_of_gpu():
            measured = measure_memory(dataclasses.replace(config, device=check.device.type))
    except Exception as error:
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"[:200]}
    return {"predicted_mib": round(predicted, 2), "measured_mib": round(measured, 2)}


def _memory_of(rows: list[dict[str, Any]], n_wanted: int) -> dict[str, Any]:
    off = [row["predicted_mib"] / row["measured_mib"] - 1 for row in rows if "error" not in row]
    found: dict[str, Any] = {"left": n_wanted - len(rows), "rows": rows}
    if failed := len(rows) - len(off):
        found["error"] = f"{failed} of {len(rows)} configurations failed: their rows say why"
    if off:
        found |= {"median": statistics.median(map(abs, off)), "lowest": min(off), "highest": max(off)}
    return found


def kernels(check: Check) -> dict[str, Any]:
    """Ways to the same numbers: of the time of the one that lean blocks do not take, the median of theirs."""
    batches, precisions = ((2,), PRECISIONS[:1]) if check.quick else ((8, 64), PRECISIONS)
    rows = [
        row
        for precision, batch_size in itertools.product(precisions, batches)
        for row in of_kernels(check.device, batch_size, precision)
    ]
    found: dict[str, list[float]] = {}
    for row in rows:
        other, taken = ("convolution", "product") if "product_ms" in row else ("channels_first", "at_once")
        found.setdefault(row["result"], []).append(row[f"{taken}_ms"] / row[f"{other}_ms"])
    medians = {result: round(statistics.median(ratios), 3) for result, ratios in found.items()}
    return {"taken_to_other_median": medians, "rows": rows}


def graph(check: Check) -> dict[str, Any]:
    """Parameters after some steps as CUDA graphs, against those after the same steps without."""
    return trained_alike(METHODS, check.device)


def times(check: Check) -> dict[str, Any]:
    """Milliseconds of a step: stock in both formats and compiled, lean, lean as a CUDA graph.

    Ratios are to the faster stock format.
    """
    # In the order of `wanted`: those of another order, or quick ones, are measured again.
    rows: list[dict[str, Any]] = check.parts.get("times", {}).get("rows", [])
    batches, precisions = (BATCHES[:1], PRECISIONS[:1]) if check.quick else (BATCHES, PRECISIONS)
    wanted = list(itertools.product(precisions, batches, METHODS))
    resolution = 64 if check.quick else 224
    given = [(row["precision"], row["batch_size"], (row["method"], row["norm"])) for row in rows]
    whole = all({"lean_graph_ms", "not_recorded"} & row.keys() for row in rows)
    if given != wanted[: len(rows)] or not whole or any(row["resolution"] != resolution for row in rows):
        rows = []
    for precision, batch_size, (method, norm) in wanted[len(rows) :]:
        if check.is_over:
            break
        config = TrainConfig(
            backbone="mobilenet_v2", weights="none", method=method, norm=norm, num_classes=10,
            resolution=resolution, batch_size=batch_size, precision=precision, dropout=0.0,
            device=check.device.type,
        )  # fmt: skip
        row: dict[str, Any] = {
            "method": method,
            "norm": norm,
            "batch_size": batch_size,
            "resolution": resolution,
            "precision": precision,
        }
        for name, prepare in WAYS.items():
            compiled = not check.quick and (precision, batch_size) == (PRECISIONS[0], BATCHES[0])
            if name == "stock_compiled" and not compiled:  # half a minute each
                continue
            if name == "lean_graph" and check.device.type != "cuda":
                row["not_recorded"] = NEEDS_GPU
                continue
            try:
                with check.path_of_gpu():
                    row[f"{name}_ms"] = _step_ms(check, prepare(lean_plan(config)))
            except Exception as error:
                if name not in MAY_FAIL:
                    raise
                row[MAY_FAIL[name]] = f"{type(error).__name__}: {error}"[:200]
        stock = min(row["stock_ms"], row["stock_nchw_ms"])
        row["lean_to_stock"] = round(row["lean_ms"] / stock, 3)
        if "lean_graph_ms" in row:
            row["graph_to_stock"] = round(row["lean_graph_ms"] / stock, 3)
        rows.append(row)
        check.parts["times"] = _times_of(rows, len(wanted))
        check.write()
    return _times_of(rows, len(wanted))


def _times_of(rows: list[dict[str, Any]], n_wanted: int) -> dict[str, Any]:
    ratios = [row["lean_to_stock"] for row in rows]
    median = statistics.median(ratios) if rows else None
    must = MUST | {"found": _worst_of_must(rows)}
    return {"lean_to_stock_median": median, "must": must, "left": n_wanted - len(rows), "rows": rows}


def _worst_of_must(rows: list[dict[str, Any]]) -> float | None:
    """Returns the largest ratio that the must is about; None if no row has one."""
    asked = [row for row in rows if row["batch_size"] == MUST["batch_size"]]
    found = [row["graph_to_stock"] for row in asked if "graph_to_stock" in row]
    return max(found, default=None)


def _stock(config: TrainConfig) -> TrainConfig:
    return dataclasses.replace(config, engine="stock")


WAYS: Mapping[str, Callable[[TrainConfig], Callable[[], Any]]] = {
    "stock": lambda config: prepared_step(_stock(config)),
    "stock_nchw": lambda config: prepared_step(
        dataclasses.replace(_stock(config), memory_format="contiguous")
    ),
    "stock_compiled": lambda config: prepared_step(
        _stock(config), lambda net: torch.compile(net, mode="reduce-overhead")
    ),
    "lean": prepared_step,
    "lean_graph": recorded_step,
}
MAY_FAIL = {"stock_compiled": "not_compiled", "lean_graph": "not_recorded"}
"""Ways that need more than a GPU: a compiler, a step that can be recorded. What a row says then."""


def _step_ms(check: Check, step: Callable[[], Any]) -> float:
    n_warm, n_timed = (1, 2) if check.quick else (5, 20)
    for _ in range(n_warm):
        step()
    found = []
    for _ in range(n_timed):
        started = time.perf_counter()
        step()
        found.append(1000 * (time.perf_counter() - started))
    return round(statistics.median(found), 3)


def syncs(check: Check) -> dict[str, Any]:
    """Whether a step waits for the GPU, as a CUDA graph too: CUDA says so, as an error."""
    config = lean_plan(
        TrainConfig(
            backbone="mobilenet_v2", weights="none", method="TinyTL-L+B", norm="frozen_bn", num_classes=10,
            resolution=64, batch_size=4, device=check.device.type,
        )
    )  # fmt: skip
    for recorded in (False, True):
        step = prepared_step(dataclasses.replace(config, cuda_graph=recorded), waits=False)
        step()
        if check.device.type != "cuda":
            return {"waits": None, "why": "a CPU has nothing to wait for"}
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return {"waits": False}


ONE_PROCESS = """
import sys, time
from benchmarks.gpu.check import TrainConfig, lean_plan, prepared_step
device, resolution, n_steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
step = prepared_step(lean_plan(TrainConfig(backbone="mobilenet_v2", weights="none", method="TinyTL-L+B",
    norm="frozen_bn", num_classes=10, resolution=resolution, batch_size=8, device=device)))
step(); step()
print("ready", flush=True); sys.stdin.readline()
start = time.perf_counter()
for _ in range(n_steps): step()
print(n_steps / (time.perf_counter() - start))
"""


def processes(check: Check) -> dict[str, Any]:
    """Steps a second of one, two and four processes on the device, together."""
    resolution, n_steps = (32, 2) if check.quick else (224, 50)
    rows = []
    for n in (1, 2) if check.quick else (1, 2, 4):
        command = [sys.executable, "-c", ONE_PROCESS, str(check.device), str(resolution), str(n_steps)]
        running = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(n)
        ]
        for process in running:
            assert process.stdout is not None and process.stdout.readline().strip() == "ready"
        for process in running:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        rates = [float(process.communicate()[0]) for process in running]
        rows.append({"processes": n, "steps_per_s": round(sum(rates), 2)})
    return {"rows": rows}


def two_ranks(check: Check) -> dict[str, Any]:
    """Two processes with a GPU each, on a CPU two of its processes: their step against that of one."""
    if check.device.type == "cuda" and torch.cuda.device_count() < 2:
        return {"why": "there is one card"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, "-m", "benchmarks.gpu.two_ranks", check.device.type],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode:
        named = [line for line in done.stderr.splitlines() if re.search(r"\w(Error|Exception): ", line)]
        raise RuntimeError(named[0] if named else done.stderr[-300:])
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


PARTS = {
    "exactness": exactness,
    "memory": memory,
    "kernels": kernels,
    "syncs": syncs,
    "graph": graph,
    "two_ranks": two_ranks,
    "processes": processes,
    "times": times,
}


def main() -> None:
    """Runs the parts that are missing; prints and writes each."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="a few of each: whether the script runs")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("torch finds no GPU here: --device cpu follows the script without one")
    check = Check(torch.device(args.device), args.json, args.quick)
    for name, part in PARTS.items():
        check.run(name, part)
    print(f"\n{page(check.content)}", flush=True)
    failed = [name for name, found in check.parts.items() if "error" in found]
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()

"""One training step by stock torch, by torch's own ways to save memory, and by the lean engine.

Peers, all in one run on the same net, batch and method: stock in both memory formats, micro-batches of one,
`torch.compile`, `torch.utils.checkpoint` around each block, and lean. The peak is measured by the allocator's
events (parameters, gradients, moments and batch included), the step by process CPU time on one thread (peers
take turns; the median counts). The gradients are compared, too: a peer with another gradient does not count.
Ratios are relative to the better of stock's two memory formats. Example, and what `--json` is for:

    python -m benchmarks.memory.peers --json benchmarks/results/memory_peers_mobilenet_v2_MACHINE_YYYYMM.json
"""

import argparse
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.memory.timed_steps import ContiguousNormalizer
from benchmarks.shared.machine import write_result
from tinytl.build import build_model
from tinytl.config.names import BACKBONES, METHODS
from tinytl.config.train_config import TrainConfig
from tinytl.memory.measure import PeakMeter
from tinytl.networks.lite_residual import LiteResidualModule
from tinytl.step_time.measure import seconds_after_itself
from tinytl.training.step import InputNormalizer, build_optimizer, training_step

SAME_IN_FLOAT64 = 1e-10
"""Largest relative error of a gradient in float64 that passes as rounding."""
SAME_IN_FLOAT32 = 5e-2
"""The same in float32. If rounding moves an element across a kink of ReLU6, its gradient jumps: stock's own
is off by a hundredth. All nets except compiled ones must pass in float64, too."""
STOCK = ("stock, NCHW", "stock, channels_last")


def call_stock(net: nn.Module) -> nn.Module:
    """Leaves the net as it was built."""
    return net


def call_compiled(net: nn.Module) -> nn.Module:
    """Compiles the net by torch's default backend, whole: a graph break is an error, not a slowdown."""
    return torch.compile(net, fullgraph=True)


def call_checkpointed(net: nn.Module) -> nn.Module:
    """Runs each inverted residual, its lite branch included, under torch's own checkpoint."""
    for block in net.features:
        if isinstance(block, LiteResidualModule) or hasattr(block, "use_res_connect"):
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    return net


@dataclass(frozen=True)
class Peer:
    """One way to take the step."""

    name: str
    prepare: Callable[[nn.Module], nn.Module]
    """Returns what to call for a net; may edit the net."""
    micro_batch_size: int | None = None
    channels_last: bool = True
    engine: str = "stock"
    checkpoint: str = "auto"
    """The engine's field; `auto`: as plan `fast` sets it, which is the default."""

    def config(self, config: TrainConfig) -> TrainConfig:
        """Returns `config` for this peer."""
        micro = self.micro_batch_size
        return replace(config, engine=self.engine, checkpoint=self.checkpoint, micro_batch_size=micro)


def peers_of(method: str, compiles: bool) -> list[Peer]:
    """Returns what is compared; the stock ones first, as the others are measured against them."""
    peers = [
        Peer(STOCK[1], call_stock),
        Peer(STOCK[0], call_stock, channels_last=False),
        Peer("stock, micro-batch 1", call_stock, 1),
        Peer("torch.compile", call_compiled),
        Peer("torch.compile, NCHW", call_compiled, channels_last=False),
        Peer("checkpoint, each block", call_checkpointed),
        Peer("checkpoint, micro-batch 1", call_checkpointed, 1),
        Peer("lean", call_stock, engine="lean"),
        Peer("lean, micro-batch 1", call_stock, 1, engine="lean"),
    ]
    if method == "FT-Full":
        peers.append(Peer("lean, checkpoint all", call_stock, engine="lean", checkpoint="all"))
        peers.append(Peer("lean, all, micro-batch 1", call_stock, 1, engine="lean", checkpoint="all"))
    return [peer for peer in peers if compiles or peer.prepare is not call_compiled]


class GradientCatcher(torch.optim.Optimizer):
    """Takes no step, and keeps the gradients of all trained parameters as one vector."""

    def __init__(self, net: nn.Module) -> None:
        self.trained = [p for p in net.parameters() if p.requires_grad]
        super().__init__(self.trained, {})

    def step(self, closure: None = None) -> None:
        """Copies the gradients; in logical order, so that memory formats do not matter."""
        self.caught = torch.cat([p.grad.reshape(-1) for p in self.trained]).double()


@dataclass
class Entry:
    """A peer that is ready to run, and its measurements."""

    peer: Peer
    step: Callable[[], None]
    peak_mib: float
    gradient: Tensor
    first_call_s: float
    """Wall time of the first gradient; for a compiled net it is nearly all compilation."""
    error_float64: float | None
    times_s: list[float] = field(default_factory=list)


def start_state(config: TrainConfig) -> dict[str, Tensor]:
    """Returns weights and statistics as training might leave them.

    In a new net, lite branches are multiplied by zero and frozen statistics do not fit random weights, so
    most gradients would be zero and equal by accident.
    """
    torch.manual_seed(0)
    net = build_model(config).net
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(_fit_statistics)
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    with torch.no_grad():
        net(torch.randn(config.batch_size, 3, config.resolution, config.resolution))
    return net.state_dict()


def _fit_statistics(norm: nn.BatchNorm2d, inputs: tuple[Tensor]) -> None:
    var, mean = torch.var_mean(inputs[0], (0, 2, 3))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(var)


def build(
    peer: Peer, config: TrainConfig, state: dict[str, Tensor], dtype: torch.dtype = torch.float32
) -> tuple[nn.Module, tuple[Tensor, Tensor], Callable[[torch.optim.Optimizer], None]]:
    """Returns a peer's net, the batch, and a function that takes one step with a given optimiser."""
    net = build_model(peer.config(config)).net
    net.load_state_dict(state)
    if not peer.channels_last:
        net = net.to(memory_format=torch.contiguous_format)
    called = peer.prepare(net.to(dtype))
    layout = torch.channels_last if peer.channels_last else torch.contiguous_format
    generator = torch.Generator().manual_seed(1)
    shape = (config.batch_size, 3, config.resolution, config.resolution)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    images = images.contiguous(memory_format=layout)
    labels = torch.arange(config.batch_size) % config.num_classes
    normalize = (InputNormalizer if peer.channels_last else ContiguousNormalizer)(config, torch.device("cpu"))

    def step(optimizer: torch.optim.Optimizer) -> None:
        training_step(
            called, optimizer, lambda uint8: normalize(uint8).to(dtype), images, labels,
            micro_batch_size=peer.micro_batch_size or config.batch_size, label_smoothing=0.1,
        )  # fmt: skip

    return net, (images, labels), step


def float64_gradient(peer: Peer, config: TrainConfig, state: dict[str, Tensor]) -> Tensor:
    """Returns a peer's gradient without float32's rounding."""
    net, _, step = build(peer, config, state, torch.float64)
    catcher = GradientCatcher(net)
    step(catcher)
    return catcher.caught


def enter(peer: Peer, config: TrainConfig, state: dict[str, Tensor], exact: Tensor) -> Entry:
    """Takes a peer's gradients before any step, then measures the peak of its second step."""
    # A net compiled for float64 would be another net, and would need a minute more.
    is_compiled = peer.prepare is call_compiled
    error = None if is_compiled else relative_error(float64_gradient(peer, config, state), exact)
    net, batch, step = build(peer, config, state)
    optimizer = build_optimizer(net, config)
    catcher = GradientCatcher(net)
    start = time.perf_counter()
    step(catcher)
    first_call_s = time.perf_counter() - start
    step(optimizer)  # makes the moments
    with PeakMeter(net, optimizer, batch) as meter:
        step(optimizer)
    run = functools.partial(step, optimizer)
    return Entry(peer, run, meter.peak_mib, catcher.caught, first_call_s, error)


def relative_error(mine: Tensor, exact: Tensor) -> float:
    """Returns the norm of the difference over that of `exact`."""
    return ((mine - exact).norm() / exact.norm()).item()


def take_turns(entries: list[Entry], rounds: int) -> None:
    """Adds each entry's CPU times, one per round, so that a busy machine is busy for all."""
    for _ in range(rounds):
        for entry in entries:
            entry.times_s.append(seconds_after_itself(entry.step, time.process_time))


def compare(config: TrainConfig, rounds: int, compiles: bool) -> list[dict[str, object]]:
    """Returns one row per peer; the row of a peer that cannot run says why."""
    state = start_state(config)
    exact = float64_gradient(Peer(STOCK[1], call_stock), config, state)
    entries: list[Entry] = []
    failures: list[dict[str, object]] = []
    for peer in peers_of(config.method, compiles):
        try:
            entries.append(enter(peer, config, state, exact))
        except Exception as error:
            if peer.prepare is not call_compiled:
                raise
            reason = next(iter(str(error).strip().splitlines()), "")
            failures.append({"peer": peer.name, "failed": f"{type(error).__name__}: {reason}"})
    take_turns(entries, rounds)
    stock = [entry for entry in entries if entry.peer.name in STOCK]
    least_mib = min(entry.peak_mib for entry in stock)
    least_s = min(map(median_s, stock)) if rounds else None
    rows = [as_row(entry, least_mib, least_s, relative_error(entry.gradient, exact)) for entry in entries]
    for row, entry in zip(rows, entries, strict=True):
        right = entry.error_float64 is None or entry.error_float64 <= SAME_IN_FLOAT64
        row["same_gradient"] = right and row["gradient_error"] <= SAME_IN_FLOAT32
    return rows + failures


def median_s(entry: Entry) -> float:
    """Returns the median CPU time of a step."""
    return statistics.median(entry.times_s)


def as_row(entry: Entry, least_mib: float, least_s: float | None, error: float) -> dict[str, object]:
    """Returns an entry's figures; `gradient_error` (float32, float64) is relative to stock's in float64."""
    row: dict[str, object] = {
        "peer": entry.peer.name,
        "peak_mib": round(entry.peak_mib, 1),
        "peak_ratio": round(entry.peak_mib / least_mib, 3),
        "gradient_error": error,
        "gradient_error_float64": entry.error_float64,
    }
    if least_s is not None:
        row |= {
            "step_cpu_s": round(median_s(entry), 4),
            "step_ratio": round(median_s(entry) / least_s, 3),
            "all_step_cpu_s": [round(t, 4) for t in entry.times_s],
        }
    if entry.peer.prepare is call_compiled:
        row["compile_wall_s"] = round(entry.first_call_s, 1)
    return row


def show(method: str, rows: list[dict[str, object]]) -> None:
    """Prints the table of a method."""
    print(
        f"\n{method:<28}{'peak MiB':>9}{'x stock':>9}{'CPU s':>9}{'x stock':>9}{'error':>10}{'float64':>10}"
    )
    for row in rows:
        if "failed" in row:
            print(f"{row['peer']:<28}FAILED, not compared: {row['failed']}")
            continue
        time_s = f"{row['step_cpu_s']:9.3f}{row['step_ratio']:9.2f}" if "step_cpu_s" in row else " " * 18
        in_float64 = row["gradient_error_float64"]
        exact = "-" if in_float64 is None else f"{in_float64:.1e}"
        note = f"  compiled in {row['compile_wall_s']} s, apart" if "compile_wall_s" in row else ""
        note += "" if row["same_gradient"] else "  NOT THE GRADIENT OF STOCK"
        print(
            f"{row['peer']:<28}{row['peak_mib']:9.1f}{row['peak_ratio']:9.2f}{time_s}"
            f"{row['gradient_error']:10.1e}{exact:>10}{note}",
            flush=True,
        )


def main() -> int:
    """Prints one table per method and, asked to, writes all as JSON; 1 if a gradient is not stock's."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--backbone", default="mobilenet_v2", choices=BACKBONES)
    methods = ("TinyTL-L+B", "TinyTL-B", "FT-Full")
    parser.add_argument("--methods", nargs="+", default=methods, choices=METHODS)
    parser.add_argument("--norm", default="frozen_bn", choices=("frozen_bn", "group_norm"))
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=15, help="steps of each peer that are timed")
    parser.add_argument(
        "--no-compile", action="store_true", help="leave out torch.compile (a minute per net)"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    config = TrainConfig(
        backbone=args.backbone, weights="none", norm=args.norm, num_classes=10, batch_size=args.batch_size,
        resolution=args.resolution, optimizer="adam", engine="stock", device="cpu",
        dropout=0.0,  # compiled nets draw other random numbers: their gradients could not be compared
    )  # fmt: skip
    results: dict[str, list[dict[str, object]]] = {}
    with tempfile.TemporaryDirectory() as cache:  # else a second run would time the cache of the first
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for method in args.methods:
            torch._dynamo.reset()
            rows = compare(replace(config, method=method), args.rounds, not args.no_compile)
            show(method, rows)
            results[method] = rows
    if args.json:
        figures = {
            "backbone": args.backbone, "norm": args.norm, "batch_size": args.batch_size,
            "resolution": args.resolution, "optimizer": "adam", "rounds": args.rounds, "methods": results,
        }  # fmt: skip
        write_result(args.json, figures)
    return 0 if all(row.get("same_gradient", True) for rows in results.values() for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())

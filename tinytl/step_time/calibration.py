"""Measures how much time a step's operations need on this machine, once, and keeps it.

A few real training steps run, each operation timed where it stands: with the caches, and the memory, that the
operation before has left. What is measured is kept per processor, torch version and threads, in
`$XDG_CACHE_HOME/tinytl` (`~/.cache/tinytl`). The environment variable `TINYTL_STEP_TIMES` names a file to use
in its place, for figures that do not depend on where they are computed.
"""

import dataclasses
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tinytl.config.train_config import TrainConfig
from tinytl.device import device_name
from tinytl.errors import ConfigError
from tinytl.step_time.kept import FILE_VARIABLE, STEP_TIMES, keep, kept_file, write_json
from tinytl.step_time.measure import as_in_a_run, prepared_step, seconds_after_itself
from tinytl.step_time.operations import Cost, Work, cost_of
from tinytl.step_time.step_times import StepTimes, TimedStep, fit

FORMAT = 5
"""Raised if what is measured changes, so that nobody uses what an older version has kept."""
ROUNDS = 2
_STEPS = (
    ("efficientnet_lite0", "TinyTL-L+B", "frozen_bn", 64, 8, "none"),
    ("proxylessnas_mobile", "FT-Full", "group_norm", 80, 4, "none"),
    ("efficientnet_lite0", "FT-Full", "frozen_bn", 48, 8, "all"),
    ("proxylessnas_mobile", "TinyTL-B", "frozen_bn", 144, 2, "none"),
    ("efficientnet_lite0", "TinyTL-L+B", "group_norm", 128, 2, "none"),
    ("proxylessnas_mobile", "FT-Full", "batch_norm", 64, 4, "depthwise"),
    ("efficientnet_lite0", "FT-Last", "frozen_bn", 64, 8, "none"),
    ("efficientnet_lite0", "TinyTL-L+B", "frozen_bn", 32, 1, "none"),
    ("proxylessnas_mobile", "FT-Full", "group_norm", 32, 1, "all"),
)
"""Backbone, method, norm, resolution, batch, what lean blocks recompute: together, all kinds of operations.
Each runs lean, and as PyTorch's own with nothing recomputed."""

logger = logging.getLogger(__name__)
_KNOWN: dict[int, StepTimes] = {}


def step_times(threads: int = 1) -> StepTimes:
    """Returns this machine's times for steps on so many threads; measures them if nobody has, in 10 to 20 s.

    Raises:
        ConfigError: for a file named by `TINYTL_STEP_TIMES` that is none of ours.
    """
    if threads not in _KNOWN:
        _KNOWN[threads] = _find(threads)
    return _KNOWN[threads]


def use_step_times(times: StepTimes | None, threads: int = 1) -> None:
    """Uses these times from now on, such as those with which a study began; None: this machine's."""
    if times is None:
        _KNOWN.pop(threads, None)
    else:
        _KNOWN[threads] = times


def read_step_times(path: Path) -> StepTimes:
    """Reads what `write_step_times` wrote.

    Raises:
        ConfigError: for anything else.
    """
    try:
        found = json.loads(path.read_text())
        per_kind = {
            str(kind): (float(a), float(b), float(c)) for kind, (a, b, c) in found["per_kind"].items()
        }
        factors = {name: float(found[name]) for name in ("scale", "per_lean_product")}
        return StepTimes(per_kind=per_kind, **factors)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{path} holds no times of steps ({error}): remove it, and they are measured"
        ) from None


def write_step_times(times: StepTimes, path: Path, about: dict[str, Any] | None = None) -> None:
    """Writes times, and what they are about, as JSON."""
    write_json(path, (about or {}) | dataclasses.asdict(times))


def calibrate(threads: int = 1) -> StepTimes:
    """Measures real steps of small configurations on random weights and images; needs 10 to 20 s."""
    with as_in_a_run(threads):
        torch.manual_seed(0)
        return fit([timed for step in _STEPS for timed in _measured(*step)])


def _find(threads: int) -> StepTimes:
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return read_step_times(Path(named))
    about = about_machine(threads)
    path = kept_file(STEP_TIMES, about)
    if path.exists():
        return read_step_times(path)
    logger.warning("measuring once how fast this machine is, for plans: 10 to 20 s")
    times = calibrate(threads)
    keep(path, about | dataclasses.asdict(times))
    return times


def about_machine(threads: int) -> dict[str, Any]:
    """Returns what decides how much time a step needs, besides its configuration."""
    return {
        "format": FORMAT,
        "processor": device_name(torch.device("cpu")),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": threads,
    }


def _measured(
    backbone: str, method: str, norm: str, resolution: int, batch_size: int, checkpoint: str
) -> list[TimedStep]:
    """Returns a lean step and one of stock, which took turns."""
    steps = [
        prepared_step(
            TrainConfig(
                backbone=backbone, weights="none", method=method, norm=norm, num_classes=10,
                resolution=resolution, batch_size=batch_size, micro_batch_size=batch_size, engine=engine,
                checkpoint=checkpoint if engine == "lean" else "none", stock_below_kib=0.0, device="cpu",
            )
        )
        for engine in ("lean", "stock")
    ]  # fmt: skip
    whole: list[list[float]] = [[], []]
    runs: list[list[_Timer]] = [[], []]
    for _ in range(ROUNDS):
        for step, times, timers in zip(steps, whole, runs, strict=True):
            times.append(seconds_after_itself(step))
            with _Timer() as timer:
                step()
            timers.append(timer)
    return [_timed(times, timers) for times, timers in zip(whole, runs, strict=True)]


def _timed(whole: list[float], timers: "list[_Timer]") -> TimedStep:
    costs = [cost for cost, _ in timers[0].operations]
    seconds = [min(timer.operations[i][1] for timer in timers) for i in range(len(costs))]
    return TimedStep(list(zip(costs, seconds, strict=True)), timers[0].work, min(whole))


class _Timer(TorchDispatchMode):
    """Times each operation."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Returns False: nothing here is compiled, and a guard around each call takes time."""
        return False

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Cost, float]] = []
        self.work = Work()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        start = time.perf_counter()
        out = func(*args, **(kwargs or {}))
        seconds = time.perf_counter() - start
        cost = cost_of(func, args, out)
        if cost is not None:
            self.operations.append((cost, seconds))
            self.work.add(cost)
        return out

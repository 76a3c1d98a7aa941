"""Measures how much time a step's operations need on this machine, once, and keeps it.

A few real training steps run, each operation timed where it stands: with the caches, and the memory, that the
operation before has left. What is measured is kept per processor or GPU, torch version and threads, in
`$XDG_CACHE_HOME/tinytl` (`~/.cache/tinytl`). The environment variable `TINYTL_STEP_TIMES` names a file to use
in its place, for figures that do not depend on where they are computed.
"""

import dataclasses
import json
import logging
import os
from pathlib import Path
from typing import Any

import torch

from tinytl.config.train_config import TrainConfig
from tinytl.device import device_name
from tinytl.errors import ConfigError
from tinytl.step_time.kept import FILE_VARIABLE, GPU_STEP_TIMES, STEP_TIMES, keep, kept_file, write_json
from tinytl.step_time.measure import as_in_a_run, prepared_step, seconds_after_itself
from tinytl.step_time.operation_timer import CpuClock, GpuClock, OperationTimer
from tinytl.step_time.own_process import in_own_process
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
_STEPS_ON_GPU = _STEPS[3:6]
"""There most of the time goes into first uses: each kernel is loaded, and cuDNN plans each shape. These three
have every kind of operation that all nine have, each in dozens of sizes."""
GPU_FORMAT = 2
"""As `FORMAT`, for what is measured on a GPU."""

logger = logging.getLogger(__name__)
TIMES_MORE_ON_GPU = 8
"""A GPU's steps have so many times the samples: of a few it sees nothing but launches."""

_KNOWN: dict[tuple[str, int], StepTimes] = {}


def step_times(threads: int = 1, device: str = "cpu") -> StepTimes:
    """Returns the times of steps on a CPU with so many threads, or on this machine's GPU (`device` `cuda`);
    measures them if nobody has, in 10 to 20 s, on a GPU in under a minute.

    For a GPU that is not here, and that nobody has asked (`use_step_times`), they are this CPU's.

    Raises:
        ConfigError: for a file named by `TINYTL_STEP_TIMES` that is none of ours.
    """
    if (device, threads) not in _KNOWN:
        if device == "cuda" and not torch.cuda.is_available():
            return step_times(threads)
        try:
            _KNOWN[device, threads] = _find(threads, device)
        except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
            reason = str(error).partition("\n")[0]
            logger.warning("the GPU does not say how fast it is (%s): times are this CPU's", reason)
            _KNOWN[device, threads] = step_times(threads)
    return _KNOWN[device, threads]


def use_step_times(times: StepTimes | None, threads: int = 1, device: str = "cpu") -> None:
    """Uses these times from now on, such as those with which a study began; None: this machine's."""
    if times is None:
        _KNOWN.pop((device, threads), None)
    else:
        _KNOWN[device, threads] = times


def known_step_times() -> dict[tuple[str, int], StepTimes]:
    """Returns the times in use, by device and threads, for another process."""
    return dict(_KNOWN)


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


def calibrate(threads: int = 1, device: str = "cpu") -> StepTimes:
    """Measures real steps of small configurations on random weights and images; needs 10 to 20 s, on a GPU
    under a minute.
    """
    steps = _STEPS if device == "cpu" else _STEPS_ON_GPU
    with as_in_a_run(threads):
        torch.manual_seed(0)
        return fit([timed for step in steps for timed in _measured(*step, device)])


def _find(threads: int, device: str) -> StepTimes:
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return read_step_times(Path(named))
    about = about_machine(threads, device)
    path = kept_file(STEP_TIMES if device == "cpu" else GPU_STEP_TIMES, about)
    if path.exists():
        return read_step_times(path)
    on_gpu = device == "cuda"
    what = f"this {device_name(torch.device(device))}" if on_gpu else "this machine"
    how_long = "under a minute" if on_gpu else "10 to 20 s"
    logger.warning("measuring once how fast %s is, for plans: %s", what, how_long)
    # A process that has met a GPU holds some of its memory until it ends.
    times = calibrate(threads) if device == "cpu" else in_own_process(calibrate, threads, device)
    keep(path, about | dataclasses.asdict(times))
    return times


def about_machine(threads: int, device: str = "cpu") -> dict[str, Any]:
    """Returns what decides how much time a step needs, besides its configuration."""
    gpu = {"gpu": device_name(torch.device(device)), "gpu_format": GPU_FORMAT} if device == "cuda" else {}
    return gpu | {
        "format": FORMAT,
        "processor": device_name(torch.device("cpu")),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "threads": threads,
    }


def _measured(
    backbone: str, method: str, norm: str, resolution: int, batch_size: int, checkpoint: str, device: str
) -> list[TimedStep]:
    """Returns a lean step and one of stock, which took turns."""
    clock: CpuClock | GpuClock = CpuClock()
    if device == "cuda":
        clock = GpuClock()
        batch_size *= TIMES_MORE_ON_GPU
    steps = [
        prepared_step(
            TrainConfig(
                backbone=backbone, weights="none", method=method, norm=norm, num_classes=10,
                resolution=resolution, batch_size=batch_size, micro_batch_size=batch_size, engine=engine,
                checkpoint=checkpoint if engine == "lean" else "none", stock_below_kib=0.0, device=device,
            )
        )
        for engine in ("lean", "stock")
    ]  # fmt: skip
    whole: list[list[float]] = [[], []]
    runs: list[list[OperationTimer]] = [[], []]
    for _ in range(ROUNDS):
        for step, times, timers in zip(steps, whole, runs, strict=True):
            times.append(seconds_after_itself(step))
            with OperationTimer(clock) as timer:
                step()
            timers.append(timer)
    return [_timed(times, timers) for times, timers in zip(whole, runs, strict=True)]


def _timed(whole: list[float], timers: list[OperationTimer]) -> TimedStep:
    rounds = [timer.operations for timer in timers]
    operations = [
        (of_one[0][0], min(seconds for _, seconds in of_one)) for of_one in zip(*rounds, strict=True)
    ]
    return TimedStep(operations, timers[0].work, min(whole))

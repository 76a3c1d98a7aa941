"""What the machine and the process of a trial did in each epoch, under MLflow's names, read by psutil.

MLflow's pages show metrics that begin with `system/` on a tab of their own. Memory is that at an epoch's end,
CPU the mean over the epoch, network what came and went since the trial began.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinytl.errors import needs_extra

PREFIX = "system/"
MLFLOW_VARIABLE = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
"""MLflow's own environment variable: `true` asks for these metrics, too."""
_MB = 1e6
_UNREADABLE = (OSError, RuntimeError, ValueError, LookupError, AttributeError)
"""What psutil raises, beside its own errors, on systems whose files it does not know or may not read."""


def check_psutil() -> None:
    """Raises ConfigError if psutil is not installed."""
    with needs_extra("--system-metrics", "system-metrics"):
        import psutil  # noqa: F401


def is_asked_for(flag: bool) -> bool:
    """Whether a study's flag, or MLflow's variable, asks for system metrics."""
    return flag or os.environ.get(MLFLOW_VARIABLE, "").lower() in ("true", "1")


class SystemMonitor:
    """Measures from one call of `read` to the next. `folder`: of the disk that is looked at.

    A figure that this machine does not give, or not now, is left out: a trial does not fail for it.
    """

    def __init__(self, folder: Path) -> None:
        import psutil

        self._psutil = psutil
        self._unreadable = (psutil.Error, *_UNREADABLE)
        self._folder = folder
        self._process = self._or_none(psutil.Process)
        self._network = self._or_none(psutil.net_io_counters)
        self._figures()  # the first call of a mean has nothing to measure from

    def read(self) -> dict[str, float]:
        """Returns the metrics of the time since the last call, by name: megabytes are 1e6 bytes.

        `cpu_utilization_percentage` is of all cores; `process_cpu_percentage` is 100 for one busy core.
        """
        return {PREFIX + name: round(float(value), 1) for name, value in self._figures().items()}

    def _figures(self) -> dict[str, float]:
        psutil, process, began = self._psutil, self._process, self._network
        found: dict[str, float] = {}
        if (cpu := self._or_none(psutil.cpu_percent)) is not None:
            found["cpu_utilization_percentage"] = cpu
        if (memory := self._or_none(psutil.virtual_memory)) is not None:
            found["system_memory_usage_megabytes"] = memory.used / _MB
            found["system_memory_usage_percentage"] = memory.percent
        if (disk := self._or_none(lambda: psutil.disk_usage(str(self._folder)))) is not None:
            found["disk_usage_megabytes"] = disk.used / _MB
            found["disk_usage_percentage"] = disk.percent
            found["disk_available_megabytes"] = disk.free / _MB
        if process is not None and (busy := self._or_none(process.cpu_percent)) is not None:
            found["process_cpu_percentage"] = busy
        if process is not None and (resident := self._or_none(process.memory_info)) is not None:
            found["process_memory_megabytes"] = resident.rss / _MB
        network = self._or_none(psutil.net_io_counters)
        if network is not None and began is not None:  # a container may have no network
            found["network_receive_megabytes"] = (network.bytes_recv - began.bytes_recv) / _MB
            found["network_transmit_megabytes"] = (network.bytes_sent - began.bytes_sent) / _MB
        return found

    def _or_none(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except self._unreadable:
            return None

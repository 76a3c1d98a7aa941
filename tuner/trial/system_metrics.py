"""What the machine and the process of a trial did in each epoch, under MLflow's names, read by psutil.

MLflow's pages show metrics that begin with `system/` on a tab of their own. Memory is that at an epoch's end,
CPU the mean over the epoch, network what came and went since the trial began.
"""

import os
from pathlib import Path

from tinytl.errors import needs_extra

PREFIX = "system/"
MLFLOW_VARIABLE = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"
"""MLflow's own environment variable: `true` asks for these metrics, too."""
_MB = 1e6


def check_psutil() -> None:
    """Raises ConfigError if psutil is not installed."""
    with needs_extra("--system-metrics", "system-metrics"):
        import psutil  # noqa: F401


def is_asked_for(flag: bool) -> bool:
    """Whether a study's flag, or MLflow's variable, asks for system metrics."""
    return flag or os.environ.get(MLFLOW_VARIABLE, "").lower() in ("true", "1")


class SystemMonitor:
    """Measures from one call of `read` to the next. `folder`: of the disk that is looked at."""

    def __init__(self, folder: Path) -> None:
        import psutil

        self._psutil = psutil
        self._folder = folder
        self._process = psutil.Process()
        self._network = psutil.net_io_counters()
        psutil.cpu_percent()  # the first call has nothing to measure from
        self._process.cpu_percent()

    def read(self) -> dict[str, float]:
        """Returns the metrics of the time since the last call, by name: megabytes are 1e6 bytes.

        `cpu_utilization_percentage` is of all cores; `process_cpu_percentage` is 100 for one busy core.
        """
        psutil = self._psutil
        memory, disk = psutil.virtual_memory(), psutil.disk_usage(str(self._folder))
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / _MB,
            "system_memory_usage_percentage": memory.percent,
            "disk_usage_megabytes": disk.used / _MB,
            "disk_usage_percentage": disk.percent,
            "disk_available_megabytes": disk.free / _MB,
            "process_cpu_percentage": self._process.cpu_percent(),
            "process_memory_megabytes": self._process.memory_info().rss / _MB,
        }
        network = psutil.net_io_counters()
        if network is not None and self._network is not None:  # a container may have no network
            found["network_receive_megabytes"] = (network.bytes_recv - self._network.bytes_recv) / _MB
            found["network_transmit_megabytes"] = (network.bytes_sent - self._network.bytes_sent) / _MB
        return {PREFIX + name: round(float(value), 1) for name, value in found.items()}

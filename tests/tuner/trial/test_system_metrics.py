import sys
import time

import psutil
import pytest
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

from tinytl.errors import ConfigError
from tuner.tracking.runs import SYSTEM
from tuner.trial.system_metrics import MLFLOW_VARIABLE, PREFIX, SystemMonitor, check_psutil, is_asked_for


def test_names_are_mlflows_own_and_begin_as_its_page_wants_them(tmp_path):
    names = {name.removeprefix(PREFIX) for name in SystemMonitor(tmp_path).read()}
    theirs = set()
    for kind in (CPUMonitor, DiskMonitor, NetworkMonitor):
        monitor = kind()
        monitor.collect_metrics()
        theirs |= set(monitor.aggregate_metrics())
    assert names == theirs | {"process_cpu_percentage", "process_memory_megabytes"}
    assert PREFIX == SYSTEM


def test_cpu_is_the_mean_since_the_last_call_and_memory_that_of_the_process(tmp_path):
    monitor = SystemMonitor(tmp_path)
    deadline = time.process_time() + 0.3
    while time.process_time() < deadline:
        pass
    busy = monitor.read()
    assert busy[f"{PREFIX}process_cpu_percentage"] > 0
    resident_mb = psutil.Process().memory_info().rss / 1e6
    assert busy[f"{PREFIX}process_memory_megabytes"] == pytest.approx(resident_mb, rel=0.2)
    assert busy[f"{PREFIX}network_receive_megabytes"] >= 0


@pytest.mark.parametrize("error", [psutil.AccessDenied(1), OSError("no /proc"), NotImplementedError("none")])
def test_what_cannot_be_read_is_left_out_and_raises_nothing(tmp_path, monkeypatch, error):
    def fails(*arguments, **fields):
        raise error

    monkeypatch.setattr(psutil, "disk_usage", fails)
    monkeypatch.setattr(psutil.Process, "memory_info", fails)
    found = {name.removeprefix(PREFIX) for name in SystemMonitor(tmp_path).read()}
    assert "cpu_utilization_percentage" in found and "process_cpu_percentage" in found
    assert not {"disk_usage_megabytes", "process_memory_megabytes"} & found
    for name in ("Process", "net_io_counters", "cpu_percent", "virtual_memory"):
        monkeypatch.setattr(psutil, name, fails)
    assert SystemMonitor(tmp_path).read() == {}


@pytest.mark.parametrize(
    ("flag", "value", "asked"),
    [(False, None, False), (True, None, True), (False, "True", True), (False, "0", False)],
)
def test_the_flag_or_mlflows_variable_asks(flag, value, asked, monkeypatch):
    monkeypatch.delenv(MLFLOW_VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(MLFLOW_VARIABLE, value)
    assert is_asked_for(flag) is asked


def test_its_absence_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    line = r"^--system-metrics needs the package psutil: pip install 'tinytl-tuner\[system-metrics\]'$"
    with pytest.raises(ConfigError, match=line):
        check_psutil()

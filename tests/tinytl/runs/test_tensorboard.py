import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tinytl.errors import ConfigError
from tinytl.runs.tensorboard import TensorBoard, check_tensorboard


def test_every_number_of_an_epoch_is_written(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path, 0)
    text = {"device_name": "a processor"}
    board.add({"epoch": 1, "loss": 2.5, "measured_peak_mib": None, "lr.bias": 0.1} | text)
    board.add({"epoch": 2, "loss": 1.5, "measured_peak_mib": 9.0, "lr.bias": 0.2})
    board.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "measured_peak_mib", "lr.bias"}
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(1, 2.5), (2, 1.5)]


def test_a_resumed_run_fills_what_the_files_lack_at_its_own_time(tmp_path: Path) -> None:
    rows = [{"epoch": epoch, "loss": 3.0 - epoch, "timestamp_ms": 1000 * epoch} for epoch in (1, 2, 3)]
    board = TensorBoard(tmp_path, 0)
    board.add(rows[0])
    board.close()
    resumed = TensorBoard(tmp_path, 2, rows[:2])
    resumed.add(rows[2])
    resumed.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(one.step, one.value, one.wall_time) for one in events.Scalars("loss")] == [
        (1, 2.0, 1.0),
        (2, 1.0, 2.0),
        (3, 0.0, 3.0),
    ]


def test_its_absence_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    line = r"^--tensorboard needs the package tensorboard: pip install 'tinytl-tuner\[tensorboard\]'$"
    with pytest.raises(ConfigError, match=line):
        check_tensorboard()

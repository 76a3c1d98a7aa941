import json
import threading
import time
from pathlib import Path

import pytest

from tests.support.cases import ALL_CASES, small
from tinytl.config.train_config import LrRatio, TrainConfig
from tinytl.errors import ConfigError
from tinytl.runs.directory import RunDirectory, environment, read_config_file, with_whole_paths


@pytest.mark.parametrize("config", [*ALL_CASES.values(), TrainConfig()][::7])
def test_a_run_s_configuration_reads_back(config: TrainConfig, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "deep" / "run")
    with directory.claimed():
        directory.start(config)
    assert read_config_file(directory.config_file) == config
    assert json.loads((directory.path / "environment.json").read_text())["torch"]
    assert directory.metrics_file.read_text() == ""


def test_special_values_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = small(
        dataset="imagefolder",
        data_dir="pictures",
        input_mean=(0.1, 0.2, 0.3),
        weights="mine.pt",
        method="FT-Full",
        lr_ratio=LrRatio(late=0.6),
    )
    directory = RunDirectory(tmp_path)
    directory.start(with_whole_paths(config))
    read = read_config_file(directory.config_file)
    assert read.data_dir == str(tmp_path / "pictures")  # found from any folder
    assert read.weights == str(tmp_path / "mine.pt")
    assert (read.input_mean, read.lr_ratio) == (config.input_mean, config.lr_ratio)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epochs: [", ", line 1: not YAML"),
        ("- 1\n- 2\n", "does not hold `field: value` lines"),
        ("epoch: 3\n", "unknown parameter 'epoch': did you mean 'epochs'"),
        ("epochs: three\n", "epochs='three' is not a whole number"),
    ],
)
def test_a_bad_configuration_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError) as caught:
        read_config_file(path)
    assert str(caught.value).startswith(f"{path}") and message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_numbers_as_yaml_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("base_lr: 3e-4\nmethod: finetune\nlr_ratio.late: 1e-1\n")
    config = read_config_file(path)
    assert (config.base_lr, config.method, config.lr_ratio.late) == (3e-4, "FT-Full", 0.1)


def test_metrics_go_back_to_an_epoch(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.start(small())
    for epoch in (1, 2, 3):
        directory.append_metrics({"epoch": epoch})
    with directory.metrics_file.open("a") as lines:
        lines.write('{"epoch": 4, "lo')  # killed while it wrote
    directory.start(small(), [{"epoch": 1}, {"epoch": 2}])
    assert directory.metrics_file.read_text() == '{"epoch": 1}\n{"epoch": 2}\n'


def test_one_run_at_a_time_writes_a_folder(tmp_path: Path) -> None:
    one, other = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run")
    with one.claimed(), pytest.raises(ConfigError, match="is being written by another run"), other.claimed():
        pass
    with other.claimed():
        pass


def test_a_run_can_wait_for_the_one_before(tmp_path: Path) -> None:
    one, other = RunDirectory(tmp_path / "run"), RunDirectory(tmp_path / "run")
    ended = threading.Event()

    def write() -> None:
        with one.claimed():
            claimed.set()
            time.sleep(0.3)
            ended.set()

    claimed = threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    claimed.wait()
    with other.claimed(wait_s=30):
        assert ended.is_set()
    writer.join()
    with one.claimed(), pytest.raises(ConfigError, match="another run"), other.claimed(wait_s=0.3):
        pass


def test_what_a_folder_allows(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    directory.check_is_free()
    with pytest.raises(ConfigError, match="holds no run: leave out --resume"):
        directory.check_can_resume()
    directory.start(small())
    directory.check_is_free()  # nothing to lose: no epoch has ended
    directory.check_can_resume()
    directory.last.write_bytes(b"checkpoint")
    with pytest.raises(ConfigError, match="holds an unfinished run: add --resume"):
        directory.check_is_free()
    directory.finish({"val_accuracy_top1": 1.0})
    with pytest.raises(ConfigError, match="holds a finished run: choose another folder"):
        directory.check_is_free()
    with pytest.raises(ConfigError, match="holds a finished run: nothing to resume"):
        directory.check_can_resume()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file: choose a folder"):
        RunDirectory(tmp_path / "file").check_is_free()


def test_environment_names_versions_and_commit() -> None:
    found = environment()
    assert {"command", "commit", "python", "torch", "torchvision", "numpy", "machine", "gpu"} <= found.keys()
    assert found["commit"] is None or len(found["commit"].removesuffix("-dirty")) == 40


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    inside = tmp_path / "file" / "run"
    with pytest.raises(ConfigError, match=rf"^{inside} cannot be written \(Not a directory\)$"):
        with RunDirectory(inside).claimed():
            pass
    directory = RunDirectory(tmp_path)
    directory.start(small())
    directory.metrics_file.unlink()
    directory.metrics_file.mkdir()
    with pytest.raises(ConfigError, match=r"metrics\.jsonl cannot be written \(Is a directory\)$"):
        directory.append_metrics({"epoch": 1})

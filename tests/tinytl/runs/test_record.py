import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from tinytl.errors import ConfigError
from tinytl.runs.record import read_run, seconds_per_epoch


def test_a_finished_run(make_run: Callable[..., Path]) -> None:
    run = read_run(make_run("a", epochs=3, accuracy=0.6, seed=4))
    assert run.epoch_numbers == [1, 2, 3]
    assert run.series("accuracy_top1") == pytest.approx([0.2, 0.4, 0.6])
    assert run.config["seed"] == 4
    assert run.result is not None and run.result["val_accuracy_top1"] == 0.6
    assert run.note is None


def test_an_unfinished_run(make_run: Callable[..., Path]) -> None:
    folder = make_run("a", finished=False)
    assert (read_run(folder).result, read_run(folder).config) == (None, {})
    (folder / "config.yaml").write_text("method: TinyTL-B\nlr_ratio.bias: 0.5\n")
    config = read_run(folder).config
    assert (config["method"], config["lr_ratio.bias"], config["lr_ratio.late"]) == ("TinyTL-B", 0.5, 1.0)


def test_a_line_cut_off_is_left_out_with_a_note(make_run: Callable[..., Path]) -> None:
    folder = make_run("a", epochs=3)
    metrics = folder / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text(whole[:-20])
    run = read_run(folder)
    assert run.epoch_numbers == [1, 2]
    assert run.note == f"{metrics}: the last line is cut off and left out"
    metrics.write_text(whole[:-1])  # only the end of the line is missing
    assert (read_run(folder).epoch_numbers, read_run(folder).note) == ([1, 2, 3], None)


def test_of_an_epoch_that_stands_twice_the_last_counts(make_run: Callable[..., Path]) -> None:
    folder = make_run("a", epochs=3)
    with (folder / "metrics.jsonl").open("a") as lines:
        lines.write(json.dumps({"epoch": 2, "loss": 7.0}) + "\n")
    run = read_run(folder)
    assert run.epoch_numbers == [1, 2, 3]
    assert run.series("loss")[1] == 7.0
    assert math.isnan(run.series("val_loss")[1])


def test_what_is_not_finite_is_a_gap(make_run: Callable[..., Path]) -> None:
    folder = make_run("a")
    lines = ['{"epoch": 1, "loss": NaN}', '{"epoch": 2, "loss": Infinity}', '{"epoch": 3, "loss": null}']
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    assert all(math.isnan(value) for value in read_run(folder).series("loss"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("metrics.jsonl", "", "metrics.jsonl holds no whole epoch yet"),
        ("metrics.jsonl", '{"epoch": 1', "metrics.jsonl holds no whole epoch yet"),
        ("metrics.jsonl", '{"epoch": 1}\n{"epo\n{"epoch": 3}\n', "metrics.jsonl, line 2: not JSON"),
        ("metrics.jsonl", '{"loss": 1}\n', "metrics.jsonl, line 1: no `epoch` in it"),
        ("metrics.jsonl", "[1]\n", "metrics.jsonl, line 1: no `epoch` in it"),
        ("result.json", "{", "result.json: not JSON"),
        ("result.json", "{}", "result.json: no `config` in it"),
        ("config.yaml", "a: [", "config.yaml, line 1: not YAML"),
        ("config.yaml", "text", "config.yaml does not hold"),
    ],
)
def test_damage_is_named(make_run: Callable[..., Path], name: str, text: str, message: str) -> None:
    folder = make_run("a", finished=False)
    (folder / name).write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_run(folder)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_folder_of_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"holds no metrics.jsonl: name a folder"):
        read_run(tmp_path)


def test_an_epoch_that_read_features_has_no_say_in_the_time() -> None:
    computed, read = {"epoch_time_s": 4.0, "features_read": 0.0}, {"epoch_time_s": 1.0, "features_read": 0.2}
    assert seconds_per_epoch([computed, read, read]) == 4.0
    assert seconds_per_epoch([read, read]) is None
    older = [{"epoch_time_s": 2.0}, {"epoch_time_s": 3.0}]
    assert seconds_per_epoch(older) == 2.5

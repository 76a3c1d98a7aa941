import dataclasses
import json
import subprocess
import sys

import pytest

from tinytl.config.names import METRICS
from tinytl.errors import ConfigError
from tuner.record import accuracy_on_test as accuracy_on_test
from tuner.record.accuracy_on_test import known_test_figures, read_test_images
from tuner.record.trials import Trial


def unread(trial: str) -> Trial:
    """A trial without a folder: it would be told, were it judged."""
    return Trial(name=trial, accuracy_top1=0.5, peak_memory_mib=1.0, epoch_time_s=1.0, params={})


def test_the_front_is_judged_by_its_last_checkpoints(tmp_path, colors, make_trial):
    front = [make_trial("s-000", base_lr=0.02, epochs=3), make_trial("s-001", method="TinyTL-B")]
    found = read_test_images(tmp_path, front, colors)
    assert list(found) == ["s-000", "s-001"]
    assert json.loads((tmp_path / "test_accuracy.json").read_text()) == found
    assert known_test_figures(tmp_path) == found
    # On the validation images it is the accuracy that the trial had.
    as_test = dataclasses.replace(colors, test=colors.val)
    (tmp_path / "test_accuracy.json").unlink()
    again = read_test_images(tmp_path, front, as_test)
    for trial in front:
        assert again[trial.name].items() >= {name: getattr(trial, name) for name in METRICS}.items()
        tested = dataclasses.replace(trial, on_test=again[trial.name])
        right = trial.accuracy_top1
        assert tested.test_standard_error == pytest.approx((right * (1 - right) / len(colors.val)) ** 0.5)


def test_figures_that_stand_are_not_read_again(tmp_path, colors, make_trial):
    (tmp_path / "test_accuracy.json").write_text('{"s-000": 0.125, "left-the-front": 0.5}')
    lines = []
    found = read_test_images(tmp_path, [unread("s-000"), make_trial("s-001")], colors, lines.append)
    assert found["s-000"] == {"accuracy_top1": 0.125}, "as older versions wrote it"
    assert set(found["s-001"]) == {*METRICS, *(f"{name}_standard_error" for name in METRICS)}
    assert list(known_test_figures(tmp_path)) == ["s-000", "left-the-front", "s-001"]
    assert lines == []


def test_without_test_images_there_is_no_file(tmp_path, colors):
    lines = []
    none = dataclasses.replace(colors, test=None)
    assert read_test_images(tmp_path, [unread("s-000")], none, lines.append) is None
    assert lines == ["colors has no test images: the front has no test accuracy"]
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_gone_or_of_other_classes_is_told(tmp_path, colors, make_trial):
    front = [unread("s-000"), make_trial("s-001"), make_trial("s-002")]
    (tmp_path / "s-002" / "last.pt").write_bytes(b"cut off")
    lines = []
    assert list(read_test_images(tmp_path, front, colors, lines.append)) == ["s-001"]
    assert [line.partition(":")[0] for line in lines] == [
        "no test accuracy of s-000",
        "no test accuracy of s-002",
    ]
    assert "last.pt is damaged" in lines[1]
    others = dataclasses.replace(colors, classes=("red", "green", "violet"))
    assert read_test_images(tmp_path, [make_trial("s-003")], others, lines.append) == {}
    assert "class 2 is 'blue' there and 'violet'" in lines[-1]


@pytest.mark.parametrize("content", ["", "[1]", '{"a": "b"}', '{"a": null}', "\x00"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "test_accuracy.json").write_text(content)
    with pytest.raises(ConfigError, match=r"test_accuracy\.json is damaged"):
        known_test_figures(tmp_path)


def test_reading_what_is_known_needs_no_torch():
    code = f"import sys, {accuracy_on_test.__name__}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

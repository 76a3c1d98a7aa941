from types import SimpleNamespace

from tuner.record.reading import StudyReading
from tuner.record.trials import Trial
from tuner.tracking.note import LONGEST, note


def summary_of(trials: int):
    front = [
        Trial(
            name=f"joint-{index:03d}",
            accuracy_top1=index / trials,
            peak_memory_mib=10.0 + index,
            epoch_time_s=1.0,
            params={"method": "TinyTL-L+B", "base_lr": 1e-3 + index, "why": "a long value " * 10},
        )
        for index in range(trials)
    ]
    labels = SimpleNamespace(
        name="s",
        identity={"space": "joint"},
        command="python launch.py",
        later_commands=["python launch.py --resume"],
        sessions=[],
    )
    study = StudyReading(name="s", requested=trials, trials=front, budget_mib=60.0 if trials < 50 else 250.0)
    return SimpleNamespace(title="a network on digits", labels=labels, study=study)


def test_a_large_front_fits_a_tag_and_its_best_stand_in_it():
    ids = {f"joint-{index:03d}": f"{index:032x}" for index in range(200)}
    text = note(summary_of(200), ids, "1")
    assert len(text) <= LONGEST
    assert f"[joint-199](#/experiments/1/runs/{199:032x})" in text and "joint-000" not in text
    assert "**Best under 250 MiB: joint-199**" in text and "python launch.py" in text


def test_a_small_front_is_whole():
    assert all(f"joint-00{index}" in note(summary_of(3), {}, "1") for index in range(3))


def test_the_command_that_began_the_study_comes_first():
    lines = note(summary_of(3), {}, "1").splitlines()
    assert lines[lines.index("Made by") + 3 :][:2] == [
        "python launch.py",
        "then: python launch.py --resume",
    ]

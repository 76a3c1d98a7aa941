from datetime import datetime, timedelta

from tuner.record.confirmed import ConfirmedResult
from tuner.record.reading import StudyReading
from tuner.record.trials import Trial
from tuner.report.facts import time_facts
from tuner.report.hours import again_s, busy_spans, by_the_clock, summed

NOON = datetime(2026, 1, 1, 12)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def trial(name: str, *spans: tuple[float, float | None], **known) -> Trial:
    ends = [(at(begin), None if end is None else at(end)) for begin, end in spans]
    return Trial(name=name, params={}, spans=ends, **known)


def row(minutes: float) -> dict:
    return {"epoch": 1, "timestamp_ms": at(minutes).timestamp() * 1000}


def test_what_was_cut_off_lasted_until_its_last_epoch():
    cut_off = trial("a", (0, None), (600, 610))
    spans = busy_spans(StudyReading(name="s", trials=[cut_off]), {"a": [row(7), row(605)]})
    assert spans == [(at(0), at(7)), (at(600), at(610))]
    unknown = StudyReading(name="s", trials=[trial("a", (0, None))])
    assert busy_spans(unknown, {}) == []


def test_time_beside_each_other_counts_once_by_the_clock():
    spans = [(at(0), at(10)), (at(5), at(12)), (at(6), at(8)), (at(100), at(101))]
    assert summed(spans) == timedelta(minutes=20) and by_the_clock(spans) == timedelta(minutes=13)


def test_hours_are_shown_per_worker_if_their_number_is_known():
    trials = [trial("a", (0, 60)), trial("b", (0, 30))]
    facts = time_facts(StudyReading(name="s", trials=trials, settings={"workers": 2}), {})
    assert facts == {
        "Trials at work, by the clock": "1 h 0 min",
        "Trials, summed": "1 h 30 min",
        "Per worker, of 2": "45 min 0 s",
    }
    unknown = time_facts(StudyReading(name="s", trials=trials), {})
    assert unknown["Beside each other"] == "1.5 trials on average"
    assert time_facts(StudyReading(name="s"), {}) == {}


def test_training_with_other_seeds_has_its_own_time(tmp_path):
    folder = tmp_path / "s" / "confirm" / "a-seed1"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text(
        '{"epoch": 1, "epoch_time_s": 2.5}\n{"epoch": 2, "epoch_time_s": 3}\n'
    )
    again = trial("a", (0, 1), confirmed=ConfirmedResult(own=0.5, again={1: 0.6}, failures={}))
    assert again_s(StudyReading(name="s", runs_dir=str(tmp_path), trials=[again])) == 5.5

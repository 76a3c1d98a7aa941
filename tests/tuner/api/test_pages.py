from dataclasses import replace

from tuner.api.pages import ROWS, study_html, subtitle
from tuner.record.reading import StudyReading


def test_a_study_shows_counts_best_and_a_picture_of_its_front(many):
    text = study_html(many.reading)
    best = many.reading.best
    assert f"Best under 120 MiB: {best.name}, accuracy {best.accuracy_top1:.3f}" in text
    assert "(of 20 requested)" in text and "efficientnet_lite0 on synthetic, 3 epochs" in text
    assert text.count("<tr>") == 1 + min(len(many.reading.front), ROWS)
    assert text.count("data:image/png;base64,") == 1


def test_a_study_without_results_has_no_picture_and_names_nothing_as_best():
    text = study_html(StudyReading(name="new", requested=3))
    assert "no trials (of 3 requested)" in text and "<img" not in text and "Best" not in text


def test_what_a_study_says_is_no_markup(many):
    bad = "<script>alert(1)</script>"
    trials = [replace(trial, name=bad, params={bad: bad}) for trial in many.reading.trials]
    text = study_html(replace(many.reading, trials=trials, attributes={"dataset": bad}))
    assert "<script" not in text and "&lt;script&gt;" in text


def test_what_is_not_known_is_named_so():
    assert subtitle(StudyReading(name="s")) == "unknown network on unknown data"

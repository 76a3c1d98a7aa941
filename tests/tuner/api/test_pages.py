import base64
import io
import re
from dataclasses import replace

import matplotlib
from PIL import Image

from tuner.api.pages import PICTURE_PX, ROWS, own_look, study_html, subtitle, table_html
from tuner.record.reading import StudyReading


def test_a_study_shows_counts_best_and_a_picture_of_its_front(many):
    text = study_html(many.reading)
    best = many.reading.best
    assert f"Best under 120 MiB: {best.name}, accuracy {best.accuracy_top1:.3f}" in text
    assert "(of 20 requested)" in text and "efficientnet_lite0 on synthetic, 3 epochs" in text
    assert text.count("<tr>") == 1 + min(len(many.reading.front), ROWS)
    data = re.search(r"data:image/png;base64,([^\"]+)", text)[1]
    assert Image.open(io.BytesIO(base64.b64decode(data))).width >= PICTURE_PX


def test_a_study_without_results_has_no_picture_and_names_nothing_as_best():
    text = study_html(StudyReading(name="new", requested=3))
    assert "no trials (of 3 requested)" in text and "<img" not in text and "Best" not in text


def test_what_a_study_says_is_no_markup(many):
    bad = "<script>alert(1)</script>"
    trials = [replace(trial, name=bad, params={bad: bad}) for trial in many.reading.trials]
    text = study_html(replace(many.reading, trials=trials, attributes={"dataset": bad}))
    assert "<script" not in text and "&lt;script&gt;" in text
    assert "<b" not in table_html(["<b>"], [["<b>"]]).replace("<body", "")


def test_the_users_matplotlib_stays_as_it_is():
    with matplotlib.rc_context({"text.parse_math": True}):
        with own_look():
            assert matplotlib.rcParams["text.parse_math"] is False
        assert matplotlib.rcParams["text.parse_math"] is True


def test_what_is_not_known_is_named_so():
    assert subtitle(StudyReading(name="s")) == "unknown network on unknown data"

from datetime import datetime

import pytest

from tuner.record.confirmed import ConfirmedResult
from tuner.record.trials import Trial
from tuner.tracking.trials import as_ms, judged, tags_of


@pytest.mark.parametrize(
    ("fields", "tags"),
    [
        ({"on_front": True}, {"state": "complete", "on_front": "true"}),
        ({"state": "pruned", "stopped_at": 1}, {"state": "pruned", "on_front": "false"}),
        (
            {"state": "failed", "failure": "the loss is nan"},
            {"state": "failed", "on_front": "false", "failure": "the loss is nan"},
        ),
        ({"state": "failed", "failure": ""}, {"state": "failed", "on_front": "false"}),
        ({"state": "running"}, {"state": "running", "on_front": "false"}),
    ],
)
def test_the_tags_that_change_in_a_trial_s_life(fields, tags):
    assert tags_of(Trial(name="s-000", params={}, **fields)) == tags


def test_what_was_judged_after_the_search_has_a_step_that_rises_with_the_seeds():
    def trial(test=None, **again):
        confirmed = ConfirmedResult(own=0.5, **again) if again else None
        on_test = {} if test is None else {"accuracy_top1": test}
        return Trial(name="s-000", params={}, on_test=on_test, confirmed=confirmed)

    assert judged(trial()) == {}
    assert judged(trial(0.25)) == {"test_accuracy_top1": (0.25, 0)}
    assert judged(trial(again={}, failures={1: "the loss is nan"})) == {}, "nothing to take a mean of"
    found = judged(trial(again={1: 0.75}))
    assert found["confirmed_accuracy_top1"] == (0.625, 2)
    assert found["confirmed_deviation"] == (pytest.approx(0.1768, abs=1e-4), 2)


def test_moments_are_milliseconds():
    assert as_ms(None) is None
    assert as_ms(datetime.fromtimestamp(1_700_000_000.25)) == 1_700_000_000_250

import pytest

from tuner.figures import front_figure
from tuner.results import TrialResult


def result(name, accuracy, mib):
    return TrialResult(
        trial=name, accuracy_top1=accuracy, peak_memory_mib=mib, epoch_time_s=1.0, params={"lr": 0.1}
    )


@pytest.fixture
def results():
    return [result("a-000", 0.5, 10.0), result("a-001", 0.4, 20.0), result("a-002", 0.7, 40.0)]


def test_the_front_is_a_line_of_its_own_with_every_trial_s_figures_over_its_dot(results):
    others, front = front_figure(results, "colors", None).data
    assert list(others.x) == [20.0] and list(front.x) == [10.0, 40.0] and list(front.y) == [0.5, 0.7]
    assert front.customdata[1].startswith("<b>a-002</b><br>accuracy 0.700 · 40.0 MiB · epoch 1.0 s<br>lr 0.1")


def test_a_budget_is_a_line_and_wide_memory_has_a_log_axis(results):
    figure = front_figure(results, "colors", 35.0)
    assert figure.layout.shapes[0].x0 == 35.0 and "35 MiB" in figure.layout.annotations[0].text
    assert figure.layout.xaxis.type == "log"
    assert front_figure(results[:2], "colors", None).layout.xaxis.type is None
